"""Names in configs resolve to modules: a new method or encoder is one file."""

import importlib
import pkgutil
from types import ModuleType


def resolve(package: str, name: str, attribute: str = 'make') -> ModuleType:
  """Imports `ecgjax.<package>.<name>`, which must define `attribute`.

  Raises:
    ValueError: if there is no such module; names the choices.
  """
  modules = importlib.import_module(f'ecgjax.{package}')
  names = [m.name for m in pkgutil.iter_modules(modules.__path__)]
  if name in names:
    module = importlib.import_module(f'ecgjax.{package}.{name}')
    if hasattr(module, attribute):
      return module
  choices = [
    n
    for n in names
    if hasattr(importlib.import_module(f'ecgjax.{package}.{n}'), attribute)
  ]
  raise ValueError(
    f'no {name!r} in ecgjax.{package}; choose one of {", ".join(choices)}'
  )


def choose(name: str, value: str, choices):
  """Returns `choices[value]` or says what the choices are."""
  if value not in choices:
    raise ValueError(f'{name} is {value!r}; choose one of {", ".join(choices)}')
  return choices[value]
