"""Codebooks against NumPy in float64; the numbers are those of vqvae.md 7."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax import collectives
from ecgjax.models import codebook as cb
from ecgjax.models import codebook_update as update
from ecgjax.models import fsq

K, D = 16, 4
KEY = jax.random.key(1)
LEVELS = (8, 5, 5, 5)


def nearest(embed, z):
  """[K, D], [n, D] -> [n], by brute force in float64."""
  embed, z = np.float64(embed), np.float64(z)
  return np.array([np.argmin(((embed - row) ** 2).sum(1)) for row in z])


def tally(z, indices, size=K):
  """n [K] and s [K, D], token by token."""
  n, s = np.zeros(size), np.zeros((size, z.shape[1]))
  for row, k in zip(np.float64(z), indices):
    n[k] += 1
    s[k] += row
  return n, s


def ema(state, n, s, g=0.99, eps=1e-5):
  """N, M, e after one update, vqvae.md 2."""
  counts = g * np.float64(state.counts) + (1 - g) * n
  sums = g * np.float64(state.sums) + (1 - g) * s
  total = counts.sum()
  smooth = (counts + eps) / (total + len(counts) * eps) * total
  return counts, sums, sums / smooth[:, None]


def make_state(seed=0, size=K, dim=D):
  return create(seed, size, dim)


def tokens(seed=0, n=200, dim=D):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(n, dim)).astype(np.float32)


def learn(state, z, mask, key, options, axis_name=None):
  """One step of one codebook, the pool being all tokens."""
  stages = jax.tree.map(lambda x: x[None], state)
  found = cb.rvq_apply(stages.embed, z, mask, axis_name=axis_name)
  gather = functools.partial(collectives.all_gather, axis_name=axis_name)
  pool = gather(found.residuals[0]), gather(found.valid[0])
  new = update.rvq_update(stages, found, key, pool, options, axis_name)
  return jax.tree.map(lambda x: x[0], new), found


jit_learn = jax.jit(learn, static_argnames=('options', 'axis_name'))
FIXED = update.Options(restart_every=0)
assign = jax.jit(cb.vq_assign)
vq_apply = jax.jit(cb.vq_apply)
rvq_apply = jax.jit(cb.rvq_apply)
data_init = jax.jit(update.rvq_data_init, static_argnames='options')


@functools.partial(jax.jit, static_argnames=('size', 'dim', 'cosine'))
def create(seed, size, dim, cosine=False):
  return cb.create(jax.random.key(seed), size, dim, cosine)


def step(state, z, mask=None, options=FIXED):
  mask = np.ones(len(z), np.float32) if mask is None else mask
  return jit_learn(state, z, mask, KEY, options)


def repeat(state, z, times, options):
  mask = np.ones(len(z), np.float32)
  body = lambda _, state: learn(state, z, mask, KEY, options)[0]
  run = lambda state: jax.lax.fori_loop(0, times, body, state)
  return jax.jit(run)(state)


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


def test_02_straight_through():
  z, e = jnp.asarray(tokens(1, 1)), jnp.asarray(tokens(2, 1))
  by_z, by_e = jax.jit(jax.jacobian(cb.straight_through, (0, 1)))(z, e)
  np.testing.assert_array_equal(by_z[0, :, 0], np.eye(D))
  np.testing.assert_array_equal(by_e, 0)
  np.testing.assert_allclose(cb.straight_through(z, e), e, atol=1e-6)


def test_rotation_trick():
  """Value e; the Jacobian is |e| / |z| times the rotation of z to e."""
  z, e = np.float64(tokens(1, 1)), np.float64(tokens(2, 1))
  with jax.enable_x64(True):
    apply = lambda z, e: cb.straight_through(z, e, 'rotate')
    value = jax.jit(apply)(z, e)
    by_z, by_e = jax.jit(jax.jacobian(apply, (0, 1)))(z, e)
  np.testing.assert_allclose(value, e, atol=1e-9)
  np.testing.assert_array_equal(by_e, 0)
  a, b = z[0] / np.linalg.norm(z), e[0] / np.linalg.norm(e)
  # Rodrigues in the plane of a and b, written with its skew matrix.
  skew = np.outer(b, a) - np.outer(a, b)
  rotation = np.eye(D) + skew + skew @ skew / (1 + a @ b)
  scale = np.linalg.norm(e) / np.linalg.norm(z)
  np.testing.assert_allclose(by_z[0, :, 0], scale * rotation, atol=1e-9)


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


@pytest.mark.parametrize('stats', update.STATS)
def test_update_equals_numpy(stats):
  state = make_state()
  options = FIXED._replace(stats=stats)
  for i in range(3):
    z = tokens(10 + i)
    n, s = tally(z, nearest(state.embed, z))
    expected = ema(state, n, s)
    state, _ = step(state, z, options=options)
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


def test_10_fsq():
  count = int(np.prod(LEVELS))
  codes = fsq.fsq_lookup(jnp.arange(count), LEVELS)
  assert len(np.unique(np.asarray(codes), axis=0)) == count
  assert np.abs(codes).max() <= 1
  for d, level in enumerate(LEVELS):
    assert len(np.unique(np.asarray(codes)[:, d])) == level
  half = np.array(LEVELS) // 2
  with jax.enable_x64(True):
    _, index = fsq.fsq_round(jnp.asarray(codes) * half, LEVELS)
  np.testing.assert_array_equal(index, np.arange(count))

  z = 3 * tokens(9, 500)
  found, index = jax.jit(lambda z: fsq.fsq_apply(z, LEVELS))(z)
  for row in range(0, 500, 50):  # vqvae.md 2, coordinate by coordinate
    place, expected = 1, 0
    for d, level in enumerate(LEVELS):
      h = (level - 1) * 1.001 / 2
      o = 0.5 if level % 2 == 0 else 0.0
      q = np.round(h * np.tanh(float(z[row, d]) + np.arctanh(o / h)) - o)
      assert found[row, d] == pytest.approx(q / (level // 2), abs=1e-6)
      expected += (q + level // 2) * place
      place *= level
    assert int(index[row]) == expected
  gradient = jax.jit(jax.grad(lambda z: fsq.fsq_apply(z, LEVELS)[0].sum()))(
    np.float32(z / 10)
  )
  assert np.abs(gradient).min() > 0.05


def test_11_bfloat16_input():
  rng = np.random.default_rng(0)
  embed = np.float32(1 + 0.05 * rng.normal(size=(256, 32)))
  z = jnp.asarray(1 + 0.05 * rng.normal(size=(500, 32)), jnp.bfloat16)
  found = vq_apply(embed, z)
  np.testing.assert_array_equal(found[1], assign(embed, np.float32(z)))
  np.testing.assert_array_equal(found[1], nearest(embed, np.float32(z)))
  assert found[0].dtype == jnp.float32


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


def test_17_round_trip():
  for seed in range(3):
    state = make_state(seed)
    codes = cb.vq_lookup(state.embed, jnp.arange(K))
    np.testing.assert_array_equal(assign(state.embed, codes), range(K))
  index = jnp.arange(0, 1000, 7)
  codes = fsq.fsq_lookup(index, LEVELS)
  half = np.array(LEVELS) // 2
  np.testing.assert_array_equal(fsq.fsq_round(codes * half, LEVELS)[1], index)


def test_cosine():
  rng = np.random.default_rng(0)
  z = cb.unit(tokens(2) * rng.uniform(0.1, 9, size=(200, 1)))
  state = create(0, K, D, cosine=True)
  options = FIXED._replace(cosine=True)
  index = assign(state.embed, z)
  np.testing.assert_array_equal(
    index, np.argmax(np.float64(z) @ np.float64(state.embed).T, axis=1)
  )
  state, _ = step(state, z, options=options)
  np.testing.assert_allclose(np.linalg.norm(state.embed, axis=1), 1, atol=1e-6)
  assert np.isfinite(cb.unit(jnp.zeros((1, D)))).all()
  gradient = jax.grad(lambda z: cb.unit(z).sum())(jnp.zeros((1, D)))
  assert np.isfinite(gradient).all()
