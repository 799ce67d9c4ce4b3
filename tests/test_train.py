"""The loop on batches that NumPy makes: no data set, no TensorFlow."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from configs import lcd as lcd_config
from ecgjax import checkpoints, evaluate, train
from ecgjax.ecg.contract import InputContract
from ecgjax.model import make_method
from ecgjax.runtime import parallel
from ecgjax.training import metric_writers, optimizers, train_state, train_step

pytestmark = pytest.mark.usefixtures('short_vgg')


def make_config(**fields):
  config = lcd_config.get_config().copy_and_resolve_references()
  config.data.leads = ('II', 'V1')
  config.data.length = 64
  config.batch_size = 8
  config.num_steps = 6
  config.eval_every = 2
  config.log_every = 1
  config.best_metric = 'train_loss'
  config.update(fields)
  return config


def batches(start, bad_step=None):
  step = start
  while True:
    rng = np.random.default_rng(step)
    ecg = rng.normal(size=(8, 64, 2)).astype(np.float32)
    if step == bad_step:
      ecg[3, 5, 1] = np.nan
    yield {'ecg': ecg, 'record': np.arange(8, dtype=np.int32)}
    step += 1


def metrics(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  trained = train.train(make_config(), workdir, batches)
  return workdir, trained


def test_files_and_metrics(undisturbed):
  workdir, trained = undisturbed
  assert int(trained.state.step) == 6
  rows = metrics(workdir)
  assert [r['step'] for r in rows] == [1, 2, 3, 4, 5, 6]
  losses = [r['loss'] for r in rows]
  assert rows[3]['train_loss'] == pytest.approx(np.mean(losses[2:4]))
  assert {'embedding_std', 'effective_rank', 'loss_cov'} <= set(rows[0])
  assert trained.checkpointer.latest_step() == 6
  assert trained.checkpointer.metadata(6)['contract']['leads'] == ['II', 'V1']


def test_target_moves_by_the_gap():
  config = make_config()
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, 6)
  batch = next(batches(0))
  create = train_state.create_train_state
  state = jax.jit(lambda: create(method, optimizer, 0, batch))()
  step = train_step.make_train_step(
    method, optimizer, InputContract.from_config(config)
  )
  after, _ = jax.jit(step)(state, batch)
  old = state.target['params']['projector']['Linear_1']['kernel']
  online = after.params['projector']['Linear_1']['kernel']
  new = after.target['params']['projector']['Linear_1']['kernel']
  np.testing.assert_allclose(new, old + 0.004 * (online - old), atol=1e-7)
  assert np.abs(online - old).max() > 1e-4


class Killed(Exception):
  pass


@pytest.mark.parametrize('kill_at', [3])
def test_resumed_run_gives_the_same_bytes(undisturbed, tmp_path, kill_at):
  def until_killed(start):
    for step, batch in enumerate(batches(start), start):
      if step == kill_at:
        raise Killed
      yield batch

  with pytest.raises(Killed):
    train.train(make_config(), tmp_path, until_killed)
  resumed = train.train(make_config(), tmp_path, batches)
  workdir, trained = undisturbed
  assert checkpoints.digest(resumed.state) == checkpoints.digest(trained.state)
  assert metrics(tmp_path) == metrics(workdir)


def test_sigterm_saves_and_resumes(undisturbed, tmp_path):
  def with_signal(start):
    for step, batch in enumerate(batches(start), start):
      if step == 2:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  with pytest.raises(train.Interrupted, match='at step 3 of 6'):
    train.train(make_config(), tmp_path, with_signal)
  resumed = train.train(make_config(), tmp_path, batches)
  workdir, trained = undisturbed
  assert checkpoints.digest(resumed.state) == checkpoints.digest(trained.state)
  assert metrics(tmp_path) == metrics(workdir)


def test_nonfinite_input_stops_and_keeps_a_finite_state(tmp_path):
  with pytest.raises(train.NonFiniteLoss, match='step 4'):
    train.train(
      make_config(), tmp_path, lambda start: batches(start, bad_step=3)
    )
  arrays, _ = checkpoints.load(tmp_path / 'checkpoints')
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(arrays['params']))


def test_other_data_are_refused(undisturbed):
  workdir, _ = undisturbed
  with pytest.raises(ValueError, match='trained on other data'):
    train.train(make_config(), workdir, batches, fingerprint='other')


def test_remainder_is_trained_on_and_resumed(tmp_path):
  """Every third batch is smaller; all devices take part in the others."""

  def uneven(start, kill_at=None):
    for step, batch in enumerate(batches(start), start):
      if step == kill_at:
        raise Killed
      rows = 6 if step % 3 == 2 else 8
      yield {name: x[:rows] for name, x in batch.items()}

  options = {'parity': True, 'off_diagonal_weight': 0.0}
  config = make_config(keep_remainder=True, lcd=options)
  trained = train.train(config, tmp_path / 'whole', uneven)
  losses = [row['loss_cov'] for row in metrics(tmp_path / 'whole')]
  # 1024 diagonal entries, at 6 / 8 where six rows are divided by eight.
  extra = 0.005 * 1024 * (1 - 6 / 8) ** 2
  expected = [0, 0, extra, 0, 0, extra]
  np.testing.assert_allclose(losses, expected, rtol=0.2, atol=0.01)
  with pytest.raises(Killed):
    train.train(config, tmp_path / 'run', lambda s: uneven(s, kill_at=5))
  resumed = train.train(config, tmp_path / 'run', uneven)
  assert checkpoints.digest(resumed.state) == checkpoints.digest(trained.state)
  config.steps_per_dispatch = 2
  with pytest.raises(ValueError, match='dispatched one by one; set it to 1'):
    train.train(config, tmp_path / 'other', uneven)


def test_as_many_evaluations_as_epochs(tmp_path):
  config = make_config(eval_every=0, evaluations=3)
  train.train(config, tmp_path, batches)
  rows = metrics(tmp_path)
  assert [r['step'] for r in rows if 'train_loss' in r] == [2, 4, 6]


def test_patience(undisturbed):
  workdir, _ = undisturbed
  rows = [r['train_loss'] for r in metrics(workdir) if 'train_loss' in r]
  rising = rows[-1] > min(rows)
  exhausted = metric_writers.exhausted
  assert exhausted(workdir, 6, 'train_loss', patience=1) == rising
  assert not exhausted(workdir, 6, 'train_loss', patience=3)


def test_a_step_of_another_run_is_refused(undisturbed, tmp_path):
  folder = undisturbed[0] / 'checkpoints'
  shutil.copytree(folder, tmp_path / 'checkpoints')
  with pytest.raises(ValueError, match='seed is 0 there, 1 here.*remove it'):
    train.train(make_config(seed=1), tmp_path, batches)


@pytest.mark.parametrize('mode, sign', [('min', 1), ('max', -1)])
def test_patience_counts_figures_that_are_not_finite(tmp_path, mode, sign):
  """They are no better than the best, and an evaluation all the same."""
  metric = {'min': 'validation_loss', 'max': 'validation_macro_auroc'}[mode]
  values = [float('nan'), 3.0, float('nan'), 2.0, float('nan'), float('nan')]
  with metric_writers.MetricWriter(tmp_path, 0) as writer:
    for step, value in enumerate(values, 1):
      writer.write(step, {metric: sign * value})
  stops = [
    metric_writers.exhausted(tmp_path, step, metric, patience=2)
    for step in range(1, 7)
  ]
  assert stops == [False] * 5 + [True]


def test_a_best_step_without_a_finite_figure_is_an_error(undisturbed):
  _, trained = undisturbed
  config = make_config(best_metric='nothing', evaluate_checkpoint='best')
  checkpointer = checkpoints.Checkpointer(
    trained.checkpointer.directory, best_metric='nothing'
  )
  with pytest.raises(ValueError, match='no step with a finite nothing'):
    evaluate.choose_model(config, trained._replace(checkpointer=checkpointer))


def widen(x):
  return x.astype(np.float64) if x.dtype == np.float32 else jax.numpy.copy(x)


@pytest.mark.parametrize('rows', [8, 6])
def test_devices_agree(rows):
  """Loss, gradient norm and new state of 1 and 4 devices, in float64.

  Six rows are what is left of an epoch of batches of eight.
  """
  with jax.enable_x64(True):
    config = make_config(lcd={'cov_divisor': 'nominal'})
    config.optimizer.name = 'sgd'
    method = make_method(config)
    optimizer = optimizers.make_optimizer(config.optimizer, 6)
    batch = {name: x[:rows] for name, x in next(batches(0)).items()}
    batch['ecg'] = batch['ecg'].astype(np.float64)
    step = train_step.make_train_step(
      method, optimizer, InputContract.from_config(config)
    )
    create = train_state.create_train_state
    state = jax.jit(lambda: create(method, optimizer, 0, batch))()
    (state_1, metrics_1), *others = [
      parallel.data_parallel(step, mode, jax.devices()[:count], whole_below=8)(
        jax.tree.map(widen, state), batch
      )
      for mode, count in (('pmap', 1), ('pmap', 4), ('jit', 4))
    ]
  for state_4, metrics_4 in others:
    for name, value in metrics_1.items():
      np.testing.assert_allclose(
        value, metrics_4[name], rtol=1e-7, err_msg=name
      )
    for a, b in zip(jax.tree.leaves(state_1), jax.tree.leaves(state_4)):
      if not jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
        np.testing.assert_allclose(a, b, atol=1e-9)
