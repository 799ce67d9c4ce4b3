"""The one reader of users' and publishers' CSV tables, plain or gzipped."""

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence

_GZIP, _ZIP = b'\x1f\x8b', b'PK'


def find(folder: str, name: str) -> str:
  """Path of a publisher's table, which may be gzipped; '' if it is absent."""
  path = os.path.join(folder, name)
  return next((p for p in (path, path + '.gz') if os.path.exists(p)), '')


def titles(path: str) -> list[str]:
  """Column titles of a table, see `read`."""
  with _open(path) as file:
    try:
      return _titles(csv.reader(file, strict=True, skipinitialspace=True), path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as e:
      raise ValueError(f'{path}: cannot read the table: {e}') from None


def read(
  path: str, required: Sequence[str] = (), any_case: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
  """Yields ('FILE, line N', title -> cell) of every row that is not empty.

  Titles and cells lose the blanks around them; quoted titles are read.

  Args:
    path: of the table.
    required: titles of columns that there must be.
    any_case: titles that may be written in any case.

  Raises:
    ValueError: naming file and line, if the table cannot be read, a title is
      empty or occurs twice, a required column is absent, or a row has more
      cells than there are titles, or none for a required column. Other absent
      cells are ''.
  """
  with _open(path) as file:
    reader = csv.reader(file, strict=True, skipinitialspace=True)
    try:
      names = _titles(reader, path)
      known = {name.lower(): name for name in any_case}
      names = [known.get(name.lower(), name) for name in names]
      absent = [name for name in required if name not in names]
      if absent:
        found = ', '.join(names)
        raise ValueError(f'{path}: no column {", ".join(absent)} among {found}')
      if len(set(names)) < len(names) or '' in names:
        raise ValueError(f'{path}: a column title is empty or occurs twice')
      needed = 1 + max((names.index(name) for name in required), default=-1)
      for row in reader:
        if not any(cell.strip() for cell in row):
          continue
        where = f'{path}, line {reader.line_num}'
        if len(row) > len(names):
          raise ValueError(f'{where}: more fields than column titles')
        if len(row) < needed:
          raise ValueError(f'{where}: {len(row)} of {len(names)} columns')
        row += [''] * (len(names) - len(row))
        yield where, dict(zip(names, map(str.strip, row)))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as e:
      raise ValueError(f'{path}: cannot read the table: {e}') from None


def _titles(reader, path) -> list[str]:
  names = [name.strip() for name in next(reader, [])]
  if len(names) == 1 and re.search(r'[;\t]', names[0]):
    raise ValueError(
      f'{path}: columns are to be separated by commas, the first line is '
      f'{names[0]!r}'
    )
  return names


def _open(path: str) -> io.TextIOBase:
  try:
    with open(path, 'rb') as file:
      head = file.read(2)
    if head == _ZIP:
      raise ValueError(
        f'{path}: is a zip archive or a workbook; save the table as CSV'
      )
    opener = gzip.open if head == _GZIP else open
    return opener(path, 'rt', newline='', encoding='utf-8-sig')
  except OSError as error:
    raise ValueError(f'{path}: cannot read the table: {error}') from None
