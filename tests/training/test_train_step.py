"""One step on a method of two numbers: order of updates, keys, bad losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import lcd as lcd_config
from ecgjax.ecg.contract import InputContract
from ecgjax.methods import method as method_lib
from ecgjax.training import train_state, train_step

RATE = 0.1
ECG = np.float32([[[1.0], [3.0]], [[2.0], [-2.0]]])  # [B, L, C]


def tau(step):
  return 0.9 + 0.01 * step


def init(key, batch):
  del key, batch
  params = {'a': jnp.array([2.0, 1.0]), 'b': jnp.array([3.0])}
  target = {'params': {'a': jnp.array([5.0, 7.0])}, 'state': {'t': jnp.ones(1)}}
  return method_lib.Variables(params, {'m': jnp.zeros(1)}, target)


def loss(params, model_state, target, key, batch, axis_name):
  del axis_name
  noise = jax.random.normal(key, (2,))
  value = jnp.sum(params['a'] ** 2 * noise) + params['b'][0] * jnp.mean(
    batch['ecg'] ** 2
  ) * jnp.sum(target['params']['a'])
  state = {'m': model_state['m'] + 1}
  seen = {'t': target['state']['t'] * 2}
  return value, method_lib.Aux(state, seen, {'noise': noise[0]})


@pytest.fixture(scope='module')
def step():
  config = lcd_config.get_config().copy_and_resolve_references()
  config.data.update(leads=('II',), length=2, normalisation='none')
  method = method_lib.Method(init, loss, None, tau)
  optimizer = optax.sgd(RATE)
  state = train_state.create_train_state(
    method, optimizer, 3, {'ecg': jnp.asarray(ECG)}
  )
  run = train_step.make_train_step(
    method, optimizer, InputContract.from_config(config)
  )
  return jax.jit(run), state


def make_batch(ecg=ECG):
  return {
    'ecg': ecg, 'baseline': np.zeros((2, 1), np.float32),
    'gain': np.ones((2, 1), np.float32),
  }  # fmt: skip


def test_target_follows_the_parameters_after_the_update(step):
  run, state = step
  a, t = np.float64([2, 1]), np.float64([5, 7])
  m = 0
  for i in range(3):
    noise = jax.random.normal(jax.random.fold_in(state.rng, i), (2,))
    state, metrics = run(state, make_batch())
    a = a - RATE * 2 * a * np.asarray(noise)
    t = tau(i) * t + (1 - tau(i)) * a
    m += 1
    np.testing.assert_allclose(state.params['a'], a, rtol=1e-5)
    np.testing.assert_allclose(state.target['params']['a'], t, rtol=1e-5)
    assert set(state.target['params']) == {'a'}
    np.testing.assert_allclose(state.target['state']['t'], 2.0**m)
    np.testing.assert_allclose(state.model_state['m'], m)
    assert int(state.step) == i + 1 and float(metrics['nonfinite']) == 0


def test_the_gradient_is_that_of_the_old_target(step):
  run, state = step
  new, metrics = run(state, make_batch())
  np.testing.assert_allclose(
    new.params['b'], [3 - RATE * np.mean(ECG**2) * 12], rtol=1e-5
  )
  key = jax.random.fold_in(state.rng, 0)
  noise = np.float64(jax.random.normal(key, (2,)))
  value = np.sum([4, 1] * noise) + 3 * np.mean(ECG**2) * 12
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-5)
  slope = np.array([*(np.array([4, 2]) * noise), np.mean(ECG**2) * 12])
  np.testing.assert_allclose(
    metrics['gradient_norm'], np.linalg.norm(slope), rtol=1e-5
  )


def test_a_bad_loss_moves_the_step_and_nothing_else(step):
  run, state = step
  state = run(state, make_batch())[0]
  new, metrics = run(state, make_batch(ECG * np.nan))
  assert float(metrics['nonfinite']) == 1 and int(new.step) == 2
  for field in ('params', 'model_state', 'opt_state', 'target'):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(new, field), getattr(state, field)
    )
  assert (jax.random.key_data(new.rng) == jax.random.key_data(state.rng)).all()
