"""Finite scalar quantisation: a product grid instead of a codebook.

Mentzer et al. 2023 (FSQ). No state and no loss: every coordinate is bounded and
rounded to one of its levels. Levels (8, 5, 5, 5) give 1,000 codes.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def fsq_bound(z, levels: Sequence[int]):
  """Squashes z [..., d] to the range of `levels` (d integers), b [..., d]."""
  levels = np.asarray(levels, np.float64)
  half = (levels - 1) * 1.001 / 2
  offset = np.where(levels % 2 == 0, 0.5, 0.0)
  shift = np.arctanh(offset / half)
  z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
  half, offset, shift = (jnp.asarray(x, z.dtype) for x in (half, offset, shift))
  return half * jnp.tanh(z + shift) - offset


def fsq_round(b, levels: Sequence[int]):
  """Rounds bounded values, with the gradient of the identity.

  Args:
    b: [..., d] from `fsq_bound`, or a mixture of such.
    levels: d integers.

  Returns:
    codes [..., d] in [-1, 1] and indices [...] int32.
  """
  half = np.asarray(levels) // 2
  q = b + jax.lax.stop_gradient(jnp.round(b) - b)
  digits = jnp.round(jax.lax.stop_gradient(b)).astype(jnp.int32) + half
  index = jnp.sum(digits * _place_values(levels), axis=-1, dtype=jnp.int32)
  return q / half, index


def fsq_apply(z, levels: Sequence[int]):
  """Finite scalar quantisation: no codebook, no state, no loss.

  Args:
    z: [..., d].
    levels: d integers; their product is the number of codes.

  Returns:
    codes [..., d] in [-1, 1], differentiable in z, and indices [...] int32.
  """
  return fsq_round(fsq_bound(z, levels), levels)


def fsq_lookup(indices, levels: Sequence[int]):
  """Looks codes up: indices [...] -> codes [..., d]."""
  levels = np.asarray(levels)
  digits = indices[..., None] // _place_values(levels) % levels
  return (digits - levels // 2) / (levels // 2)


def _place_values(levels) -> np.ndarray:
  return np.concatenate([[1], np.cumprod(levels)[:-1]]).astype(np.int32)
