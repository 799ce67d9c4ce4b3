"""Who gets what in a run: which records, labels, figures and checkpoints."""

import types

import jax
import numpy as np
import optax
import pytest
from sklearn.metrics import log_loss

from configs import lcd as lcd_config
from configs import longitudinal as longitudinal_config
from configs import prior as prior_config
from configs import supervised as supervised_config
from configs import vqvae as vqvae_config
from ecgjax import checkpoints, evaluators, train
from ecgjax import config as config_lib
from ecgjax import model as model_lib
from ecgjax.data.batches import run_data, split
from ecgjax.ecg import leads
from ecgjax.methods import supervised
from ecgjax.metrics import metrics
from ecgjax.model import make_method
from ecgjax.studies import study as studies_base
from ecgjax.training import metric_writers, train_state
from tests import tiny_runs
from tests.generation import beating

TINY = {
  'name': 'vit1d', 'kwargs': {'width': 8, 'depth': 1, 'heads': 2, 'patch': 50}
}  # fmt: skip
SUBSET = 16


@pytest.fixture(scope='module')
def builder(tmp_path_factory):
  return beating.write(tmp_path_factory.mktemp('beating'), range(32))


def classifier(**fields):
  config = supervised_config.get_config().copy_and_resolve_references()
  config.model = TINY
  config.data.update({'length': beating.LENGTH, 'leads': ('II', 'V1')})
  config.update({'batch_size': 8, 'num_epochs': 1, 'eval_every': 1} | fields)
  return config.lock()


def run_subset(builder, workdir, **fields):
  config = classifier(**fields)
  everything = beating.open_data(builder, data_config=config)
  records = everything.labelled['train'].record_ids[:SUBSET]
  data = beating.open_data(builder, records, config)
  return config, data, train.train_on(config, workdir, data)


@pytest.mark.parametrize(
  'metric', ['validation_loss', 'validation_macro_auroc', 'train_loss']
)
def test_a_label_subset_stays_one(builder, tmp_path, metric):
  """Whatever decides which checkpoint is the best."""
  config, data, trained = run_subset(builder, tmp_path, best_metric=metric)
  assert int(trained.state.step) == SUBSET // config.batch_size
  model = model_lib.load(tmp_path)
  assert model.class_names == data.labelled['train'].class_names
  rows = metric_writers.read_metrics(tmp_path / 'metrics.jsonl')
  values = [row[metric] for row in rows]
  pick = np.argmax if metric.endswith('auroc') else np.argmin
  assert model.step == rows[pick(values)]['step']
  assert {'validation_loss', 'validation_macro_auroc'} <= set(rows[-1])


def test_validation_of_a_classifier(builder, tmp_path):
  """Loss and AUROC of all validation records, without mixup or crops."""
  config, data, trained = run_subset(
    builder,
    tmp_path,
    data={'leads': leads.LEADS},
    supervised={'mixup': 0.4, 'augment': 'classical'},
  )
  split = data.labelled['validation']
  found = model_lib.over_split(trained.model, split)
  label, mask = (split.columns[k] for k in ('label', 'label_mask'))
  assert mask.all()
  figures = trained.checkpointer.metadata(2)['metrics']
  assert figures['validation_loss'] == pytest.approx(
    log_loss(label.ravel(), found.probabilities.ravel()), rel=1e-5
  )
  assert figures['validation_macro_auroc'] == pytest.approx(
    metrics.macro(metrics.auroc(label, found.probabilities, mask))
  )


EVALUATOR = """
from ecgjax.report.finding import Finding

OPTIONS = {'scale': 2.0}


def evaluate(run):
  assert run.data.labelled['test'].name == 'validation'
  value = run.options['scale'] * run.model.step
  return Finding(metrics={'twice': {'value': value, 'ci95': None}})
"""


def test_evaluators_watch_a_run_on_validation(builder, tmp_path, monkeypatch):
  """A file that the config names; the test split is never looked at."""
  (tmp_path / 'dummy.py').write_text(EVALUATOR)
  monkeypatch.setattr(
    evaluators, '__path__', [*evaluators.__path__, str(tmp_path)]
  )
  run_subset(
    builder, tmp_path / 'run', evaluators=('dummy',), evaluators_every=2,
    num_steps=3,
  )  # fmt: skip
  rows = metric_writers.read_metrics(tmp_path / 'run' / 'metrics.jsonl')
  watched = [row for row in rows if 'validation_twice' in row]
  assert [(row['step'], row['validation_twice']) for row in watched] == [(2, 4)]
  auroc = watched[0]['validation_scratch_auroc']
  assert auroc == pytest.approx(watched[0]['validation_macro_auroc'])


