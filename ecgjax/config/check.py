"""The one check of a config's values, before anything is opened or built."""

import functools
import itertools
import math
import re

from ecgjax import config as config_lib
from ecgjax.checkpoints import best_mode
from ecgjax.runtime.resolve import choose

METRICS = ('train_loss', 'validation_loss', 'validation_macro_auroc')
_SEED = 'int [0, 4294967295]'  # JAX keeps 32 bits of it
# What numbers may be, also each of a tuple: kind, least and greatest value.
_NUMBERS = {
  'seed': _SEED,
  'batch_size': 'int [1, inf)',
  'num_epochs': 'int [0, inf)',
  'num_steps': 'int [0, inf)',
  'steps_per_dispatch': 'int [1, inf)',
  'log_every': 'int [1, inf)',
  'eval_every': 'int [0, inf)',
  'evaluations': 'int [1, inf)',
  'patience': 'int [0, inf)',
  'bootstrap_draws': 'int [1, inf)',
  'data.rate': 'float (0, inf)',
  'data.length': 'int [1, inf)',
  'data.window_gib': 'float (0, inf)',
  'data.oversample': 'float [0, 1)',
  'optimizer.learning_rate': 'float [0, inf)',
  'optimizer.warmup_steps': 'int [0, inf)',
  'optimizer.weight_decay': 'float [0, inf)',
  'lcd.gamma': 'float [0, inf)',
  'lcd.off_diagonal_weight': 'float [0, inf)',
  'lcd.tau': 'float [0, 1]',
  'longitudinal.ecgs_per_patient': 'int [1, inf)',
  'longitudinal.singleton_weight': 'float [0, inf)',
  'longitudinal.min_gap': 'float [0, inf)',
  'longitudinal.max_gap': 'float [0, inf)',
  'longitudinal.gap_edges': 'float [0, inf)',
  'longitudinal.gap_quota': 'float [0, 1]',
  'longitudinal.temperature': 'float (0, inf)',
  'longitudinal.gap_days': 'float (0, inf)',
  'longitudinal.gap_stratum_weights': 'float [0, inf)',
  'longitudinal.gap_floor': 'float [0, 1]',
  'longitudinal.label_change_weight': 'float [0, inf)',
  'longitudinal.queue': 'int [0, inf)',
  'longitudinal.queue_tau': 'float [0, 1]',
  'longitudinal.head_width': 'int [1, inf)',
  'longitudinal.min_crop': 'float (0, 1]',
  'longitudinal.time_out': 'float [0, 1]',
  'longitudinal.noise_snr_db': 'float (-inf, inf)',
  'longitudinal.lead_dropout': 'float [0, 1]',
  'vqvae.size': 'int [1, inf)',
  'vqvae.stages': 'int [1, inf)',
  'vqvae.stage_dropout': 'float [0, 1]',
  'vqvae.levels': 'int [2, inf)',
  'vqvae.beta': 'float [0, inf)',
  'vqvae.l1': 'float [0, inf)',
  'vqvae.decay': 'float [0, 1]',
  'vqvae.epsilon': 'float [0, inf)',
  'vqvae.pool': 'int [1, inf)',
  'vqvae.restart_every': 'int [0, inf)',
  'vqvae.restart_until': 'float [0, 1]',
  'vqvae.restart_threshold': 'float [0, inf)',
  'vqvae.restart_count': 'float [0, inf)',
  'image.resolution': 'int [1, inf)',
  'prior.width': 'int [1, inf)',
  'prior.depth': 'int [1, inf)',
  'prior.heads': 'int [1, inf)',
  'prior.class_dropout': 'float [0, 1]',
  'augment.ratio': 'float [0, inf)',
  'augment.target': 'int [0, inf)',
  'augment.neighbours': 'int [1, inf)',
  'augment.least_changed': 'float [0, 1]',
  'augment.keep': 'float [0, 1]',
  'augment.temperature': 'float (0, inf)',
  'augment.top_k': 'int [0, inf)',
  'augment.guidance': 'float [0, inf)',
  'augment.gallery': 'int [0, inf)',
  'supervised.class_weights': 'float [0, inf)',
  'supervised.label_smoothing': 'float [0, 1)',
  'supervised.mixup': 'float [0, inf)',
  'study.seeds': _SEED,
  'study.fractions': 'float (0, 1]',
  'study.num_records': 'int [0, inf)',
  'study.scratch_learning_rates': 'float [0, inf)',
  'study.finetune_learning_rates': 'float [0, inf)',
  'study.num_classes': 'int [1, inf)',
  'study.margin': 'float (0, 1)',
  'study.positives': 'int [0, inf)',
  'study.oversample': 'float (0, 1)',
  'study.mixup': 'float [0, inf)',
}
_FROM_THE_MODEL = {'data.rate': 'float [0, inf)', 'data.length': 'int [0, inf)'}
_CHOICES = {
  'best_metric': METRICS,
  'best_mode': ('', 'min', 'max'),
  'evaluate_checkpoint': ('last', 'best'),
  'parallel': ('pmap', 'jit'),
  'study.validation': ('budget', 'full'),
  'probe.recipe': ('standardised_lr', 'reference'),
}
# Twice the same would be one cell of a grid and count as two.
_DISTINCT = ('seeds', 'fractions', 'num_records', 'scratch_learning_rates',
             'finetune_learning_rates', 'arms')  # fmt: skip
