"""The life of a codebook against NumPy (docs/methods.md, Codebooks)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import codebook as cb
from ecgjax.models import codebook_update as update
from tests.models.codebooks import (
  FIXED,
  KEY,
  D,
  K,
  assign,
  data_init,
  ema,
  learn,
  make_state,
  nearest,
  repeat,
  rvq_apply,
  step,
  tally,
  tokens,
)


def test_update_equals_numpy():
  state = make_state()
  for i in range(3):
    z = tokens(10 + i)
    n, s = tally(z, nearest(state.embed, z))
    expected = ema(state, n, s)
    state, _ = step(state, z, options=FIXED)
    found = state.counts, state.sums, state.embed
    for value, reference in zip(found, expected):
      np.testing.assert_allclose(value, reference, atol=2e-5)
  assert int(state.step) == 3


def test_04_ema_fixed_point():
  rng = np.random.default_rng(0)
  centres = 10 * np.eye(K, dtype=np.float32)
  z = np.repeat(centres, 8, axis=0)
  z += 0.1 * rng.normal(size=z.shape).astype(np.float32)
  embed = jnp.asarray(centres)
  start = cb.VQState(embed, jnp.ones(K), embed, jnp.zeros((), jnp.int32))
  state = repeat(start, z, 100, FIXED._replace(decay=0.9))
  mean = z.reshape(K, 8, K).mean(1)
  np.testing.assert_allclose(state.embed, mean, atol=1e-4)


def test_05_codes_without_tokens_stay_finite():
  state = make_state()
  z = np.tile(np.asarray(state.embed)[3], (50, 1))
  state = repeat(state, z, 400, FIXED._replace(decay=0.5))
  assert float(state.counts[0]) < 1e-30
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
  assert set(np.asarray(assign(state.embed, z))) == {3}


def test_06_sharded_equals_single():
  state, z = make_state(), tokens(5)
  mask = np.ones(200, np.float32)
  mask[150:] = 0
  # A code far away is dead at once, so that the restart is compared as well.
  state = state.replace(
    embed=state.embed.at[2].set(99), counts=state.counts.at[2].set(0)
  )
  options = update.Options(restart_every=1)
  single, found = step(state, z, mask, options)
  mapped = jax.pmap(
    functools.partial(learn, key=KEY, options=options, axis_name='batch'),
    axis_name='batch',
    in_axes=(None, 0, 0),
  )
  replicas, parts = mapped(state, z.reshape(4, 50, D), mask.reshape(4, 50))
  for one, many in zip(jax.tree.leaves(single), jax.tree.leaves(replicas)):
    for replica in many:  # the very same bits
      np.testing.assert_array_equal(replica, many[0])
    np.testing.assert_allclose(many[0], one, atol=1e-6)
  assert not np.allclose(single.embed[2], 99, atol=1)
  np.testing.assert_allclose(parts.commit, found.commit, rtol=1e-6)
  np.testing.assert_array_equal(parts.indices.reshape(200, 1), found.indices)
  mesh = jax.make_mesh(
    (4,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  rows = jax.NamedSharding(mesh, jax.P('batch'))
  place = lambda x: jax.device_put(x, rows)
  sharded, _ = step(state, place(z), place(mask), options)
  for one, many in zip(jax.tree.leaves(single), jax.tree.leaves(sharded)):
    np.testing.assert_allclose(many, one, atol=1e-6)


def test_07_restart():
  state, z = make_state(), tokens(6)
  dead = [2, 5]
  far = jnp.full((2, D), 50.0)
  state = state.replace(
    embed=state.embed.at[jnp.array(dead)].set(far),
    counts=state.counts.at[jnp.array(dead)].set(0),
    sums=state.sums.at[jnp.array(dead)].set(0),
  )
  options = update.Options(restart_every=2, restart_stop=4)
  waits, _ = step(state, z, options=options)
  assert float(waits.counts[dead[0]]) == 0  # step 1 is not due
  new, _ = step(waits, z, options=options)
  load = len(z) / K
  np.testing.assert_allclose(new.counts[jnp.array(dead)], 0.25 * load)
  np.testing.assert_allclose(
    new.sums / new.counts[:, None], new.embed, rtol=1e-3
  )
  for k in dead:  # near a token, and not the same one
    assert np.min(np.abs(z - new.embed[k]).sum(1)) < 0.15
  assert np.abs(new.embed[2] - new.embed[5]).sum() > 0.1
  used = set(nearest(new.embed, z))
  assert set(dead) <= used
  living = np.setdiff1d(np.arange(K), dead)
  expected = ema(waits, *tally(z, nearest(waits.embed, z)))[2]
  np.testing.assert_allclose(new.embed[living], expected[living], atol=1e-5)
  late = waits.replace(step=jnp.asarray(3, jnp.int32))
  late, _ = step(late, z, options=options)
  assert float(late.counts[dead[0]]) < 0.05 * load  # the end is left alone


def test_restart_with_fewer_tokens_than_dead_codes():
  state = make_state().replace(counts=jnp.zeros(K), sums=jnp.zeros((K, D)))
  z = jnp.asarray(tokens(7, 3)) * 10
  options = update.Options(restart_every=1)
  pool = z, jnp.array([True, False, True])
  n = jnp.zeros(K).at[0].set(200.0)
  new = jax.jit(update.vq_ema_update, static_argnames='options')(
    state, n, n[:, None] * z[0], jax.random.key(0), pool, options
  )
  near = nearest(z, new.embed[1:])
  assert set(near) == {0, 2}  # never the one that is not valid
  assert len(np.unique(np.asarray(new.embed), axis=0)) == K


def test_data_init_is_k_means():
  rng = np.random.default_rng(0)
  centres = 10 * rng.normal(size=(K, D))
  z = np.repeat(centres, 30, axis=0) + 0.1 * rng.normal(size=(K * 30, D))
  z = rng.permutation(z).astype(np.float32)
  valid = np.arange(len(z)) % 7 > 0
  z[~valid] = np.nan
  state = jax.tree.map(lambda x: x[None], make_state())
  new = data_init(
    state,
    jax.random.key(1),
    (z, valid),
    10_000.0,
    options=update.Options(lloyd=10),
  )
  embed = np.float64(new.embed[0])
  # A fixed point of Lloyd's iteration, or nearly: compare with one more step.
  n, s = tally(z[valid], nearest(embed, z[valid]))
  again = np.where(n[:, None] > 0, s / np.maximum(n, 1)[:, None], embed)
  error = lambda e: np.mean((z[valid] - e[nearest(e, z[valid])]) ** 2)
  start = z[valid][rng.permutation(valid.sum())[:K]]
  assert error(embed) < 0.7 * error(start)
  assert error(embed) < 1.05 * error(again)
  scaled = np.maximum(n * 10_000 / valid.sum(), 0.25 * 10_000 / K)
  np.testing.assert_allclose(new.counts[0], scaled, rtol=1e-5)
  np.testing.assert_allclose(
    new.sums[0], new.embed[0] * new.counts[0][:, None], rtol=1e-6
  )
  nothing = data_init(state, KEY, (z, valid & False), 0.0, options=FIXED)
  np.testing.assert_array_equal(nothing.embed, state.embed)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_12_non_finite_tokens_are_left_out(bad):
  state, z = make_state(), tokens(4)
  clean, z = np.delete(z, [3, 9], axis=0), z.copy()
  z[3, 1] = z[9, 0] = bad
  expected, reference = step(state, clean)
  new, found = step(state, z)
  for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, atol=1e-6)
  np.testing.assert_allclose(found.commit, reference.commit, rtol=1e-6)
  assert np.isfinite(found.z_q).all()
  np.testing.assert_array_equal(np.flatnonzero(~found.valid[0]), [3, 9])
  everything_dead = update.Options(restart_every=1, restart_threshold=1e9)
  new, _ = step(state, z, options=everything_dead)
  assert np.isfinite(new.embed).all()


def test_13_masked_tokens_and_empty_batches():
  state, z = make_state(), tokens(4)
  mask = np.ones(200, np.float32)
  mask[140:] = 0
  options = update.Options(restart_every=1, restart_threshold=1e9)
  outcomes = []
  for filler in (0, 1e6, np.nan):
    z = z.copy()
    z[140:] = filler
    new, found = step(state, z, mask, options)
    outcomes.append([*jax.tree.leaves(new), found.commit])
  for outcome in outcomes[1:]:
    for a, b in zip(outcome, outcomes[0]):
      np.testing.assert_array_equal(a, b)
  new, found = step(state, z, np.zeros(200, np.float32), options)
  assert float(found.commit) == 0
  for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(state)):
    np.testing.assert_array_equal(a, b)
  nothing = rvq_apply(state.embed[None], z[:0])
  assert nothing.z_q.shape == (0, D) and float(nothing.commit) == 0
  for x in update.vq_stats(z[:0], nothing.indices[:, 0], K, nothing.valid[0]):
    np.testing.assert_array_equal(x, 0)


def test_14_one_compilation_and_donation():
  traces = []

  def one(state, z, key):
    traces.append(1)
    options = update.Options(restart_every=2)
    return learn(state, z, jnp.ones(len(z)), key, options)[0]

  donating = jax.jit(one, donate_argnums=0)
  # Made eagerly: a buffer that two fields share cannot be donated twice.
  state = cb.create(jax.random.key(0), K, D)
  for i in range(4):
    state = donating(state, tokens(i), jax.random.key(i))
  assert len(traces) == 1
  assert int(state.step) == 4
