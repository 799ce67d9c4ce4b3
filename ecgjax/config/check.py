"""The one check of a config's values, before anything is opened or built."""

import itertools
import math
import os
import re

from ecgjax.checkpoints import best_mode
from ecgjax.config import EVALUATION, FIELDS, to_json
from ecgjax.config.option import Choice, Grid, Number, of_group, values
from ecgjax.runtime.resolve import choose, resolve

# What a config of --mode=eval leaves to the model.
_FROM_THE_MODEL = {
  'data.rate': Number(0.0, 'float [0, inf)'),
  'data.length': Number(0, 'int [0, inf)'),
}


def expand_home(group) -> None:
  """Writes the home folder for '~' in every field that is a path with it."""
  for name, value in group.items():
    if hasattr(value, 'items'):
      expand_home(value)
    elif isinstance(value, str):
      group[name] = _expanded(value)
    elif isinstance(value, tuple) and any(isinstance(v, str) for v in value):
      group[name] = tuple(map(_expanded, value))


def _expanded(value):
  path = isinstance(value, str) and (value == '~' or value.startswith('~/'))
  return os.path.expanduser(value) if path else value


def check(config, mode: str) -> None:
  """Refuses values that no run could mean, and a config of another mode.

  Args:
    config: whole, of any config file.
    mode: what is to be done with it, see `main.MODES`.

  Raises:
    ValueError: one line that names the field.
  """
  fields = to_json(config)
  if fields['mode'] != mode:
    raise ValueError(
      f'this config is one of --mode={fields["mode"]}, not of --mode={mode}'
    )
  for prefix, part, aim in _parts(fields, mode):
    try:
      known = known_fields(part)
      for name, value in leaves(part):
        _check_value(name, value, known, aim)
      _check_run(part, aim)
    except ValueError as error:  # names fields of the part
      if not prefix:
        raise
      message = re.sub(r'\bconfig\.', f'config.{prefix}', str(error))
      raise ValueError(message) from None


def _parts(fields: dict, mode: str):
  """(prefix, fields, mode) of a config and of what else its study runs.

  These have the fields of the config where they have none of their own.
  """
  own = {k: v for k, v in fields.items() if k != 'pretrain'}
  rest = {k: v for k, v in own.items() if k != 'study'}
  parts = [('', own, mode)]
  other = fields.get('study', {}).get('evaluation')
  if other is not None:
    own['study'] = {k: v for k, v in own['study'].items() if k != 'evaluation'}
    parts.append(('study.evaluation.', other, 'eval'))
  pretrain = fields.get('pretrain', {})
  if 'method' in pretrain:
    parts.append(('pretrain.', _changed(rest, pretrain), mode))
    return parts
  for name, part in pretrain.items():
    parts.append((f'pretrain.{name}.', _changed(rest, part), mode))
  return parts


def _changed(fields: dict, changes: dict) -> dict:
  """`fields` with changes, groups one by one; its method's go with it."""
  if changes.get('method', fields['method']) != fields['method']:
    fields = {k: v for k, v in fields.items() if k != fields['method']}
  merge = lambda old, new: old | new if isinstance(new, dict) else new
  return fields | {
    k: merge(fields.get(k, {}), v) if k in ('data', 'optimizer') else v
    for k, v in changes.items()
  }


def leaves(fields: dict, prefix: str = ''):
  """(dotted name, value); the arguments of an encoder are its own matter."""
  for name, value in fields.items():
    if isinstance(value, dict) and f'{prefix}{name}' != 'model.kwargs':
      yield from leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def known_fields(fields: dict) -> dict:
  """Dotted name -> option of every field that such a config may have.

  Args:
    fields: a config as JSON; its groups say which options there are.

  Raises:
    ValueError: if there is no such method or study.
  """
  optimizer = of_group('optimizer', fields)
  known = FIELDS | {'optimizer': optimizer}
  for name, value in fields.items():
    if name == 'evaluation':
      known[name] = EVALUATION
    elif isinstance(value, dict) and not known.get(name):
      known[name] = of_group(name, fields) or {}
  if fields['method']:
    options = resolve('methods', fields['method'], 'OPTIONS').OPTIONS
    known[fields['method']] = options
  return dict(leaves(known))


