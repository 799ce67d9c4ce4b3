"""Operators on codes, each against NumPy; what is drawn for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.generation import align, latent_mix
from ecgjax.models import codebook, fsq

B, T, D, K, Q = 3, 10, 4, 16, 2
RNG = np.random.default_rng(0)
EMBED = RNG.normal(size=(Q, K, D)).astype(np.float32)
Z_A, Z_B = RNG.normal(size=(2, B, T, D)).astype(np.float32)


def quantise(z):
  found = codebook.rvq_apply(EMBED, z.reshape(-1, D))
  return found.indices.reshape(*z.shape[:2], Q)


def lookup(indices):
  return codebook.rvq_lookup(jnp.asarray(EMBED), indices)


def numpy_quantise(z):
  """Nearest code of each stage of what the last one left, token by token."""
  indices = np.zeros((*z.shape[:2], Q), int)
  for place in np.ndindex(z.shape[:2]):
    rest = z[place].astype(np.float64)
    for q in range(Q):
      k = np.square(EMBED[q] - rest).sum(axis=1).argmin()
      indices[*place, q] = k
      rest = rest - EMBED[q, k]
  return indices


def numpy_lookup(indices):
  return sum(EMBED[q][indices[..., q]] for q in range(Q))


def mix(operator, weight):
  run = jax.jit(
    lambda a, b, w: latent_mix.mix(operator, quantise, lookup, a, b, w)
  )
  return map(np.asarray, run(Z_A, Z_B, np.float32(weight)))


@pytest.mark.parametrize('operator', 'AFG')
def test_mix_before_quantising_codes_all_stages_again(operator):
  weight = np.repeat([[0.3], [1.2], [-0.1]], T, axis=1)
  z_q, indices = mix(operator, weight)
  blend = weight[..., None] * Z_A + (1 - weight[..., None]) * Z_B
  np.testing.assert_array_equal(indices, numpy_quantise(blend))
  np.testing.assert_allclose(z_q, numpy_lookup(indices), atol=1e-6)


@pytest.mark.parametrize('operator', 'BC')
def test_mix_of_codes(operator):
  weight = np.full((B, T), 0.3)
  z_q, indices = mix(operator, weight)
  a, b = (numpy_lookup(numpy_quantise(z)) for z in (Z_A, Z_B))
  blend = 0.3 * a + 0.7 * b
  np.testing.assert_array_equal(indices, numpy_quantise(blend))
  expected = blend if operator == 'B' else numpy_lookup(indices)
  np.testing.assert_allclose(z_q, expected, atol=1e-5)


@pytest.mark.parametrize('operator', 'DE')
def test_token_swap_and_splice_keep_codes_of_parents(operator):
  weight = RNG.integers(0, 2, (B, T))
  z_q, indices = mix(operator, weight)
  a, b = numpy_quantise(Z_A), numpy_quantise(Z_B)
  np.testing.assert_array_equal(indices, np.where(weight[..., None] == 1, a, b))
  np.testing.assert_allclose(z_q, numpy_lookup(indices), atol=1e-6)


def test_bounded_scalars_are_mixed_before_rounding():
  levels = (8, 5, 5)
  a, b = (np.asarray(fsq.fsq_bound(3 * z[..., :3], levels)) for z in (Z_A, Z_B))
  z_q, indices = latent_mix.mix(
    'A',
    lambda z: fsq.fsq_round(z, levels)[1][..., None],
    lambda i: fsq.fsq_lookup(i[..., 0], levels),
    a, b, np.full((B, T), 0.25, np.float32),
  )  # fmt: skip
  rounded = np.rint(0.25 * a + 0.75 * b)
  half = np.array([4, 2, 2])
  np.testing.assert_allclose(z_q, rounded / half, atol=1e-6)
  digits = (rounded + half).astype(int)
  np.testing.assert_array_equal(indices[..., 0], digits @ np.array([1, 8, 40]))


def test_changed_share_is_that_of_the_nearer_parent():
  a, b = np.zeros((2, 4, 1), int), np.ones((2, 4, 1), int)
  child = np.array([[0, 0, 0, 2], [1, 1, 2, 0]])[..., None]
  found = latent_mix.changed_share(child, a, b)
  np.testing.assert_allclose(found, [0.25, 0.5])


def test_laws_of_lambda():
  def draw(law, operator='A'):
    rng = np.random.Generator(np.random.Philox(3))
    return latent_mix.draw_weight(rng, law, operator, 20_000)

  # Mean 1/2; variances of Beta(.4, .4), Beta(2, 2), U(0, 1) and U(-.2, 1.2).
  for law, variance in (
    ('near', 1 / 7.2), ('middle', 1 / 20), ('uniform', 1 / 12),
    ('beyond', 1.96 / 12),
  ):  # fmt: skip
    assert draw(law).mean() == pytest.approx(0.5, abs=0.01)
    assert draw(law).var() == pytest.approx(variance, rel=0.03)
  np.testing.assert_array_equal(draw('half'), 0.5)
  assert draw('beyond').min() < -0.19 and draw('beyond').max() > 1.19
  for operator, law in (('A', 'near'), ('F', 'uniform'), ('G', 'beyond')):
    np.testing.assert_array_equal(draw('', operator), draw(law))


def test_blocks_have_4_to_16_tokens_and_the_share_lambda():
  rng = np.random.Generator(np.random.Philox(0))
  weight = np.linspace(0, 1, 1000)
  found = latent_mix.block_weights(rng, weight, 125)
  assert set(np.unique(found)) == {0, 1}
  assert found.mean(axis=1) @ weight > 0.6 * weight.sum()
  np.testing.assert_allclose(found.mean(), 0.5, atol=0.02)
  runs = [np.flatnonzero(np.diff(row)) for row in found]
  shortest = min(np.diff(r).min() for r in runs if len(r) > 1)
  assert shortest == 4
  np.testing.assert_array_equal(found[[0, -1]], [[0] * 125, [1] * 125])


def test_splice_cuts_once_between_two_beats_of_a():
  peaks, count = align.pad_peaks([[10, 110, 210, 310], [50, 150, 250]])
  ends = set()
  for seed in range(20):
    rng = np.random.Generator(np.random.Philox(seed))
    found = latent_mix.splice_weights(rng, peaks, count, 50, 400)
    assert (np.diff(found, axis=1) <= 0).all()
    ends.add(tuple((8 * found.sum(axis=1)).astype(int).tolist()))
  # 0.6 of the interval behind R, to the next whole token of 8 samples.
  assert {a for a, _ in ends} == {72, 168, 272}
  assert {b for _, b in ends} == {112, 208}


def test_token_weights_of_a_plain_mix():
  found = latent_mix.token_weights(
    'A', None, np.array([0.2, 0.7]), None, None, 5, 40
  )
  np.testing.assert_allclose(found, [[0.2] * 5, [0.7] * 5], rtol=1e-6)
