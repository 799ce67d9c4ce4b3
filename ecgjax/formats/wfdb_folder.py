"""What can be learnt from a folder of WFDB records without reading signals."""

import os
from collections.abc import Iterable, Iterator


def find_records(root: str, folder: str = '') -> list[str]:
  """Lists the WFDB records below a folder, sorted.

  A signal file that no header describes counts as a record too: it will be
  rejected for its missing header instead of vanishing.

  Args:
    root: the raw folder.
    folder: where to search, relative to it.

  Returns:
    Paths without suffix, relative to `root`, separated by '/'.
  """
  found, orphans = [], []
  for path, folders, files in os.walk(os.path.join(root, folder)):
    folders.sort()
    stems = {name[:-4] for name in files if name.endswith('.hea')}
    signals = {name for name in files if name.endswith(('.dat', '.mat'))}
    where = os.path.relpath(path, root)
    found += [os.path.join(where, stem) for stem in stems]
    alone = {name for name in signals if name[:-4] not in stems}
    for stem in stems if alone else ():  # a header may name other files
      with open(os.path.join(path, stem + '.hea'), errors='replace') as file:
        alone -= {line.split(maxsplit=1)[0] for line in file if line.strip()}
    orphans += [os.path.join(where, name[:-4]) for name in alone]
  paths = sorted({os.path.normpath(path) for path in found + orphans})
  return [path.replace(os.sep, '/') for path in paths]


def header_fields(comments: Iterable[str]) -> dict[str, str]:
  """Reads 'Age: 51' or '<age>: 51' as {'age': '51'}; the first one counts."""
  fields = {}
  for name, value in _fields(comments):
    fields.setdefault(name, value)
  return fields


def every(comments: Iterable[str], name: str) -> list[str]:
  """All values of a field of the comments, in their order."""
  return [value for key, value in _fields(comments) if key == name]


def _fields(comments: Iterable[str]) -> Iterator[tuple[str, str]]:
  for comment in comments:
    name, colon, value = comment.partition(':')
    if colon:
      yield name.strip(' <>#\t').lower(), value.strip()
