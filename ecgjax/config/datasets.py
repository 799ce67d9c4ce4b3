"""What data sets there are, read from their files without importing them.

A data set is a file of `ecgjax/data` that defines the TFDS builder of its name:
`class Ptbxl` in `ptbxl.py`. Builders import TensorFlow, which takes seconds and
need not be installed, so what configs and commands have to know stands in two
attributes of the class that are literals, both optional:

  DEFAULTS = {'task': 'superclass'}   # of config.data where they differ
  OPTIONS = {'labels_csv': ('', 'table with labels')}   # default and help

Options become fields of `config.data` and flags of `ecgjax.data.prepare`. One
whose name ends in `_csv` or `_dir` says where something lies, not what it is.
"""

import ast
import functools
import importlib
import pathlib
from typing import Any, NamedTuple


class Dataset(NamedTuple):
  """What the file of a data set says about it.

  Attributes:
    defaults: fields of `config.data`: rate (Hz), length (samples), task.
    options: name -> (default, help) of options of its own.
  """

  defaults: dict[str, Any]
  options: dict[str, tuple[Any, str]]


def class_name(module: str) -> str:
  """The builder's class: 'wfdb_folder' -> 'WfdbFolder'."""
  return ''.join(part.capitalize() for part in module.split('_'))


@functools.cache
def datasets() -> dict[str, Dataset]:
  """Name -> what there is to know, of every data set."""
  said = {}
  for folder in importlib.import_module('ecgjax.data').__path__:
    for path in sorted(pathlib.Path(folder).glob('*.py')):
      name = class_name(path.stem)
      for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
          said[path.stem] = _read(node)
  return said


def _read(node: ast.ClassDef) -> Dataset:
  said = {
    target.id: ast.literal_eval(statement.value)
    for statement in node.body
    if isinstance(statement, ast.Assign)
    for target in statement.targets
    if isinstance(target, ast.Name) and target.id in ('DEFAULTS', 'OPTIONS')
  }
  usual = {'rate': 100.0, 'length': 1000, 'task': 'all'}
  return Dataset(usual | said.get('DEFAULTS', {}), said.get('OPTIONS', {}))


def options() -> dict[str, tuple[Any, str]]:
  """Options of all data sets: name -> (what means none, help)."""
  texts = {}
  for name, dataset in datasets().items():
    for option, (default, text) in dataset.options.items():
      kind, said = texts.setdefault(option, (type(default)(), []))
      said.append(f'{name}: {text}')
  return {
    option: (none, '; '.join(said)) for option, (none, said) in texts.items()
  }


def places() -> tuple[str, ...]:
  """Options that say where something lies."""
  return tuple(name for name in options() if name.endswith(('_csv', '_dir')))
