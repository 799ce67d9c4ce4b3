"""Codebooks as pure functions: vector quantisation, residual VQ.

A codebook is state that follows the encoder by exponential moving averages
(EMA); it is no parameter of a network and no optimizer sees it. Within a step:
assign with the old codebook, compute the loss, then update by
`codebook_update` (an update before would leak into its own step).

Tokens are rows: z [n, D]. Everything here is computed in float32 or wider,
whatever the type of the encoder's output, and products at the highest
precision: in bfloat16 or TF32 a small spread around a large mean assigns most
tokens wrongly (docs/methods.md, Numerics). Tokens that are masked or not
finite count in no loss and no statistic, and never enter the codebook.

Sources: van den Oord et al. 2017 (VQ-VAE, EMA in its appendix A.1); Zeghidour
et al. 2021 (residual VQ).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ecgjax.runtime import collectives


@struct.dataclass
class VQState:
  """A codebook and its averages; several stages have a leading axis Q.

  Attributes:
    embed: [K, D] codes e.
    counts: [K] average number N of tokens per step.
    sums: [K, D] average sum M of the tokens of each code; e = M / N.
    step: int32, updates done; 0 is a codebook that has not seen data.
  """

  embed: jax.Array
  counts: jax.Array
  sums: jax.Array
  step: jax.Array


class Quantised(NamedTuple):
  """What quantising n tokens with Q stages gives.

  Attributes:
    z_q: [n, D], differentiable in z.
    indices: [n, Q] int32.
    commit: scalar, sum over stages of mean |r - sg(e)|^2; moves z.
    codebook: scalar, the same value; moves the codes (where they are not EMA
      state but parameters).
    residuals: [Q, n, D] input r of each stage, without gradient.
    valid: [Q, n] bool, tokens that count in each stage.
  """

  z_q: jax.Array
  indices: jax.Array
  commit: jax.Array
  codebook: jax.Array
  residuals: jax.Array
  valid: jax.Array


def wide(x):
  """Converts to float32; float64 stays."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def create(key, size: int, dim: int) -> VQState:
  """Makes a codebook before any data: N = 1, M = e, e normal / sqrt(D)."""
  embed = jax.random.normal(key, (size, dim), jnp.float32) / math.sqrt(dim)
  sums = jnp.copy(embed)  # one buffer cannot be donated twice
  return VQState(embed, jnp.ones(size), sums, jnp.zeros((), jnp.int32))


def vq_assign(embed, z):
  """Returns the index of the nearest code; the lowest one among equals.

  A code that is not finite is nobody's nearest (it would be everybody's, since
  a comparison with nan holds for none); if none is finite, the index is 0 and
  what is looked up there is not finite either.

  The mean of the codebook is subtracted from both sides, or rounding decides
  where the spread is small against the offset.

  Args:
    embed: [K, D].
    z: [..., D].

  Returns:
    [...] int32.
  """
  embed, z = wide(embed), wide(z)
  finite = jnp.isfinite(embed).all(axis=-1)
  centre = embed.mean(axis=0, where=finite[:, None])
  embed, z = jnp.where(finite[:, None], embed - centre, 0), z - centre
  product = jnp.matmul(z, embed.T, precision='highest')
  distance = jnp.sum(embed * embed, axis=-1) - 2 * product
  distance = jnp.where(finite, distance, jnp.inf)
  return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def vq_lookup(embed, indices):
  """Looks codes up: [K, D], [...] -> [..., D]."""
  return embed.at[indices].get(mode='promise_in_bounds')


def rvq_lookup(embed, indices):
  """Sum of the codes of the stages given: [Q, K, D], [..., q] -> [..., D]."""
  stages = range(indices.shape[-1])
  return sum(vq_lookup(embed[q], indices[..., q]) for q in stages)


def straight_through(z, e):
  """Returns e [n, D]; the gradient goes to z unchanged and not to e."""
  return z + jax.lax.stop_gradient(e - z)


def rvq_apply(
  embed,
  z,
  mask=None,
  stages=None,
  *,
  axis_name: str | None = None,
) -> Quantised:
  """Quantises tokens by stages, each of which codes what the last one left.

  One straight-through estimator spans all stages: inside of the loop, all
  commitment gradients but the first would vanish. Losses are means over the
  elements of the global batch.

  Args:
    embed: [Q, K, D].
    z: [n, D].
    mask: [n], 0 for padding; None counts every token.
    stages: [n] number of stages that code each token (quantiser dropout); None
      for all.
    axis_name: mapped axis over which the batch is split, or None.
  """
  z, embed = wide(z), wide(embed)
  finite = jnp.isfinite(z).all(axis=-1)
  z = jnp.where(finite[:, None], z, 0)
  counted = finite if mask is None else finite & (mask > 0)
  rest, total = z, jnp.zeros_like(z)
  commit = codebook = jnp.zeros((), z.dtype)
  indices, residuals, valid = [], [], []
  for q in range(embed.shape[0]):
    active = jnp.ones_like(finite) if stages is None else q < stages
    fixed = jax.lax.stop_gradient(rest)
    index = vq_assign(jax.lax.stop_gradient(embed[q]), fixed)
    code = vq_lookup(embed[q], index)
    indices.append(index)
    residuals.append(fixed)
    valid.append(counted & active)
    constant = jax.lax.stop_gradient(code)
    commit += _token_mean(rest - constant, valid[q], axis_name)
    codebook += _token_mean(fixed - code, valid[q], axis_name)
    constant = jnp.where(active[:, None], constant, 0)
    rest, total = rest - constant, total + constant
  return Quantised(
    straight_through(z, total),
    jnp.stack(indices, axis=-1),
    commit,
    codebook,
    jnp.stack(residuals),
    jnp.stack(valid),
  )


def vq_apply(
  embed,
  z,
  mask=None,
  *,
  axis_name: str | None = None,
):
  """`rvq_apply` with one codebook [K, D].

  Returns:
    z_q [n, D], indices [n], commit, codebook.
  """
  found = rvq_apply(embed[None], z, mask, axis_name=axis_name)
  return found.z_q, found.indices[:, 0], found.commit, found.codebook


def _token_mean(error, valid, axis_name):
  """Mean square over the elements of valid tokens of the global batch."""
  square = jnp.where(valid[:, None], error, 0) ** 2
  total, count = collectives.psum(
    (square.sum(), valid.sum() * error.shape[-1]), axis_name
  )
  return total / jnp.maximum(count, 1)


def vq_metrics(n) -> dict[str, jax.Array]:
  """Measures how a codebook is used.

  Args:
    n: [K] tokens of each code, over all devices; over an epoch where `usage`
      is to be compared (that of a batch depends on its size).

  Returns:
    `perplexity` exp(-sum p log p), `usage` share of codes hit, `top1` share of
    the most frequent code, `dead` number of codes never hit.
  """
  p = n / jnp.maximum(n.sum(), 1)
  entropy = -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1)))
  return {
    'perplexity': jnp.exp(entropy),
    'usage': jnp.mean(n > 0, dtype=p.dtype),
    'top1': p.max(),
    'dead': jnp.sum(n == 0),
  }
