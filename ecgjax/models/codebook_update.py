"""How codebooks learn: averages, restarts of dead codes, start from data.

All of it is a pure function of the GLOBAL batch and of one key, so that the
codebooks of all devices stay the same to the last bit: counts and sums are
summed over devices (never averaged), and whatever is drawn is drawn from a pool
of tokens that every device has. The rules:
docs/methods.md, Codebooks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.models.codebook import (
  Quantised,
  VQState,
  rvq_apply,
  vq_assign,
  vq_lookup,
  wide,
)
from ecgjax.runtime import collectives


class Options(NamedTuple):
  """How a codebook learns.

  Attributes:
    decay: weight g that the averages keep.
    epsilon: added to every count (Laplace smoothing).
    restart_every: steps between restarts of dead codes; 0 for none.
    restart_stop: step after which there are none; leave the end of training
      alone.
    restart_threshold: a code is dead below this share of the load (tokens per
      step and code).
    restart_count: share of the load that a restarted code is given as N; well
      above the threshold, or it would die at the next check.
    lloyd: iterations of k-means at the data-driven start.
  """

  decay: float = 0.99
  epsilon: float = 1e-5
  restart_every: int = 50
  restart_stop: int = 2**31 - 1
  restart_threshold: float = 0.05
  restart_count: float = 0.25
  lloyd: int = 10


def vq_stats(z, indices, size: int, mask):
  """Returns number and sum of the tokens of each code.

  Args:
    z: [n, D].
    indices: [n].
    size: K.
    mask: [n], 0 for tokens that do not count (their z may be anything).

  Returns:
    n [K], s [K, D] of the tokens given; sum them over devices.
  """
  z = jnp.where(mask[:, None] > 0, wide(z), 0)
  weight = (mask > 0).astype(z.dtype)
  add = lambda x: jax.ops.segment_sum(x, indices, size)
  return add(weight), add(z)


def vq_ema_update(state: VQState, n, s, key, pool, options: Options) -> VQState:
  """Moves one codebook towards the tokens of a step.

  Every device must be given the same arguments; replicas then stay equal.

  Args:
    state: before the step.
    n: [K] tokens of each code in the GLOBAL batch (psum, never pmean).
    s: [K, D] their sums.
    key: random key, for restarts.
    pool: tokens that may replace dead codes: [P, D] and [P] bool, whether they
      are valid.
    options: see `Options`.

  Returns:
    The new state; the same one if no token counts.
  """
  keep = options.decay
  counts = keep * state.counts + (1 - keep) * n
  sums = keep * state.sums + (1 - keep) * s
  embed = sums / laplace(counts, options.epsilon)[:, None]
  new = VQState(embed, counts, sums, state.step + 1)
  if options.restart_every:
    new = _restart(new, n.sum() / n.size, key, pool, options)
  empty = n.sum() == 0
  return jax.tree.map(lambda a, b: jnp.where(empty, a, b), state, new)


def laplace(counts, epsilon: float):
  """Smoothed counts: a code without tokens keeps a small share. [K]."""
  total = counts.sum()
  share = (counts + epsilon) / (total + counts.size * epsilon)
  return share * total


def _restart(state, load, key, pool, options):
  """Puts dead codes where tokens are, and resets their averages to that."""
  candidates, valid = pool
  step = state.step
  due = (step % options.restart_every == 0) & (step < options.restart_stop)
  due &= valid.any()
  dead = due & (state.counts < options.restart_threshold * load)
  fresh = _distinct(key, candidates, valid, jnp.cumsum(dead) - 1)
  count = jnp.asarray(options.restart_count * load, state.counts.dtype)
  return state.replace(
    embed=jnp.where(dead[:, None], fresh, state.embed),
    counts=jnp.where(dead, count, state.counts),
    sums=jnp.where(dead[:, None], count * fresh, state.sums),
  )


def _distinct(key, candidates, valid, rank):
  """Random valid candidates, different for different ranks while they last.

  A little noise separates those that come twice.

  Args:
    key: random key.
    candidates: [P, D].
    valid: [P] bool.
    rank: [K] int.

  Returns:
    [K, D].
  """
  order_key, noise_key = jax.random.split(key)
  order = jax.random.uniform(order_key, valid.shape) + jnp.where(valid, 0, 2)
  order = jnp.argsort(order)
  chosen = order[rank % jnp.maximum(valid.sum(), 1)]
  clean = jnp.where(valid[:, None], wide(candidates), 0)
  mean = clean.sum(axis=0) / jnp.maximum(valid.sum(), 1)
  spread = jnp.where(valid[:, None], clean - mean, 0) ** 2
  spread = jnp.sqrt(spread.sum(axis=0) / jnp.maximum(valid.sum(), 1))
  noise = jax.random.normal(noise_key, (rank.size, clean.shape[1]))
  return clean[chosen] + 0.01 * spread * noise


def rvq_data_init(
  state: VQState, key, pool, num_tokens, options: Options
) -> VQState:
  """Starts all stages from data: random tokens, then k-means.

  Args:
    state: [Q, ...] the codebooks so far.
    key: random key, the same on every device.
    pool: [P, D] tokens and [P] bool, from the global batch.
    num_tokens: valid tokens of the global batch, of which the pool is a part.
    options: see `Options`.

  Returns:
    The new state: N = tokens of each code (at least `restart_count` of the
    load), M = e N; the old state if the pool holds no valid token.
  """
  rest, valid = pool
  rest = jnp.where(valid[:, None], wide(rest), 0)
  size = state.embed.shape[1]
  load = num_tokens / size
  stages = []
  for stage_key in jax.random.split(key, state.embed.shape[0]):
    embed = _distinct(stage_key, rest, valid, jnp.arange(size))

    def lloyd(_, embed, rest=rest):
      n, s = vq_stats(rest, vq_assign(embed, rest), size, valid)
      mean = s / jnp.maximum(n, 1)[:, None]
      return jnp.where(n[:, None] > 0, mean, embed)

    embed = jax.lax.fori_loop(0, options.lloyd, lloyd, embed)
    index = vq_assign(embed, rest)
    n, _ = vq_stats(rest, index, size, valid)
    counts = n * (num_tokens / jnp.maximum(valid.sum(), 1))
    counts = jnp.maximum(counts, options.restart_count * load)
    stages.append((embed, counts, embed * counts[:, None]))
    rest = rest - vq_lookup(embed, index)
  embed, counts, sums = (jnp.stack(x) for x in zip(*stages))
  new = VQState(embed, counts, sums, state.step)
  keep = ~valid.any()
  return jax.tree.map(
    lambda a, b: jnp.where(keep, a, b.astype(a.dtype)), state, new
  )


def token_pool(key, z, mask, size: int, axis_name: str | None = None):
  """Draws tokens of the global batch, the same on any number of devices.

  Every row gives the same number of tokens, drawn by its place in the batch.

  Args:
    key: random key, the same on every device.
    z: [B, T, D].
    mask: [B], 0 for padding rows.
    size: tokens per row of the batch, at most T are taken.
    axis_name: mapped axis over which the batch is split, or None.

  Returns:
    tokens [P, D], without gradient, and [P] bool whether they are valid.
  """
  rows, length, dim = z.shape
  fold = jax.vmap(jax.random.fold_in, (None, 0))
  keys = fold(key, collectives.global_row(rows, axis_name))
  choose = lambda key: jax.random.permutation(key, length)[:size]
  chosen = jax.vmap(choose)(keys)  # [B, m]
  z = jax.lax.stop_gradient(jnp.take_along_axis(z, chosen[..., None], axis=1))
  valid = jnp.isfinite(z).all(axis=-1) & (mask[:, None] > 0)
  tokens, valid = z.reshape(-1, dim), valid.reshape(-1)
  return (
    collectives.all_gather(tokens, axis_name),
    collectives.all_gather(valid, axis_name),
  )


def rvq_update(
  state: VQState,
  found: Quantised,
  key,
  pool,
  options: Options,
  axis_name: str | None = None,
) -> VQState:
  """Updates all stages after a step.

  Args:
    state: [Q, ...] with which `found` was made.
    found: what `codebook.rvq_apply` returned for the rows of this device.
    key: random key, the same on every device.
    pool: what `token_pool` returned.
    options: see `Options`.
    axis_name: mapped axis over which the batch is split, or None.
  """
  stages, size, _ = state.embed.shape
  stats = lambda z, index, valid: vq_stats(z, index, size, valid)
  n, s = collectives.psum(
    jax.vmap(stats, (0, 1, 0))(found.residuals, found.indices, found.valid),
    axis_name,
  )
  tokens, valid = pool
  rest = rvq_apply(state.embed, tokens, valid).residuals  # [Q, P, D]
  update = lambda state, n, s, key, rest: vq_ema_update(
    state, n, s, key, (rest, valid), options
  )
  return jax.vmap(update)(state, n, s, jax.random.split(key, stages), rest)