_NEEDED = ('seeds', 'scratch_learning_rates', 'finetune_learning_rates', 'arms')


def check(config, mode: str) -> None:
  """Refuses values that no run could mean, and a config of another mode.

  Args:
    config: whole, of any config file.
    mode: what is to be done with it, see `main.MODES`.

  Raises:
    ValueError: one line that names the field.
  """
  fields = config_lib.to_json(config)
  if fields['mode'] != mode:
    raise ValueError(
      f'this config is one of --mode={fields["mode"]}, not of --mode={mode}'
    )
  for prefix, part in _parts(fields):
    for name, value in _leaves(part):
      _check_value(prefix, name, value, mode)
    _check_run(prefix, fields | part, mode)
  if 'supervised' in fields and not fields['init_from']:
    if encoder_is_frozen(config):
      raise ValueError(
        'config.init_from is empty, and the encoder is frozen '
        '(supervised.frozen_encoder or optimizer.freeze): a random encoder '
        'that never learns is no classifier; name the run of a trained one'
      )
  study = fields.get('study', {})
  for name in _DISTINCT:
    values = study.get(name, [])
    if name in _NEEDED and name in study and not values:
      raise ValueError(f'config.study.{name} is empty; give at least one')
    if len(set(values)) < len(values):
      raise ValueError(f'config.study.{name} has a value twice: {values}')


def encoder_is_frozen(config) -> bool:
  """Whether the encoder of a supervised config stays as it starts."""
  pattern = config.optimizer.freeze
  names = [f'encoder/x/{name}' for name in ('kernel', 'bias', 'scale')]
  return config.supervised.frozen_encoder or (
    pattern != '' and all(re.search(pattern, name) for name in names)
  )


def _parts(fields: dict):
  """('', the config itself) and what its study's other runs change in it."""
  own = {k: v for k, v in fields.items() if k != 'pretrain'}
  pretrain = fields.get('pretrain', {})
  if 'method' in pretrain or not pretrain:
    others = {'pretrain': pretrain}
  else:
    others = {f'pretrain.{name}': part for name, part in pretrain.items()}
  return [('', own), *((f'{name}.', part) for name, part in others.items())]


def _leaves(fields: dict, prefix: str = ''):
  """(dotted name, value); the arguments of an encoder are its own matter."""
  for name, value in fields.items():
    if isinstance(value, dict) and f'{prefix}{name}' != 'model.kwargs':
      yield from _leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


@functools.cache
def _defaults() -> dict:
  """Dotted name -> default of every field that `ecgjax.config` knows."""
  config = config_lib.common('synthetic')
  config_lib.supervise(config)
  for name in ('lcd', 'longitudinal', 'vqvae', 'prior', 'augment', 'evaluation',
               'image'):  # fmt: skip
    config[name] = getattr(config_lib, f'{name}_options')()
  known = {}
  for study in (config_lib.label_study, config_lib.augmentation_study):
    copy = config.copy_and_resolve_references()
    study(copy)
    known |= dict(_leaves(config_lib.to_json(copy)))
  return known


def _check_value(prefix: str, name: str, value, mode: str) -> None:
  where = f'config.{prefix}{name} is {value!r}'
  values = list(_flat(value))
  if any(v is None for v in values):
    raise ValueError(f'{where}; it must have a value')
  if any(isinstance(v, float) and not math.isfinite(v) for v in values):
    raise ValueError(f'{where}; it must be finite')
  rules = _NUMBERS | (_FROM_THE_MODEL if mode == 'eval' else {})
  default = _defaults().get(name)
  if default is not None:
    _check_kind(where, value, default)
  elif any(known.startswith(f'{name}.') for known in _defaults()):
    raise ValueError(f'{where}; it must be a group of fields')
  if name in rules:
    _check_number(where, values, rules[name])
  if name in _CHOICES:
    choices = dict.fromkeys(_CHOICES[name])
    choose(f'config.{prefix}{name}', value, choices)


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
    float: 'a number', list: 'a tuple', dict: 'a group of fields',
  }  # fmt: skip
  kinds = (int, float) if isinstance(default, float) else (type(default),)
  if type(value) not in kinds:
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


def _check_run(prefix: str, fields: dict, mode: str) -> None:
  """Fields of one run that must agree."""
  where, metric = f'config.{prefix}', fields['best_metric']
  if fields['best_mode'] not in ('', best_mode(metric)):
    raise ValueError(
      f'{where}best_mode is {fields["best_mode"]!r}, but the best {metric} is '
      f'its {best_mode(metric)}imum; leave best_mode out'
    )
  try:
    re.compile(fields['optimizer']['freeze'])
  except re.error as error:
    raise ValueError(f'{where}optimizer.freeze: {error}') from None
  steps, warmup = fields['num_steps'], fields['optimizer']['warmup_steps']
  if warmup >= steps > 0:
    raise ValueError(
      f'{where}optimizer.warmup_steps is {warmup}, but the run has only '
      f'{steps} steps'
    )
  if fields['keep_remainder'] and fields['steps_per_dispatch'] > 1:
    raise ValueError(
      f'{where}steps_per_dispatch: with {where}keep_remainder batches differ '
      'in size and are dispatched one by one; set it to 1'
    )
  if mode in ('train', 'study') and not steps and not fields['num_epochs']:
    raise ValueError(
      f'{where}num_steps and {where}num_epochs are both 0; set one of them'
    )
