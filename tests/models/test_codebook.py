"""Codebooks against NumPy in float64 (docs/methods.md, Codebooks)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import codebook as cb
from tests.models.codebooks import (
  FIXED,
  KEY,
  D,
  K,
  assign,
  data_init,
  make_state,
  nearest,
  rvq_apply,
  tally,
  tokens,
)

vq_apply = jax.jit(cb.vq_apply)


@pytest.mark.parametrize('offset,spread', [(0, 1), (5, 1), (1, 0.05)])
def test_01_assign_equals_brute_force(offset, spread):
  rng = np.random.default_rng(0)
  draw = lambda n: np.float32(offset + spread * rng.normal(size=(n, 64)))
  embed, z = draw(512), draw(2048)
  np.testing.assert_array_equal(assign(embed, z), nearest(embed, z))


def test_assign_takes_the_lowest_of_equals():
  embed = jnp.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
  z = jnp.array([[2.0, 0], [0, 3], [0.5, 0.5]])
  np.testing.assert_array_equal(assign(embed, z), [0, 1, 0])


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_broken_code_is_nobodys_nearest(value):
  embed, z = tokens(4)[:K], tokens(5)
  broken = embed.copy()
  broken[[0, 3]] = 1e3  # nobody's
  expected = nearest(broken, z)
  broken[0, 1] = broken[3] = value
  np.testing.assert_array_equal(assign(broken, z), expected)
  assert len(set(expected)) > 2
  broken[:] = value  # and no silence where none is left
  found = vq_apply(broken, z)
  assert not np.isfinite(found[0]).any()
  assert not np.isfinite(found[2])


def test_02_straight_through():
  z, e = jnp.asarray(tokens(1, 1)), jnp.asarray(tokens(2, 1))
  by_z, by_e = jax.jit(jax.jacobian(cb.straight_through, (0, 1)))(z, e)
  np.testing.assert_array_equal(by_z[0, :, 0], np.eye(D))
  np.testing.assert_array_equal(by_e, 0)
  np.testing.assert_allclose(cb.straight_through(z, e), e, atol=1e-6)


def test_03_commitment_gradient():
  state, z = make_state(), tokens(3)
  mask = np.ones(len(z), np.float32)
  mask[:40] = 0
  commit = lambda z: 0.25 * cb.vq_apply(state.embed, z, mask)[2]
  value, gradient = jax.jit(jax.value_and_grad(commit))(z)
  error = np.where(
    mask[:, None] > 0, z - np.asarray(state.embed)[nearest(state.embed, z)], 0
  )
  elements = mask.sum() * D
  np.testing.assert_allclose(value, 0.25 * (error**2).sum() / elements, 1e-5)
  expected = 2 * 0.25 * error / elements
  np.testing.assert_allclose(gradient, expected, atol=1e-8)


def test_codebook_loss_moves_the_codes_only():
  state, z = make_state(), tokens(3)
  codebook = lambda embed, z: cb.vq_apply(embed, z)[3]
  both = jax.jit(jax.value_and_grad(codebook, (0, 1)))
  value, (by_e, by_z) = both(state.embed, z)
  index = nearest(state.embed, z)
  n, s = tally(z, index)
  error = n[:, None] * np.asarray(state.embed) - s
  np.testing.assert_allclose(by_e, 2 * error / z.size, atol=1e-7)
  np.testing.assert_array_equal(by_z, 0)
  np.testing.assert_allclose(value, vq_apply(state.embed, z)[2])
  through = jax.jit(jax.grad(lambda embed: cb.vq_apply(embed, z)[0].sum()))
  through = through(state.embed)
  np.testing.assert_array_equal(through, 0)


def test_08_metrics():
  uniform = cb.vq_metrics(jnp.full(K, 3.0))
  assert float(uniform['perplexity']) == pytest.approx(K, rel=1e-6)
  assert float(uniform['usage']) == 1 and int(uniform['dead']) == 0
  one = cb.vq_metrics(jnp.zeros(K).at[4].set(9.0))
  assert float(one['perplexity']) == 1 and float(one['top1']) == 1
  assert float(one['usage']) == pytest.approx(1 / K)
  assert int(one['dead']) == K - 1
  n = np.random.default_rng(0).integers(0, 5, K)
  p = n[n > 0] / n.sum()
  found = cb.vq_metrics(jnp.asarray(n, jnp.float32))
  assert float(found['perplexity']) == pytest.approx(
    np.exp(-np.sum(p * np.log(p))), rel=1e-6
  )
  assert float(found['top1']) == pytest.approx(p.max())


def residual_states(z, stages=3):
  states = [make_state(seed) for seed in range(stages)]
  states = jax.tree.map(lambda *x: np.stack(x), *states)
  pool = z, np.ones(len(z), bool)
  return data_init(states, KEY, pool, float(len(z)), options=FIXED)


def test_09_residual_stages():
  z = tokens(8, 300)
  states = residual_states(z)
  found = rvq_apply(states.embed, z)
  rest, errors = np.float64(z), [np.mean(z**2)]
  for q in range(3):
    index = nearest(states.embed[q], rest)
    assert np.mean(index == found.indices[:, q]) > 0.995
    rest = rest - np.asarray(states.embed[q])[found.indices[:, q]]
    errors.append(np.mean(rest**2))
    partial = cb.rvq_lookup(states.embed, found.indices[:, : q + 1])
    np.testing.assert_allclose(partial, z - rest, atol=1e-5)
  assert errors == sorted(errors, reverse=True)
  np.testing.assert_allclose(found.commit, sum(errors[1:]), rtol=1e-5)
  np.testing.assert_allclose(found.z_q, partial, atol=1e-6)

  def commit(z, stage):
    only = jnp.arange(3) == stage
    total = 0.0
    for q in range(3):
      code = cb.rvq_lookup(states.embed, found.indices[:, : q + 1])
      total += only[q] * jnp.mean((z - jax.lax.stop_gradient(code)) ** 2)
    return total

  whole = jax.jit(jax.grad(lambda z: cb.rvq_apply(states.embed, z).commit))(z)
  each = [jax.jit(jax.grad(commit))(z, q) for q in range(3)]
  assert all(np.linalg.norm(x) > 1e-3 for x in each)
  np.testing.assert_allclose(whole, sum(each), atol=1e-7)
  z_q = lambda z: cb.rvq_apply(states.embed, z).z_q.sum()
  identity = jax.jit(jax.grad(z_q))(z)
  np.testing.assert_array_equal(identity, 1)


def test_quantiser_dropout():
  z = tokens(8, 300)
  states = residual_states(z)
  stages = np.arange(300) % 3 + 1
  found = rvq_apply(states.embed, z, stages=jnp.asarray(stages))
  full = rvq_apply(states.embed, z)
  for count in (1, 2, 3):
    rows = stages == count
    expected = cb.rvq_lookup(states.embed, full.indices[rows, :count])
    np.testing.assert_allclose(found.z_q[rows], expected, atol=1e-6)
  np.testing.assert_array_equal(found.valid.sum(1), [300, 200, 100])


def test_11_bfloat16_input():
  rng = np.random.default_rng(0)
  embed = np.float32(1 + 0.05 * rng.normal(size=(256, 32)))
  z = jnp.asarray(1 + 0.05 * rng.normal(size=(500, 32)), jnp.bfloat16)
  found = vq_apply(embed, z)
  np.testing.assert_array_equal(found[1], assign(embed, np.float32(z)))
  np.testing.assert_array_equal(found[1], nearest(embed, np.float32(z)))
  assert found[0].dtype == jnp.float32


def test_17_round_trip():
  for seed in range(3):
    state = make_state(seed)
    codes = cb.vq_lookup(state.embed, jnp.arange(K))
    np.testing.assert_array_equal(assign(state.embed, codes), range(K))
