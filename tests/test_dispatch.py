"""Several steps as one program, metrics a window late, and what that costs."""

import os
import signal
import time

import jax
import numpy as np
import pytest

from configs import supervised as supervised_config
from ecgjax import checkpoints, train
from ecgjax.runtime import parallel, preemption
from ecgjax.training import metric_writers, progress


def run(workdir, bad_step=None, before=lambda step: None, **fields):
  config = supervised_config.get_config().copy_and_resolve_references()
  kwargs = {'width': 8, 'depth': 1, 'heads': 2, 'patch': 16}
  config.model = {'name': 'vit1d', 'kwargs': kwargs}  # compiles fast
  config.data.update({'leads': ('II', 'V1'), 'length': 64})
  config.optimizer.name = 'sgd'  # Adam would divide rounding by rounding
  config.update({'batch_size': 8, 'num_steps': 7, 'eval_every': 5})
  config.update({'log_every': 3, 'best_metric': 'train_loss', **fields})

  def batches(step):
    while True:
      before(step)
      rng = np.random.default_rng(step)
      ecg = rng.normal(size=(8, 64, 2)).astype(np.float32)
      if step == bad_step:
        ecg[3, 5, 1] = np.nan
      yield {
        'ecg': ecg,
        'record': np.arange(8, dtype=np.int32),
        'label': np.eye(8, 3, dtype=np.float32),
        'label_mask': np.ones((8, 3), np.float32),
      }
      step += 1

  trained = train.train(config, workdir, batches, class_names='abc')
  return trained, metric_writers.read_metrics(workdir / 'metrics.jsonl')


@pytest.fixture(scope='module')
def one_by_one(tmp_path_factory):
  return run(tmp_path_factory.mktemp('one_by_one'))


def test_stops_are_never_passed():
  clock = progress.Clock(23, 4, log_every=7, eval_every=10, evaluations=1)
  sizes, step, logged, evaluated = [], 0, [], []
  while step < 23:
    count, logs, evaluates = clock.next(step)
    step += count
    sizes.append(count)
    logged += [step] * logs
    evaluated += [step] * evaluates
  assert max(sizes) == 4
  assert logged == [7, 10, 14, 20, 21, 23]
  assert evaluated == [10, 20, 23]


def test_several_steps_at_once_are_the_same_steps(one_by_one, tmp_path):
  expected, expected_rows = one_by_one
  found, rows = run(tmp_path, steps_per_dispatch=4)
  assert [r['step'] for r in rows] == [3, 5, 6, 7]
  for row, expected_row in zip(rows, expected_rows, strict=True):
    assert row == pytest.approx(expected_row, rel=1e-4)
  for a, b in zip(
    jax.tree.leaves(found.state.params), jax.tree.leaves(expected.state.params)
  ):
    np.testing.assert_allclose(a, b, atol=1e-6)
  moved = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), found.state.params, found.start.params
  )
  assert max(jax.tree.leaves(moved)) > 1e-4


def test_metrics_are_fetched_one_window_late():
  windows, loss = metric_writers.Windows(), jax.numpy.arange(5.0)
  windows.add({'loss': loss[:1]})
  windows.add({'loss': loss[1:3]})
  windows.close(3)
  assert not list(windows.fetch(keep=1))  # the device may still be at it
  windows.add({'loss': loss[3:]})
  windows.close(5)
  ((step, found),) = windows.fetch(keep=1)
  assert step == 3 and found['loss'].tolist() == [0, 1, 2]
  ((step, found),) = windows.fetch(keep=0)
  assert step == 5 and found['loss'].tolist() == [3, 4]


@pytest.mark.parametrize(
  ('count', 'number', 'stop'),
  [(1, signal.SIGTERM, 6), (3, signal.SIGTERM, 7), (1, signal.SIGINT, 6)],
)
def test_stopped_between_log_points_and_resumed(tmp_path, count, number, stop):
  fields = {'num_steps': 12, 'eval_every': 10, 'log_every': 4}
  fields['steps_per_dispatch'] = count
  undisturbed, rows = run(tmp_path / 'undisturbed', **fields)

  def disturb(step):
    if step == 5:
      os.kill(os.getpid(), number)

  handler = signal.getsignal(number)
  with pytest.raises(train.Interrupted, match=f'at step {stop} of 12'):
    run(tmp_path / 'run', before=disturb, **fields)
  assert signal.getsignal(number) is handler
  resumed, resumed_rows = run(tmp_path / 'run', **fields)
  assert [r['step'] for r in rows] == [4, 8, 10, 12]
  assert resumed_rows == rows
  digests = [checkpoints.digest(t.state) for t in (undisturbed, resumed)]
  assert digests[0] == digests[1]


def test_processes_ask_for_a_signal_without_a_gap(monkeypatch):
  """As JAX's service wants it, however many steps a dispatch has."""
  from jax.experimental import multihost_utils

  asked = []
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(
    multihost_utils,
    'reached_preemption_sync_point',
    lambda number: asked.append(number) or number == 3,
  )
  with preemption.Preemption() as stop:
    assert [stop.requested() for _ in range(3)] == [False, False, True]
  assert asked == [1, 2, 3]


def test_speed_is_that_of_a_slow_input(tmp_path):
  """20 ms for 8 ECGs, so at most 400 a second, however metrics are fetched."""
  wait = lambda step: time.sleep(0.02)
  fields = {'num_steps': 12, 'eval_every': 4, 'log_every': 2}
  trained, _ = run(tmp_path, before=wait, **fields)
  assert 0 < trained.examples_per_second <= 400


@pytest.mark.parametrize('field', ['steps_per_dispatch', 'log_every'])
def test_a_dispatch_and_a_window_have_steps(tmp_path, field):
  with pytest.raises(ValueError, match=f'config.{field} is 0'):
    run(tmp_path / 'run', **{field: 0})
  assert not (tmp_path / 'run').exists()


def test_nonfinite_loss_is_found_a_window_late(tmp_path):
  fields = {'num_steps': 12, 'eval_every': 10, 'log_every': 4}
  with pytest.raises(train.NonFiniteLoss, match='step 4; .* no step yet'):
    run(tmp_path, bad_step=0, **fields)
  assert not metric_writers.read_metrics(tmp_path / 'metrics.jsonl')


def test_nonfinite_loss_amid_a_dispatch_stops_the_run(tmp_path):
  with pytest.raises(train.NonFiniteLoss, match='at or before step 6'):
    run(tmp_path, bad_step=4, steps_per_dispatch=3, eval_every=3, log_every=6)
  rows = metric_writers.read_metrics(tmp_path / 'metrics.jsonl')
  assert [r['step'] for r in rows] == [3]


@pytest.mark.parametrize('mode', parallel.MODES)
@pytest.mark.parametrize('count', [1, 4])
def test_memory_of_the_old_state_is_used_again(mode, count):
  add = lambda state, batch, axis_name=None: (state + batch.sum() * 0, {})
  step = parallel.data_parallel(add, mode, jax.devices()[:count])
  state, batch = jax.numpy.ones(1000), np.ones((4, 3), np.float32)
  kept, _ = step(state, batch)
  again, _ = step(kept, batch)
  assert kept.is_deleted()
  np.testing.assert_array_equal(again, np.ones(1000))
