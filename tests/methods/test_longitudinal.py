"""Longitudinal patient contrast: options, views, weights, device layouts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import longitudinal as longitudinal_config
from ecgjax.config import check
from ecgjax.ecg.contract import InputContract
from ecgjax.methods import longitudinal
from ecgjax.model import make_method
from ecgjax.models import resnet1d
from ecgjax.runtime import parallel
from ecgjax.training import optimizers, train_state, train_step

LENGTH = 64


@pytest.fixture(autouse=True, scope='module')
def stem_only():
  """An encoder without residual units compiles fast."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(resnet1d, 'UNITS', ())
    yield


PRESETS = ('default', 'pod', 'pclr', 'simclr', 'cmsc', '3kg', 'smoke')


def make_config(preset='default', **options):
  argument = f'dataset=ptbxl,preset={preset}'
  config = longitudinal_config.get_config(argument)
  config = config.copy_and_resolve_references()
  config.data.length = LENGTH
  config.model = {'name': 'resnet1d', 'kwargs': {'width': 1 / 8}}
  config.longitudinal.head_width = 6
  config.longitudinal.noise_snr_db = ()  # takes long to compile
  config.longitudinal.update(options)
  return config


def make_batch(rows=8, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'ecg': rng.normal(size=(rows, LENGTH, 8)).astype(np.float32),
    'patient': np.repeat(np.arange(rows // 2), 2).astype(np.int32),
    'anchor_weight': np.linspace(0.5, 1, rows, dtype=np.float32),
    'time': np.float32([0, 10, -1, 5, 0, 400, 3, 3])[:rows],
    'mask': np.ones(rows, np.float32),
    'label': (rng.uniform(size=(rows, 3)) < 0.5).astype(np.float32),
    'label_mask': np.ones((rows, 3), np.float32),
  }


@functools.cache
def views_of(preset, **options):
  """Views of `make_batch`, whose last two rows are one ECG."""
  config = make_config(preset, **options)
  make_views = longitudinal.make_view_function(
    config.longitudinal.to_dict(), InputContract.from_config(config)
  )
  compiled = jax.jit(make_views, static_argnums=2)
  ecg = make_batch()['ecg']
  ecg[-1] = ecg[-2]
  views, kept = compiled(jax.random.key(1), ecg, None)
  return np.asarray(views), np.asarray(kept)


@pytest.mark.parametrize('preset', PRESETS)
def test_presets_trace(preset):
  """Every named config gives a loss and keeps the structure of its state."""
  method = make_method(make_config(preset, noise_snr_db=(12.0, 30.0)))
  batch = make_batch()
  variables = jax.eval_shape(method.init, jax.random.key(0), batch)
  loss, aux = jax.eval_shape(
    lambda *args: method.loss(*args, None),
    *variables, jax.random.key(0), batch,
  )  # fmt: skip
  assert loss.shape == () and loss.dtype == jnp.float32
  assert aux.model_state == variables.model_state
  features = jax.eval_shape(method.predict, *variables[:2], batch)['features']
  assert features.shape == (8, 8)
  assert features.dtype == jnp.float32


def test_views():
  ecg = make_batch()['ecg']
  ecg[-1] = ecg[-2]
  views, kept = views_of('pclr')
  np.testing.assert_array_equal(views, ecg)  # as published: not augmented
  assert (kept == 1).all()
  views, _ = views_of('cmsc')
  np.testing.assert_array_equal(views[::2], ecg[:, :32])
  np.testing.assert_array_equal(views[1::2], ecg[:, 32:])
  for preset in ('default', 'simclr', '3kg'):
    views, _ = views_of(preset)
    assert len(views) == 8 * (1 if preset == 'default' else 2)
    assert np.isfinite(views).all()
    same = views.reshape(len(views), 1, -1) == views.reshape(len(views), -1)
    # No two views are equal, not even those of the two copies of one ECG.
    assert same.all(-1).sum() == len(views)


def test_lead_dropout():
  views, kept = views_of('default', lead_dropout=0.9)
  assert (kept.sum(axis=1) >= 1).all() and kept.mean() < 0.5
  assert not views[kept[:, None].repeat(LENGTH, 1) == 0].any()
  features = np.random.default_rng(0).normal(size=(8, 8, 3))
  pooled = longitudinal.pool(features, kept)
  for row in range(8):
    expected = features[row][kept[row] > 0].mean(axis=0)
    np.testing.assert_allclose(pooled[row], expected, atol=1e-6)


def test_gap_weights():
  batch = make_batch()
  rows = longitudinal.per_view(batch, 1)
  time = batch['time']
  weigh = lambda **o: np.asarray(
    longitudinal.pair_weight(make_config(**o).longitudinal, rows, None)
  )
  exponential = weigh(gap_weight='exponential', gap_days=100.0, gap_floor=0.05)
  strata = weigh(gap_weight='strata', gap_stratum_weights=(1.0, 0.5, 0.2))
  for v in range(8):
    for u in range(8):
      gap = abs(time[v] - time[u])
      expected = max(np.exp(-gap / 100), 0.05)
      stratum = 1.0 if gap < 30 else 0.5 if gap < 365 else 0.2
      if time[v] < 0 or time[u] < 0:  # a missing date
        expected = stratum = 1.0
      assert exponential[v, u] == pytest.approx(expected, rel=1e-5)
      assert strata[v, u] == pytest.approx(stratum)
  assert (
    longitudinal.pair_weight(make_config().longitudinal, rows, None) is None
  )


def test_label_change():
  batch = make_batch()
  batch['label'] = np.float32([[1, 0], [1, 0], [1, 1], [0, 1]])
  batch['label_mask'] = np.float32([[1, 1], [1, 1], [1, 0], [0, 1]])
  batch = {k: v[:4] for k, v in batch.items()}
  options = make_config(label_change_weight=0.25).longitudinal
  rows = longitudinal.per_view(batch, 1)
  found = longitudinal.pair_weight(options, rows, None)
  # Record 2 differs in a class without annotation only, record 3 in class 1.
  changed = np.zeros((4, 4))
  changed[:2, 3] = changed[3, :2] = 1
  np.testing.assert_allclose(found, np.where(changed, 0.25, 1))


def test_one_device_is_four():
  """Loss, gradient, queue and target: 1 device = pmap = jit on 4 devices."""
  config = make_config(
    queue=11, learned_temperature=True, gap_weight='exponential',
    lead_dropout=0.3, label_change_weight=0.5, augmentation='none',
    singletons='drop',
  )  # fmt: skip
  config.optimizer.name, config.optimizer.weight_decay = 'sgd', 0.0
  config.optimizer.schedule = 'constant'
  config.optimizer.warmup_steps = 0
  config.optimizer.learning_rate = 1.0  # the first update is the gradient
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, 2)
  state = jax.jit(
    lambda: train_state.create_train_state(method, optimizer, 0, make_batch())
  )()
  step = train_step.make_train_step(
    method, optimizer, InputContract.from_config(config)
  )
  found = []
  for mode, count in (('pmap', 1), ('pmap', 4), ('jit', 4)):
    run = parallel.data_parallel(step, mode, jax.devices()[:count])
    copy = lambda: jax.tree.map(jnp.copy, state)  # what is given is gone
    first, metrics = run(copy(), make_batch())
    first = jax.device_get(first.replace(rng=0))
    _, later = run(first.replace(rng=copy().rng), make_batch(seed=1))
    found.append((first, jax.device_get((metrics, later))))
  for other, figures in found[1:]:
    for a, b in zip(
      jax.tree.leaves(found[0]), jax.tree.leaves((other, figures)), strict=True
    ):
      np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)
  first, (metrics, later) = found[0]
  assert metrics['nonfinite'] == 0 and metrics['gradient_norm'] > 0.01
  assert later['loss'] != metrics['loss']
  queue = first.model_state['queue']
  patients = make_batch()['patient']
  np.testing.assert_array_equal(queue['patient'], [*patients, -1, -1, -1])
  length = np.linalg.norm(queue['embedding'], axis=1)
  np.testing.assert_allclose(length, [1] * 8 + [0] * 3, rtol=1e-5)


@pytest.mark.parametrize(
  ('preset', 'options', 'message'),
  [
    ('default', {'loss': 'triplet'}, 'lpc, clocs'),
    ('default', {'views': 'none'}, 'ecg, augmented, halves'),
    ('default', {'ecgs_per_patient': 1}, 'at least 2'),
    ('default', {'loss': 'clocs'}, 'augmented'),
    ('default', {'augmentation': 'none'}, 'equal'),
    ('default', {'lead_dropout': 1.0}, r'must be in \[0, 1\)'),
    ('cmsc', {'queue': 8}, "loss 'lpc'"),
  ],
)
def test_bad_config(preset, options, message):
  with pytest.raises(ValueError, match=message):
    check.check(make_config(preset, **options), 'train')


def test_rotation_needs_the_chest_leads():
  config = make_config('3kg')
  config.data.leads = ('I', 'II', 'V1')
  with pytest.raises(ValueError, match='vectorcardiogram'):
    make_method(config)
