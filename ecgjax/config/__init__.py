"""What the files in `configs/` share: common fields, options, arguments, JSON.

Fields that every run has are here. Options of a method, a study, the optimizer
or of generating stand beside the code that reads them, see `option`; what a
config may hold is checked in one place, see `check`.
"""

import inspect
import pathlib
from collections.abc import Callable, Mapping

import ml_collections

from ecgjax.config import datasets
from ecgjax.config.option import SEED, Choice, Number, of_group, values
from ecgjax.ecg import leads
from ecgjax.runtime.resolve import choose, resolve

# Fields of `config.data` that say where the data lie, not what they are.
PLACES = ('dir', 'raw_dir', *datasets.places())
# fmt: off
FIELDS = {
  'mode': 'train',  # what the config is for, see ecgjax/main.py
  'method': '',
  'seed': Number(0, SEED),
  'batch_size': Number(256, 'int [1, inf)'),
  'keep_remainder': False,  # True: the last, smaller batch of an epoch too
  'num_epochs': Number(100, 'int [0, inf)'),
  'num_steps': Number(0, 'int [0, inf)'),  # 0: num_epochs
  'parallel': Choice('pmap', 'jit'),
  # More than one where the host is slower than the steps.
  'steps_per_dispatch': Number(1, 'int [1, inf)'),
  'distributed': False,  # True on every host of a pod or cluster
  'bfloat16': False,  # compute type of the encoder; the rest is float32
  'init_from': '',  # work folder or checkpoint of a pretraining run
  'data': {
    'name': '',
    'dir': '',  # '': the default folder of tensorflow-datasets
    'raw_dir': '',  # '': download, where the corpus can be
    'rate': Number(100.0, 'float (0, inf)'),  # Hz
    'length': Number(1000, 'int [1, inf)'),  # samples
    'leads': leads.LCD_LEADS,
    'normalisation': 'record_centred',  # see ecgjax/ecg/contract.py
    'task': 'all',
    # Of single data sets, see their files in ecgjax/data.
    **{name: none for name, (none, _) in datasets.options().items()},
    'single_label': False,  # drop records with several labels
    'allow_leak': False,  # True marks the result
    'resident': True,  # one device: training split in its memory
    # Larger splits are shuffled in such windows.
    'window_gib': Number(1.0, 'float (0, inf)'),
    'extra': (),  # work folders of --mode=generate; supervised only
    # Rare classes are repeated up to this share.
    'oversample': Number(0.0, 'float [0, 1)'),
  },
  'model': {'name': 'vgg1d', 'kwargs': {'width': 0.125}},
  'optimizer': {},  # see ecgjax/training/optimizers.py
  'log_every': Number(10, 'int [1, inf)'),  # steps
  # Steps between checkpoints; 0: see `evaluations`.
  'eval_every': Number(0, 'int [0, inf)'),
  # A run; as many as epochs: one after each.
  'evaluations': Number(10, 'int [1, inf)'),
  'best_metric': Choice(
    'validation_loss', 'train_loss', 'validation_macro_auroc'
  ),
  'best_mode': Choice('', 'min', 'max'),  # what `best_mode` says of the metric
  # Evaluations without a better best_metric; 0: off.
  'patience': Number(0, 'int [0, inf)'),
  'evaluate_checkpoint': Choice('last', 'best'),
  'probe': {'recipe': Choice('standardised_lr', 'reference')},  # or LCD's own
  'evaluators': (),  # further files of ecgjax/evaluators
  # Steps between their looks at validation; 0: at the end only.
  'evaluators_every': Number(0, 'int [0, inf)'),
  'bootstrap_draws': Number(2000, 'int [1, inf)'),
}
# fmt: on
# Options of `config.evaluation`, see `ecgjax.evaluate`.
EVALUATION = {
  'reduced_leads': False,  # every lead, every pair: 37 conditions of 8 leads
  'readers_csv': '',  # doctors' labels, see evaluators/human_readers.py
  'chains': '',  # 'source' or FILE:COLUMN, see evaluators/chains.py
  'attribution': False,  # where the classifier looks
  'ludb_dir': '',  # LUDB's folder, to measure it on delineated waves
  'compare_with': '',  # a run of the same task, e.g. from scratch
}


def parse_argument(argument: str | None, **defaults: str) -> dict[str, str]:
  """Parses what follows the colon of `--config=file.py:key=value,...`.

  Args:
    argument: 'key=value' pairs separated by commas, or None.
    **defaults: the keys there are, and their default values.

  Returns:
    A value for every key.

  Raises:
    ValueError: if a part is not 'key=value' or the key is unknown.
  """
  given = dict(defaults)
  for part in filter(None, (argument or '').split(',')):
    key, equals, value = part.partition('=')
    if not equals or key not in defaults:
      raise ValueError(
        f'config argument {part!r}: expected key=value with a key among '
        + ', '.join(defaults)
      )
    given[key] = value
  return given


def common(dataset: str, method: str = '') -> ml_collections.ConfigDict:
  """The config of a run, all defaults.

  Args:
    dataset: name of a data set.
    method: name of a module of `ecgjax.methods`, whose options become a group
      of that name; '' for none. Where the module has `RUN`, its runs have
      these values of common fields.
  """
  chosen = choose('dataset', dataset, datasets.datasets())
  config = ml_collections.ConfigDict(values(FIELDS))
  config.data.update(name=dataset, **chosen.defaults)
  for option, (default, _) in chosen.options.items():
    config.data[option] = default
  config.optimizer = options('optimizer')
  if method:
    module = resolve('methods', method)
    config.method = method
    config[method] = options(method)
    config.update(getattr(module, 'RUN', {}))
  return config


