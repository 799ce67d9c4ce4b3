"""Every preset is one that can run; values that no run could mean are not."""

import importlib
import itertools
import pathlib
import re
import types

import ml_collections
import numpy as np
import pytest

from ecgjax import config as config_lib
from ecgjax import main
from ecgjax.config import check
from ecgjax.model import make_method
from ecgjax.studies import augmentation_fold, seeds, study
from ecgjax.training import optimizers

CONFIGS = sorted(
  p.stem for p in (pathlib.Path(__file__).parents[2] / 'configs').glob('*.py')
)


def get_config(name, argument=None):
  return importlib.import_module(f'configs.{name}').get_config(argument)


def choices(name, key, given='') -> list[str]:
  """Values of an argument, out of the message that there is no 'nothing'."""
  try:
    get_config(name, f'{given}{key}=nothing')
  except ValueError as error:
    return re.search('choose one of (.*)', str(error))[1].split(', ')
  return []  # free


def arguments(name) -> list[str]:
  """Every combination of dataset, model, modality and preset there is."""
  try:
    get_config(name, 'nothing')
  except ValueError as error:
    keys = str(error).split('a key among ')[1].split(', ')
  if name == 'evaluate':
    return [f'dataset={d}' for d in choices(name, 'dataset')] + [
      f'preset={p}' for p in choices(name, 'preset')
    ]
  if name == 'study_seeds':  # presets are those of the file it runs
    others = ('', ',evaluate_on=ptbxl', ',preset=smoke')
    return [f'of={of}{o}' for of in choices(name, 'of') for o in others]
  modes = choices(name, 'modality') if 'modality' in keys else ['']
  found = []
  for mode in modes:
    given = f'modality={mode},' if mode else ''
    rest = [
      [f'{key}={v}' for v in values]
      for key in keys
      if key != 'modality' and (values := choices(name, key, given))
    ]
    found += [given + ','.join(parts) for parts in itertools.product(*rest)]
  return found


def test_all_combinations_are_found():
  assert len(arguments('supervised')) == 6 * 3 * 4
  assert len(arguments('vqvae')) == 6 * (4 + 3)
  assert 'dataset=ptbxl,preset=full' in arguments('study_augmentation')
  assert 'preset=chapman' in arguments('evaluate')


def runs_of(config):
  """The config itself, or what its study trains, as `ecgjax.studies` does."""
  if config.mode == 'train':
    return [config]
  if config.mode != 'study':
    return []
  if config.study.name == 'seeds':
    return [seeds.run_of(config, 0)]
  classifier = study.run_config(config)
  pretrain = config_lib.to_json(config.pretrain)
  if 'method' in pretrain:
    return [classifier, study.run_config(config, ('supervised',), **pretrain)]
  return [classifier] + [
    augmentation_fold.run_config(
      config, pretrain[name], without=('supervised',)
    )
    for name in ('codec', 'prior')
  ]


@pytest.mark.parametrize('name', CONFIGS)
def test_every_preset_of_every_config(name):
  """Checked, all its fields known, method and optimizer made."""
  for argument in arguments(name):
    config = get_config(name, argument)
    if config.optimizer.freeze:
      with pytest.raises(ValueError, match='config.init_from is empty'):
        check.check(config, 'train')
      config = config.copy_and_resolve_references()
      config.init_from = 'runs/lcd'
      config.lock()
    check.check(config, config.mode)
    if 'evaluation' in config.get('study', {}):  # a config of its own
      check.check(config.study.evaluation, 'eval')
      config = config.copy_and_resolve_references().unlock()
      del config.study.evaluation
    for run in runs_of(config):
      run = run.copy_and_resolve_references().unlock()
      run.num_steps = run.num_steps or 10_000  # as epochs would
      check.check(run, 'train')
      optimizers.make_optimizer(run.optimizer, run.num_steps)
      if run.method != 'prior':  # which needs a trained codec
        make_method(run)


@pytest.mark.parametrize('name', CONFIGS)
def test_every_number_has_a_range(name):
  known = check.known_fields(config_lib.to_json(get_config(name)))
  assert not [
    field
    for field, option in known.items()
    if isinstance(option, int | float) and not isinstance(option, bool)
  ]


def changed(name, field, value):
  """A config with a value that its own types would not have let in."""
  fields = get_config(name).to_dict()
  group = fields
  *groups, last = field.split('.')
  for part in groups:
    group = group[part]
  group[last] = value
  return ml_collections.ConfigDict(fields)