def _check_value(name: str, value, known: dict, mode: str) -> None:
  where = f'config.{name} is {value!r}'
  values = list(_flat(value))
  if any(v is None for v in values):
    raise ValueError(f'{where}; it must have a value')
  if any(isinstance(v, float) and not math.isfinite(v) for v in values):
    raise ValueError(f'{where}; it must be finite')
  if name not in known:
    if any(other.startswith(f'{name}.') for other in known):
      raise ValueError(f'{where}; it must be a group of fields')
    raise ValueError(f'config.{name}: there is no such field')
  option = known[name]
  if mode == 'eval':
    option = _FROM_THE_MODEL.get(name, option)
  _check_kind(where, value, getattr(option, 'default', option))
  if isinstance(option, Number | Grid) and option.rule:
    _check_number(where, values, option.rule)
  if isinstance(option, Choice) and value not in option.choices:
    choose(f'config.{name}', value, dict.fromkeys(filter(None, option.choices)))
  if isinstance(option, Grid):
    if not values and not option.empty:
      raise ValueError(f'config.{name} is empty; give at least one')
    if len(set(values)) < len(values):
      raise ValueError(f'config.{name} has a value twice: {value}')


def _flat(value):
  """All that is no list or dict in a value."""
  if isinstance(value, dict | list):
    inner = value.values() if isinstance(value, dict) else value
    return itertools.chain.from_iterable(map(_flat, inner))
  return [value]


def _check_kind(where: str, value, default) -> None:
  """A value is of the kind of its default, a whole number also a float."""
  words = {
    bool: 'True or False', str: 'a string', int: 'a whole number',
    float: 'a number', tuple: 'a tuple', dict: 'a group of fields',
  }  # fmt: skip
  kinds = {float: (int, float), tuple: (list,)}
  if type(value) not in kinds.get(type(default), (type(default),)):
    raise ValueError(f'{where}; it must be {words[type(default)]}')
  if isinstance(value, list) and default and isinstance(default[0], str):
    for element in value:
      _check_kind(where, element, default[0])


def _check_number(where: str, values, rule: str) -> None:
  kind, interval = rule.split(' ', 1)
  low, high = map(float, interval[1:-1].split(', '))
  for value in values:
    if type(value) is not int and (kind == 'int' or type(value) is not float):
      what = 'a whole number' if kind == 'int' else 'a number'
      raise ValueError(f'{where}; it must be {what} in {interval}')
    above = value > low or (value == low and interval[0] == '[')
    below = value < high or (value == high and interval[-1] == ']')
    if not (above and below):
      raise ValueError(f'{where}; it must be in {interval}')


def _check_run(fields: dict, mode: str) -> None:
  """Fields of one run that must agree."""
  metric = fields['best_metric']
  if fields['best_mode'] not in ('', best_mode(metric)):
    raise ValueError(
      f'config.best_mode is {fields["best_mode"]!r}, but the best {metric} is '
      f'its {best_mode(metric)}imum; leave best_mode out'
    )
  try:
    re.compile(fields['optimizer']['freeze'])
  except re.error as error:
    raise ValueError(f'config.optimizer.freeze: {error}') from None
  steps, warmup = fields['num_steps'], fields['optimizer']['warmup_steps']
  if warmup >= steps > 0:
    raise ValueError(
      f'config.optimizer.warmup_steps is {warmup}, but the run has only '
      f'{steps} steps'
    )
  if fields['keep_remainder'] and fields['steps_per_dispatch'] > 1:
    raise ValueError(
      'config.steps_per_dispatch: with config.keep_remainder batches differ '
      'in size and are dispatched one by one; set it to 1'
    )
  if mode in ('train', 'study') and not steps and not fields['num_epochs']:
    raise ValueError(
      'config.num_steps and config.num_epochs are both 0; set one of them'
    )
  if fields['method']:
    module = resolve('methods', fields['method'], 'OPTIONS')
    defaults = values(module.OPTIONS)
    if hasattr(module, 'check'):
      module.check(defaults | fields.get(fields['method'], {}), fields)