def options(name: str, of: str = '') -> dict:
  """Defaults of a group of a config.

  Args:
    name: of a method, or of another group, see `option.MODULES`.
    of: method that has this further group.
  """
  if name == 'evaluation':
    return values(EVALUATION)
  group = of_group(name, {'method': of or name})
  return values(group)


def make_study(config, name: str) -> None:
  """Makes a config that of a study, a module of `ecgjax.studies`."""
  config.mode = 'study'
  group = of_group('study', {'study': {'name': name}})
  config.study = values(group) | {'name': name}


def arguments(name: str) -> dict:
  """Arguments of `make` of a module of `ecgjax.models`, as by default."""
  parameters = inspect.signature(resolve('models', name).make).parameters
  given = {k: p.default for k, p in parameters.items() if k != 'dtype'}
  return {k: v for k, v in given.items() if v is not inspect.Parameter.empty}


def preset(
  config, name: str, presets: Mapping[str, Callable]
) -> ml_collections.ConfigDict:
  """A config as one of its presets has it; 'default' changes nothing.

  Args:
    config: changed in place.
    name: of a preset.
    presets: name -> function that changes a config.

  Returns:
    The config, locked.
  """
  presets = {'default': lambda config: None} | dict(presets)
  choose('preset', name, presets)(config)
  return config.lock()


def smoke(config, **fields) -> None:
  """Makes a config one of a few steps on the smallest data."""
  if config.data.name == 'synthetic':
    config.data.size = 'tiny'
  config.update(fields, log_every=1, bootstrap_draws=1000)


def to_json(config) -> dict:
  """Config as JSON-able dict; tuples become lists.

  Raises:
    ValueError: if a value is none of JSON, a scalar of NumPy for example.
  """
  return _plain(config.to_dict())


def method_options(config) -> dict:
  """Options of `config.method` as plain values, for its `make`.

  Further groups that the method may have (its `GROUPS`) are among them under
  their names, None where the config has none.
  """
  module = resolve('methods', config.method)
  given = values(module.OPTIONS) | config[config.method].to_dict()
  for name in getattr(module, 'GROUPS', {}):
    given[name] = config[name].to_dict() if name in config else None
  return given


def identity(config) -> dict:
  """`to_json` without the places where the data lie."""
  fields = to_json(config)
  extra = [pathlib.PurePath(path).name for path in fields['data']['extra']]
  fields['data']['extra'] = extra
  for name in PLACES:
    fields['data'].pop(name)
  return fields


def _plain(value, name: str = 'config'):
  if isinstance(value, dict):
    return {k: _plain(v, f'{name}.{k}') for k, v in value.items()}
  if isinstance(value, tuple | list):
    return [_plain(v, name) for v in value]
  if value is not None and type(value) not in (bool, int, float, str):
    raise ValueError(
      f'{name} is a {type(value).__name__}: {value}; configs hold plain '
      'numbers, strings and tuples'
    )
  return value


def from_json(fields: dict) -> ml_collections.ConfigDict:
  """Inverse of `to_json`, also of configs of older versions. Locked.

  Lists become tuples; see `complete` for the rest.
  """

  def tuples(value):
    if isinstance(value, dict):
      return {k: tuples(v) for k, v in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value

  return ml_collections.ConfigDict(tuples(complete(fields))).lock()


def complete(fields: dict) -> dict:
  """A config as JSON, of any version, with the fields of this one.

  What an older version did not have gets its default; what this one has no
  more (`DROPPED` of the method) goes.

  Raises:
    ValueError: if what is no more was not as by default.
  """
  optimizer = of_group('optimizer', fields)
  known = values(FIELDS | {'optimizer': optimizer})
  fields = _of_method(_with_defaults(fields, _plain(known)))
  pretrain = fields.get('pretrain', {})
  if 'method' in pretrain:
    fields['pretrain'] = _of_method(pretrain)
  elif pretrain:
    fields['pretrain'] = {k: _of_method(v) for k, v in pretrain.items()}
  return fields


def _of_method(fields: dict) -> dict:
  """`complete` of the options of the method of a run."""
  name = fields.get('method')
  if name not in fields:
    return fields
  module = resolve('methods', name)
  given = dict(fields[name])
  for option, default in getattr(module, 'DROPPED', {}).items():
    if given.pop(option, default) != default:
      raise ValueError(
        f'config.{name}.{option} is {fields[name][option]!r}, which this '
        'version of ecgjax no longer has; take the one that made it'
      )
  defaults = _plain(values(module.OPTIONS))
  return fields | {name: _with_defaults(given, defaults)}


def _with_defaults(fields: dict, defaults: dict) -> dict:
  """`fields`, and those of `defaults` that they lack; dicts are merged."""
  inner = {
    name: _with_defaults(fields[name], default)
    for name, default in defaults.items()
    if isinstance(default, dict)
    and isinstance(fields.get(name), dict)
    and name != 'kwargs'  # of an encoder are its own matter
  }
  missing = {k: v for k, v in defaults.items() if k not in fields}
  return fields | inner | missing
