"""Options as data: what one is by default, and what else it may be.

They stand beside the code that reads them, as `OPTIONS = {name: value}` next to
`make`: a plain value (any other of its kind will do), a `Choice`, a `Number` or
a `Grid`. Nobody lists who has options: a group of a config is named like the
module (`defaults`, `known`), so that a new method brings its own.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ecgjax.runtime.resolve import resolve

SEED = 'int [0, 4294967295]'  # JAX keeps 32 bits of it


class Choice:
  """One of some words; the first is the default."""

  def __init__(self, *choices: str):
    self.choices = choices
    self.default = choices[0]


class Number(NamedTuple):
  """A number, or a tuple of numbers.

  Attributes:
    default: value that it has if nobody says otherwise.
    rule: what it may be, also each of a tuple: 'int' or 'float' and the
      interval from the least to the greatest value.
  """

  default: float | tuple[float, ...]
  rule: str


class Grid(NamedTuple):
  """Values that a study tries one by one, none of them twice.

  Attributes:
    default: as in `Number`.
    rule: of numbers, as there; '' of words.
    empty: whether there may be none.
  """

  default: tuple
  rule: str = ''
  empty: bool = False


# Groups of a config that are not named like a method: room and module.
MODULES = {
  'optimizer': ('training', 'optimizers'),
  'augment': ('generation', 'generate'),
}


def values(options: Mapping) -> dict:
  """Defaults of options, which may be grouped."""
  return {name: _default(option) for name, option in options.items()}


def _default(option):
  if isinstance(option, Mapping):
    return values(option)
  return getattr(option, 'default', option)


def of_group(name: str, fields: Mapping) -> Mapping | None:
  """The options that the group `name` of a config may have.

  Args:
    name: of a group beside the common ones.
    fields: the config, which says the method and the study.

  Returns:
    None if there is no such group.

  Raises:
    ValueError: if there is no such method or study.
  """
  if name in MODULES:
    return resolve(*MODULES[name], 'OPTIONS').OPTIONS
  if name == 'study':
    study = resolve('studies', fields['study'].get('name', ''), 'OPTIONS')
    return {'name': '', **study.OPTIONS}
  if not fields.get('method'):
    return None
  method = resolve('methods', fields['method'])
  groups = {fields['method']: method.OPTIONS, **getattr(method, 'GROUPS', {})}
  return groups.get(name)
