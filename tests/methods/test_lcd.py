"""LCD against closed forms, a NumPy version, and other device layouts."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import lcd as lcd_config
from ecgjax.methods import lcd
from ecgjax.model import make_method
from ecgjax.models import vgg1d

pytestmark = pytest.mark.usefixtures('short_vgg')
STAGES = vgg1d.STAGES  # all of them
WEIGHT = 0.005 * 0.0051


def make_config(**options):
  config = lcd_config.get_config('dataset=ptbxl').copy_and_resolve_references()
  config.data.leads = ('II', 'III', 'V1')
  config.data.length = 64
  config.batch_size = 8
  config.num_steps = 10
  config.lcd.update(options)
  return config


def random_batch(rows=8, leads=3, seed=0):
  rng = np.random.default_rng(seed)
  return {'ecg': rng.normal(size=(rows, 64, leads)).astype(np.float32)}


@pytest.fixture(scope='module')
def variables():
  method = make_method(make_config())
  return jax.jit(method.init)(jax.random.key(0), random_batch(2))


def covariance(h1, h2, divisor=None, on_diagonal=False):
  q = z = jnp.ones((len(h1), 4))
  total, metrics = lcd.lcd_loss(
    h1, h2, q, q, z, divisor=divisor, on_diagonal=on_diagonal
  )
  np.testing.assert_allclose(total, metrics['loss_cov'], atol=1e-6)
  return float(total)


def test_closed_forms():
  """The closed forms of docs/methods.md, LCD, at n = B = 256."""
  rng = np.random.default_rng(0)
  normal = lambda n: rng.normal(size=(n, 512)).astype(np.float32)
  independent = np.mean([covariance(normal(256), normal(256)) for _ in '1234'])
  assert independent == pytest.approx(0.10476, abs=4e-4)
  doubled = np.mean(
    [covariance(h, h) for h in (normal(256) for _ in '12345678')]
  )
  assert doubled == pytest.approx(0.13076, abs=6e-4)
  column = np.repeat(normal(256)[:, :1], 512, axis=1)
  assert covariance(column, column) == pytest.approx(26.71, abs=0.01)
  h = normal(256)
  on = covariance(h, h, on_diagonal=True) - covariance(h, h)
  assert abs(on) < 1e-6


@pytest.mark.parametrize('n', [124, 64])
def test_partial_batch_in_parity(n):
  rng = np.random.default_rng(n)
  h1, h2 = rng.normal(size=(2, n, 512)).astype(np.float32)
  floor = 1024 * 1023 / (n - 1) * WEIGHT
  assert covariance(h1, h2) == pytest.approx(floor, rel=0.01)
  nominal = covariance(h1, h2, divisor=256)
  assert nominal == pytest.approx(floor * (n / 256) ** 2, rel=0.01)
  extra = covariance(h1, h2, divisor=256, on_diagonal=True) - nominal
  assert extra == pytest.approx(0.005 * 1024 * (1 - n / 256) ** 2, rel=1e-3)


def test_lcd_loss_matches_numpy():
  rng = np.random.default_rng(1)
  h1, h2, q1, q2, z3 = rng.normal(size=(5, 9, 6))
  distance = lambda q: np.mean(
    [
      2 - 2 * a @ b / np.linalg.norm(a) / np.linalg.norm(b)
      for a, b in zip(q, z3)
    ]
  )
  h = np.concatenate([h1, h2], 1)
  h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
  c = h.T @ h / 9
  off = np.sum(c**2) - np.sum(np.diag(c) ** 2)
  with jax.enable_x64(True):
    total, parts = lcd.lcd_loss(h1, h2, q1, q2, z3)
  np.testing.assert_allclose(parts['loss_intra'], distance(q1))
  np.testing.assert_allclose(parts['loss_inter'], distance(q2))
  np.testing.assert_allclose(parts['loss_cov'], WEIGHT * off)
  np.testing.assert_allclose(total, distance(q1) + distance(q2) + WEIGHT * off)


def test_invariances():
  rng = np.random.default_rng(2)
  arrays = rng.normal(size=(5, 7, 6))
  with jax.enable_x64(True):
    value = lcd.lcd_loss(*arrays)[0]
    order = rng.permutation(7)
    np.testing.assert_allclose(lcd.lcd_loss(*arrays[:, order])[0], value)
    scaled = lcd.lcd_loss(*arrays[:2], *(arrays[2:] * 3.0))[0]
    np.testing.assert_allclose(scaled, value)


def test_parameter_counts(monkeypatch):
  monkeypatch.setattr(vgg1d, 'STAGES', STAGES)
  method = make_method(make_config())
  shapes = jax.eval_shape(method.init, jax.random.key(0), random_batch(2))
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  assert {k: count(v) for k, v in shapes.params.items()} == {
    'encoder': 78_216,
    'projector': 296_960,
    'predictor': 526_336,
  }


def test_lead_pairs_are_uniform_and_different():
  keys = jax.random.split(jax.random.key(0), 6000)
  a, b = jax.vmap(lambda k: lcd.draw_lead_pair(k, 3))(keys)
  pairs, counts = np.unique(np.stack([a, b]), axis=1, return_counts=True)
  assert pairs.shape[1] == 6 and (pairs[0] != pairs[1]).all()
  assert counts.min() > 850 and counts.max() < 1150


def test_target_starts_equal_and_gets_no_gradient(variables):
  for name in ('encoder', 'projector'):
    same = jax.tree.map(
      np.array_equal, variables.params[name], variables.target['params'][name]
    )
    assert all(jax.tree.leaves(same))
  method = make_method(make_config())

  def loss(target_params):
    target = variables.target | {'params': target_params}
    return method.loss(
      variables.params, variables.model_state, target,
      jax.random.key(1), random_batch(), None,
    )[0]  # fmt: skip

  gradient = jax.jit(jax.grad(loss))(variables.target['params'])
  assert all(not np.any(g) for g in jax.tree.leaves(gradient))


@pytest.fixture(scope='module')
def loss_with(variables):
  """Compiled loss of `random_batch` with some options, the same draws."""

  def loss_with(**options):
    loss = jax.jit(make_method(make_config(**options)).loss, static_argnums=5)
    return loss(*variables, jax.random.key(1), random_batch(), None)

  return loss_with


@pytest.fixture(scope='module')
def default(loss_with):
  return loss_with()


@pytest.mark.parametrize(
  'options',
  [
    {'parity': True},
    {'lead_pair': 'per_sample'},
    {'separate_bn': False},
    {'resample': 'cubic'},
  ],
  ids=lambda o: next(iter(o)),
)
def test_options_change_the_loss(options, variables, loss_with, default):
  loss, aux = loss_with(**options)
  assert np.isfinite(loss) and np.isfinite(default[0])
  assert abs(loss - default[0]) > 1e-4
  assert jax.tree.structure(aux.model_state) == jax.tree.structure(
    variables.model_state
  )


def test_parity_sets_every_quirk():
  fixed = dict(make_config().lcd)
  parity = lcd.parity_options(make_config(parity=True).lcd)
  changed = {k for k, v in parity.items() if v != fixed[k]}
  assert changed == {'cov_divisor', 'cov_on_diagonal', 'exclusive_start'}
  config = lcd_config.get_config('dataset=ptbxl,preset=parity')
  assert config.evaluate_checkpoint == 'best'
  assert config.best_metric == 'train_loss'
  assert config.probe.recipe == 'reference'
  assert config.data.single_label
  assert config.keep_remainder
  assert config.evaluations == config.num_epochs == 100
  assert lcd_config.get_config().evaluations == 10


def test_features_are_lead_wise(variables):
  predict = jax.jit(make_method(make_config()).predict)
  batch = random_batch(4)
  features = predict(variables.params, variables.model_state, batch)
  features = np.asarray(features['features'])
  assert features.shape == (4, 3 * 64)
  swapped = {'ecg': batch['ecg'][:, :, [2, 1, 0]]}
  other = predict(variables.params, variables.model_state, swapped)
  other = np.asarray(other['features']).reshape(4, 3, 64)
  np.testing.assert_allclose(other[:, ::-1].reshape(4, -1), features, atol=1e-6)


def test_bad_config():
  config = make_config()
  config.data.leads = ('II',)
  with pytest.raises(ValueError, match='at least two'):
    make_method(config)


def test_config_is_locked_and_flat():
  config = lcd_config.get_config()
  assert config.is_locked and isinstance(config, ml_collections.ConfigDict)
  with pytest.raises(ValueError, match='preset'):
    lcd_config.get_config('preset=big')
  with pytest.raises(ValueError, match='key=value'):
    lcd_config.get_config('ptbxl')