@pytest.mark.parametrize(
  ('name', 'field', 'value', 'message'),
  [
    ('lcd', 'seed', True, 'config.seed is True; it must be a whole number'),
    ('lcd', 'seed', -1, r'config.seed is -1; it must be in \[0'),
    ('lcd', 'seed', 2**32, 'config.seed is 4294967296; it must be in'),
    ('lcd', 'seed', np.int64(3), 'config.seed is a int64: 3; configs hold'),
    ('lcd', 'num_steps', None, 'config.num_steps is None; it must have a val'),
    ('lcd', 'num_steps', 1.5, 'config.num_steps is 1.5; it must be a whole'),
    ('lcd', 'batch_size', '32', "config.batch_size is '32'; it must be a who"),
    ('lcd', 'batch_size', 0, r'config.batch_size is 0; it must be in \[1'),
    ('lcd', 'optimizer.learning_rate', np.float32(1), 'rate is a float32: 1'),
    ('lcd', 'optimizer.learning_rate', float('nan'), 'rate is nan; it must be'),
    ('lcd', 'optimizer.learning_rate', -1.0, r'rate is -1.0; it must be in'),
    ('lcd', 'optimizer.learning_rate', '1', "rate is '1'; it must be a number"),
    ('lcd', 'optimizer.learning_rate', True, 'rate is True; it must be a num'),
    ('lcd', 'optimizer.freeze', '(', 'config.optimizer.freeze: '),
    ('lcd', 'optimizer', 'adam', "config.optimizer is 'adam'; it must be a gr"),
    ('lcd', 'lcd.tau', 1.5, r'config.lcd.tau is 1.5; it must be in \[0, 1\]'),
    ('lcd', 'lcd.parity', 1, 'config.lcd.parity is 1; it must be True or F'),
    ('lcd', 'model.kwargs', {'width': None}, 'config.model.kwargs is .*None'),
    ('lcd', 'data.leads', ('I', 2), 'config.data.leads is .*must be a string'),
    ('lcd', 'data.rate', 0.0, r'config.data.rate is 0.0; it must be in \(0'),
    ('lcd', 'evaluate_checkpoint', 'newest', 'choose one of last, best'),
    ('lcd', 'probe.recipe', 'mlp', 'config.probe.recipe is .*choose one of'),
    ('lcd', 'best_metric', 'auroc', 'config.best_metric is .*choose one of'),
    ('lcd', 'lcd.gama', 1.0, 'config.lcd.gama: there is no such field'),
    ('lcd', 'lcd.lead_pair', 'all', 'pair is .*one of per_step, per_sample'),
    ('lcd', 'method', 'cpc', "no 'cpc' in ecgjax.methods; choose one of lcd"),
    ('lcd', 'optimizer.name', 'rmsprop', 'one of adam, adamw, lars, sgd'),
    ('lcd', 'optimizer.schedule', 'step', 'one of constant, cosine'),
    ('supervised', 'supervised.task', 'x', 'one of multi_label, single_label'),
    ('supervised', 'supervised.augment', 'x', 'one of none, classical'),
    ('supervised', 'supervised.pool', 'max', 'one of concat, mean, attention'),
    ('vqvae', 'vqvae.quantiser', 'x', 'choose one of vq, fsq'),
    ('augment', 'augment.operator', 'Z', "is 'Z'; choose one of A, B"),
    ('augment', 'augment.law', 'third', "law is 'third'; choose one of near"),
    ('augment', 'augment.match', 'x', 'match is .x.; choose one of stored'),
    ('study_label_efficiency', 'study.validation', 'half', 'budget, full'),
    ('study_seeds', 'study.name', 'grid', "no 'grid' in ecgjax.studies"),
    ('longitudinal', 'keep_remainder', True, 'batches of patients have none'),
    ('lcd', 'best_mode', 'max', 'best validation_loss is its minimum'),
    ('lcd', 'num_epochs', 0, 'num_steps and config.num_epochs are both 0'),
    ('supervised', 'best_mode', 'min', 'validation_macro_auroc is its maximum'),
    ('supervised', 'supervised.class_weights', ('1',), 'it must be a number'),
    ('supervised', 'supervised.frozen_encoder', True, 'init_from is empty'),
    ('supervised', 'optimizer.freeze', '^encoder/', 'init_from is empty'),
    ('supervised', 'optimizer.freeze', 'r/.*(s|l|e)$', 'init_from is empty'),
    ('study_small_samples', 'study.seeds', (0, 0), 'seeds has a value twice'),
    ('study_small_samples', 'study.seeds', (), 'seeds is empty'),
    ('study_small_samples', 'study.seeds', (0.5,), 'must be a whole number'),
    ('study_small_samples', 'pretrain.num_steps', 20,
     'config.pretrain.optimizer.warmup_steps is 20, but the run has only 20'),
    ('study_augmentation', 'pretrain.codec.seed', None, 'config.pretrain.code'),
    ('study_augmentation', 'pretrain.prior.prior.depth', 0,
     r'config.pretrain.prior.prior.depth is 0; it must be in \[1'),
    ('longitudinal', 'longitudinal.gap_edges', (30.0, None), 'must have a val'),
  ],
)  # fmt: skip
def test_mistakes_name_the_field(name, field, value, message):
  config = changed(name, field, value)
  with pytest.raises(ValueError, match=message):
    check.check(config, config.mode)


def test_plain_values_pass():
  for field, value in (
    ('seed', 2**32 - 1), ('optimizer.learning_rate', 0), ('best_mode', 'min'),
    ('data.leads', ('I', 'II')), ('data.leads', ['I', 'II']),
  ):  # fmt: skip
    check.check(changed('lcd', field, value), 'train')


MODES = {
  'augment': 'generate', 'evaluate': 'eval', 'study_augmentation': 'study',
  'study_label_efficiency': 'study', 'study_seeds': 'study',
  'study_small_samples': 'study',
}  # fmt: skip


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('mode', [None, *main.MODES])
def test_a_config_knows_its_mode(name, mode, monkeypatch, capsys):
  """`--mode` may be left out; another one is refused before any work."""
  own, called = MODES.get(name, 'train'), []
  patch = monkeypatch.setattr
  patch(main, 'MODES', {m: ('ecgjax.main', 'run') for m in main.MODES})
  patch(main, 'run', lambda *_: called.append(True), raising=False)
  for part in (
    'runtime.console.set_up_logging',
    'runtime.process.compute_in_calling_thread',
    'runtime.parallel.keep_compiled_programs',
  ):
    patch(f'ecgjax.{part}', lambda: None)
  flags = {'config': get_config(name), 'workdir': 'w', 'mode': mode}
  patch(main, 'FLAGS', types.SimpleNamespace(**flags))
  if mode in (None, own):
    main.main([])
    assert called
    return
  with pytest.raises(SystemExit) as stopped:
    main.main([])
  assert stopped.value.code == main.EXIT_BAD_INPUT and not called
  assert f'this config is one of --mode={own}' in capsys.readouterr().err