@pytest.mark.parametrize(
  ('get_config', 'metric'),
  [
    (lcd_config.get_config, 'validation_macro_auroc'),
    (vqvae_config.get_config, 'validation_macro_auroc'),
    (supervised_config.get_config, 'validation_macro_f1'),
  ],
)
def test_the_best_metric_is_one_that_is_computed(
  monkeypatch, tmp_path, get_config, metric
):
  monkeypatch.setattr(run_data, 'open_data', None)  # nothing is opened
  config = get_config().copy_and_resolve_references()
  config.best_metric = metric
  with pytest.raises(ValueError, match='config.best_metric is .*validation_lo'):
    train.train_and_evaluate(config.lock(), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('metric', 'best'),
  [('validation_loss', 1e-4), ('validation_macro_auroc', 3e-4)],
)
def test_learning_rates_are_compared_the_right_way_round(
  tmp_path, monkeypatch, metric, best
):
  """A high AUROC is good, a high loss is not; one that is NaN never is."""
  figures = {1e-4: 0.5, 3e-4: 0.9, 1e-3: float('nan')}
  config = config_lib.common('synthetic', 'supervised')
  config_lib.make_study(config, 'label_efficiency')
  config.study.scratch_learning_rates = tuple(figures)
  config.pretrain = {'method': 'lcd'}
  config.best_metric = metric

  def train_on(run, folder, data, description):
    rate = run.optimizer.learning_rate
    return model_of(rate)

  model_of = lambda rate: types.SimpleNamespace(
    rate=rate, figures={metric: figures[rate]}
  )
  monkeypatch.setattr(studies_base.train, 'train_on', train_on)
  monkeypatch.setattr(
    studies_base.evaluate, 'choose_model', lambda run, trained: trained
  )
  monkeypatch.setattr(
    studies_base,
    'over_split',
    lambda trained, *_: types.SimpleNamespace(probabilities=trained.rate),
  )
  labelled = {'train': range(8), 'validation': range(8), 'test': range(8)}
  chosen = studies_base.train_classifier(
    config, types.SimpleNamespace(labelled=labelled), tmp_path, 'scratch',
    seed=0, learning_rates=tuple(figures),
  )  # fmt: skip
  assert chosen == (best, best)
  load = lambda folder: model_of(float(folder.name.split('rate')[1]))
  monkeypatch.setattr(studies_base, 'load', load)
  found = studies_base.best_model(config, tmp_path, 'scratch')
  assert found.rate == best


def save_two(workdir, config, evaluate_checkpoint):
  """A run whose first step is the best and whose second is the last."""
  config = config.copy_and_resolve_references().unlock()
  config.evaluate_checkpoint = evaluate_checkpoint
  config.num_steps = 2
  method = make_method(config)
  contract = model_lib.spec_of(config).contract
  example = {'ecg': np.zeros((1, contract.length, len(contract.leads)), 'f4')}
  state = jax.jit(
    lambda: train_state.create_train_state(method, optax.identity(), 7, example)
  )()
  metadata = {
    'config': config_lib.to_json(config),
    'contract': contract.to_json(),
  }
  saver = checkpoints.Checkpointer(workdir / 'checkpoints')
  for step, loss in ((1, 0.1), (2, 0.9)):
    moved = jax.tree.map(
      lambda x, by=step: x + by,
      {k: getattr(state, k) for k in ('params', 'model_state', 'target')},
    )
    saver.save(
      state.replace(step=np.int32(step), **moved),
      metadata,
      {'validation_loss': loss},
    )


def start_from(config):
  method = model_lib.make_method(config)
  return model_lib.initialise_from(config.init_from, config, method)


def fresh(config, num_labels=0):
  method = make_method(config)
  contract = model_lib.spec_of(config).contract
  shape = (1, contract.length, len(contract.leads))
  example = {'ecg': np.zeros(shape, 'f4')}
  if num_labels:
    example['label'] = np.zeros((1, num_labels), 'f4')
  return jax.jit(
    lambda: train_state.create_train_state(
      method, optax.identity(), config.seed, example
    )
  )()


def patient_contrast(**fields):
  config = longitudinal_config.get_config('preset=smoke')
  config = config.copy_and_resolve_references().unlock()
  config.model = TINY
  config.data.update({'length': 200, 'leads': ('II', 'V1')})
  config.longitudinal.queue = 8
  config.update(fields)
  return config.lock()


@pytest.mark.parametrize(('which', 'step'), [('best', 1), ('last', 2)])
def test_probe_and_finetuning_start_from_one_encoder(tmp_path, which, step):
  """`init_from` takes the step that the run's own evaluation takes."""
  save_two(tmp_path, patient_contrast(), which)
  model = model_lib.load(tmp_path)
  assert model.step == step
  assert model.figures == {'validation_loss': {1: 0.1, 2: 0.9}[step]}
  config = supervised_config.get_config().copy_and_resolve_references()
  config.model = TINY
  config.data.update({'length': 200, 'leads': ('II', 'V1')})
  config.supervised.branches = 'joint'
  config.init_from = str(tmp_path)
  start = start_from(config)(fresh(config, num_labels=3))
  assert checkpoints.digest(start.params['encoder']) == checkpoints.digest(
    model.params['encoder']
  )


