"""Classical augmentation against NumPy, step by step and as a whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.ecg import augment, classical, leads, noise, vcg

LENGTH, RATE = 200, 100.0


@pytest.fixture(scope='module')
def ecg():
  rng = np.random.default_rng(0)
  smooth = np.cumsum(rng.normal(size=(LENGTH, 8)), axis=0) * 0.05
  return leads.from_independent(np, smooth).astype(np.float32)


@pytest.fixture(scope='module')
def classically():
  return jax.jit(
    jax.vmap(classical.make_classical(leads.LEADS, RATE), (0, None))
  )


def test_shift(ecg):
  keys = jax.random.split(jax.random.key(0), 400)
  found = jax.vmap(lambda k: augment.shift(k, jnp.asarray(ecg), 0.02))(keys)
  seen = set()
  for row in np.asarray(found):
    for by in range(-4, 5):
      expected = np.zeros_like(ecg)
      if by >= 0:
        expected[by:] = ecg[: LENGTH - by]
      else:
        expected[:by] = ecg[-by:]
      if np.array_equal(row, expected):
        seen.add(by)
        break
    else:
      raise AssertionError('no shift of at most 4 samples')
  assert seen == set(range(-4, 5))


def test_lead_out(ecg):
  keys = jax.random.split(jax.random.key(0), 300)
  found = np.asarray(jax.vmap(augment.lead_out, (0, None))(keys, ecg))
  zero = (found == 0).all(axis=1)
  assert set(zero.sum(axis=1)) == {1}
  assert set(zero.argmax(axis=1)) == set(range(12))
  np.testing.assert_array_equal(found[0][:, ~zero[0]], ecg[:, ~zero[0]])


def test_rotation_keeps_what_is_not_in_the_vector(ecg):
  """x + (R - 1) applied to the vector part of x, in float64 NumPy."""
  turn = vcg.make_rotate_heart(leads.LEADS, 15.0, 1.0, keep_rest=True)
  key = jax.random.key(3)
  angle_key, _ = jax.random.split(key)
  angles = np.asarray(jax.random.uniform(angle_key, (3,), minval=-1.0))
  cosine, sine = (
    np.cos(np.deg2rad(15 * angles)),
    np.sin(np.deg2rad(15 * angles)),
  )
  x, y, z = np.eye(3), np.eye(3), np.eye(3)
  x[1:, 1:] = [[cosine[0], -sine[0]], [sine[0], cosine[0]]]
  y[::2, ::2] = [[cosine[1], sine[1]], [-sine[1], cosine[1]]]
  z[:2, :2] = [[cosine[2], -sine[2]], [sine[2], cosine[2]]]
  to_vector, to_leads = vcg.lead_matrices(leads.LEADS)
  vector = ecg @ to_vector.astype(float)
  rest = ecg - vector @ to_leads
  expected = vector @ (z @ y @ x).T @ to_leads + rest
  np.testing.assert_allclose(turn(key, ecg), expected, atol=2e-5)
  still = vcg.make_rotate_heart(leads.LEADS, 0.0, 1.0, keep_rest=True)
  np.testing.assert_allclose(still(key, ecg), ecg, atol=1e-6)


def test_steps_follow_each_other_each_with_its_own_key(ecg, classically):
  keys = jax.random.split(jax.random.key(5), 64)
  found = np.asarray(classically(keys, ecg))
  add = functools.partial(
    noise.add_noise, snr_db=(15.0, 35.0), rate=RATE, leads=leads.LEADS
  )
  steps = [
    jax.jit(step)
    for step in (
      vcg.make_rotate_heart(leads.LEADS, 15.0, 1.0, keep_rest=True),
      functools.partial(augment.shift, max_fraction=0.1),
      functools.partial(add, kind='baseline_wander'),
      functools.partial(add, kind='muscle'),
      functools.partial(augment.time_out, max_fraction=0.2),
      augment.lead_out,
    )
  ]
  used = np.zeros(6, int)
  for key, row in zip(keys, found):
    parts = jax.random.split(key, 7)
    chosen = np.asarray(jax.random.bernoulli(parts[0], shape=(6,)))
    exponent = jax.random.uniform(jax.random.fold_in(key, 7), minval=-1.0)
    expected = ecg * np.float32(1.25) ** np.asarray(exponent)
    for step, part in zip(np.flatnonzero(chosen), parts[1:][chosen]):
      expected = np.asarray(steps[step](part, expected))
    np.testing.assert_allclose(row, expected, atol=1e-5)
    used += chosen
  assert used.min() > 16 and used.max() < 48


def test_amplitudes_stay_in_their_ranges(ecg, classically):
  keys = jax.random.split(jax.random.key(7), 300)
  found = np.asarray(classically(keys, ecg), np.float64)
  ratio = np.sqrt(
    (found**2).mean(axis=(1, 2)) / (ecg.astype(float) ** 2).mean()
  )
  assert np.isfinite(found).all()
  assert ratio.max() < 1.25 * 1.25 and ratio.max() > 1.1
  kept = (found != 0).any(axis=1).all(axis=1)  # no lead taken out
  residual = leads.limb_residual(np, found[kept])
  assert residual.max() < 1e-3 * np.abs(ecg).max()


def test_few_leads_are_refused():
  with pytest.raises(ValueError, match='do not determine the vector'):
    classical.make_classical(('II', 'V1'), RATE)
