"""Batch normalisation with global-batch statistics, alone and fused.

`normalise` is BatchNorm, ReLU and 2:1 max-pool as one function with one
hand-written gradient: it keeps the convolution's output and no intermediate
result, and reads each activation as few times as XLA allows on CPU.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ecgjax import collectives
from ecgjax.models.convolution import materialise

EPSILON = 1e-5  # PyTorch's default, which LCD uses
_VECTOR = 64  # columns of a sum over rows that fill the vector registers


def batch_moments(x, axis_name: str | None):
  """Mean and biased variance of the global batch, over all axes but the last.

  Args:
    x: [..., C], any float type; the sums are float32 or wider.
    axis_name: mapped axis over which the batch is split, or None.

  Returns:
    mean [C], variance [C].
  """
  count = x.size // x.shape[-1]
  moments = (channel_sum(x) / count, channel_sum(x, x) / count)
  mean, square = collectives.pmean(moments, axis_name)
  return mean, jnp.maximum(square - mean * mean, 0)


def channel_sum(*factors):
  """Sum of the product of arrays [..., C] over all axes but the last: [C]."""
  channels = factors[0].shape[-1]
  rows = factors[0].size // channels
  fold = 1
  while fold * channels < _VECTOR and rows % (2 * fold) == 0:
    fold *= 2
  wide = jnp.promote_types(factors[0].dtype, jnp.float32)
  product = functools.reduce(
    jnp.multiply,
    [f.astype(wide).reshape(-1, fold * channels) for f in factors],
  )
  return product.sum(0).reshape(fold, channels).sum(0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalise(y, scale, shift, axis_name, relu: bool, pool: bool):
  """BatchNorm by the statistics of the global batch, then ReLU, then pool.

  Args:
    y: [B, L, C].
    scale: [C].
    shift: [C].
    axis_name: mapped axis over which the batch is split, or None.
    relu: whether a ReLU follows.
    pool: whether a 2:1 max-pool along time follows; it drops an odd last
      sample, and its gradient goes to the first of two equal samples.

  Returns:
    [B, L (or L // 2), C], and the batch's mean and biased variance, both [C],
    through which no gradient flows.
  """
  return _forward(y, scale, shift, axis_name, relu, pool)[0]


def _forward(y, scale, shift, axis_name, relu, pool):
  mean, var = batch_moments(y, axis_name)
  inverse = lax.rsqrt(var + EPSILON)  # of the standard deviation
  factor = scale * inverse
  activation = materialise(
    lambda y, factor, offset: activate(y, factor, offset, relu, pool)
  )
  a = activation(y, factor, shift - mean * factor)
  return (a, mean, var), (y, scale, shift, mean, inverse)


def activate(y, factor, offset, relu: bool, pool: bool):
  """pool(relu(y * factor + offset)), in the type of `y`."""
  z = y * factor + offset
  if relu:
    z = jnp.maximum(z, 0)
  if pool:
    pairs = _pairs(z)
    z = jnp.maximum(pairs[:, :, 0], pairs[:, :, 1])
  return z.astype(y.dtype)


def _pairs(y):
  """[B, L, C] -> [B, L // 2, 2, C]."""
  half = y.shape[1] // 2
  return y[:, : 2 * half].reshape(y.shape[0], half, 2, y.shape[2])


def _backward(axis_name, relu, pool, residuals, gradients):
  y, scale, shift, mean, inverse = residuals
  factor = scale * inverse
  offset = shift - mean * factor

  # Gradient after the ReLU, and what multiplies it in y: behind a max-pool
  # both are at half length, where one sample of each pair has the gradient.
  @materialise
  def after_relu(gradient, y, factor, offset):
    z = activate(y, factor, offset, False, pool)
    return jnp.where(z > 0, gradient, 0).astype(gradient.dtype)

  @materialise
  def times_source(gradient, y, factor, offset):
    first, (y0, y1) = _first_wins(y, factor, offset)
    return gradient * jnp.where(first, y0, y1).astype(mean.dtype)

  gradient = gradients[0]
  if relu:
    gradient = after_relu(gradient, y, factor, offset)
  if pool:
    sum_y = channel_sum(times_source(gradient, y, factor, offset))
  else:
    sum_y = channel_sum(gradient, y)
  sum_1 = channel_sum(gradient)
  sum_y -= mean * sum_1  # against y - mean
  count = y.size // y.shape[-1]
  mean_1, mean_y = collectives.pmean((sum_1 / count, sum_y / count), axis_name)

  # dy = factor (gradient - mean_1 - (y - mean) mean_y / variance)
  slope = factor * inverse**2 * mean_y
  level = factor * mean_1 - mean * slope

  @materialise
  def source_gradient(gradient, y, factor, offset, slope, level):
    rest = y * slope + level
    if pool:
      first, _ = _first_wins(y, factor, offset)
      takes = first[:, :, None] == jnp.array([True, False])[:, None]
      gradient = jnp.where(takes, gradient[:, :, None], 0)  # [B, L//2, 2, C]
      gradient = gradient.reshape(y.shape[0], -1, y.shape[2])
      odd = y.shape[1] % 2
      gradient = jnp.pad(gradient, ((0, 0), (0, odd), (0, 0)))
    return (gradient * factor - rest).astype(y.dtype)

  dy = source_gradient(gradient, y, factor, offset, slope, level)
  return dy, sum_y * inverse, sum_1


def _first_wins(y, factor, offset):
  """Which sample of each pair the max-pool takes, and both of them."""
  pairs = _pairs(y)
  z = pairs * factor + offset
  return z[:, :, 0] >= z[:, :, 1], (pairs[:, :, 0], pairs[:, :, 1])


normalise.defvjp(_forward, _backward)