def small_codec():
  config = vqvae_config.get_config('preset=smoke').copy_and_resolve_references()
  config.data.length = 64
  config.model.kwargs.update({'width': 8, 'depth': 1, 'dim': 4})
  config.vqvae.size = 16
  return config.lock()


def small_lcd():
  config = lcd_config.get_config().copy_and_resolve_references()
  config.data.update({'length': 64, 'leads': ('II', 'V1')})
  return config.lock()


@pytest.mark.usefixtures('short_vgg')
@pytest.mark.parametrize('make', [small_lcd, patient_contrast, small_codec])
def test_pretraining_goes_on(tmp_path, make):
  """Everything learnt comes along; a queue of foreign patients does not."""
  save_two(tmp_path, make(), 'best')
  config = make().copy_and_resolve_references()
  config.init_from = str(tmp_path)
  config.seed = 3
  new = fresh(config)
  start = start_from(config)(new)
  assert jax.tree.structure(start) == jax.tree.structure(new)
  arrays, _ = checkpoints.load(tmp_path)
  assert int(arrays['step']) == 1 and int(start.step) == 0
  state = dict(start.model_state)
  if make is patient_contrast:
    queue = checkpoints.digest(state.pop('queue'))
    assert queue == checkpoints.digest(new.model_state['queue'])
    arrays['model_state'].pop('queue')
  for found, saved in (
    (start.params, arrays['params']),
    (state, arrays['model_state']),
    (start.target, arrays['target']),
  ):
    assert checkpoints.digest(found) == checkpoints.digest(saved)


def test_pretraining_goes_on_from_its_own_method_only(tmp_path):
  tiny_runs.write_lcd(tmp_path / 'lcd', length=64)
  config = longitudinal_config.get_config().copy_and_resolve_references()
  config.init_from = str(tmp_path / 'lcd')
  config.model = model_lib.load(tmp_path / 'lcd').config.model
  with pytest.raises(ValueError, match='holds a run of lcd; one of longitud'):
    start_from(config)
  save_two(tmp_path / 'long', patient_contrast(), 'last')
  config = patient_contrast(init_from=str(tmp_path / 'long'))
  config = config.copy_and_resolve_references()
  config.longitudinal.queue = 4
  with pytest.raises(ValueError, match='queue/embedding is float32.8, '):
    start_from(config)(fresh(config))
  config.data.length = 100
  with pytest.raises(ValueError, match='length 200, this config has 100'):
    start_from(config)


@pytest.mark.parametrize(
  ('fields', 'arm'),
  [
    ({}, 'scratch'),
    ({'init_from': 'runs/lcd'}, 'finetune'),
    ({'init_from': 'x', 'supervised': {'frozen_encoder': True}}, 'linear'),
    ({'init_from': 'x', 'optimizer': {'freeze': '^encoder/.+'}}, 'linear'),
    ({'init_from': 'x', 'optimizer': {'freeze': 'bias'}}, 'finetune'),
  ],
)
def test_a_classifier_is_called_what_it_is(fields, arm):
  assert supervised.arm(classifier(**fields)) == arm


def test_a_prior_learns_from_labels(tmp_path):
  """On labelled records alone: no label is not the absence of all classes."""
  unlabelled = beating.make_example(31, label_mask=np.zeros(4, np.uint8))
  builder = beating.write(tmp_path / 'data', [*range(31), unlabelled])
  tiny_runs.write_codec(tmp_path / 'codec', '', length=beating.LENGTH)
  config = prior_config.get_config('preset=smoke').copy_and_resolve_references()
  config.data.length = beating.LENGTH
  config.prior.update({'codec': str(tmp_path / 'codec'), 'width': 8})
  config.prior.heads = 2
  config.update({'batch_size': 8, 'num_steps': 1})
  config.optimizer.warmup_steps = 0
  data = beating.open_data(builder, data_config=config)
  assert len(data.splits['train']) == len(data.labelled['train']) + 1 == 32
  train.train_on(config.lock(), tmp_path / 'run', data)
  _, metadata = checkpoints.load(tmp_path / 'run')
  expected = split.fingerprint(data.labelled['train'])['sha256']
  assert metadata['fingerprint'] == expected != data.fingerprint
  assert tuple(metadata['class_names']) == data.labelled['train'].class_names
  model = model_lib.load(tmp_path / 'run')
  assert model.num_labels == 4 and not model.class_names  # no classifier
