"""Batch normalisation with global-batch statistics, alone and fused.

`normalise` is BatchNorm, ReLU and 2:1 max-pool as one function with one
hand-written gradient: it keeps the convolution's output and no intermediate
result, and reads each activation as few times as XLA allows on CPU.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ecgjax.models.convolution import materialise
from ecgjax.runtime import collectives

EPSILON = 1e-5  # PyTorch's default, which LCD uses
_VECTOR = 64  # columns of a sum over rows that fill the vector registers


def batch_moments(x, axis_name: str | None, groups: int = 1):
  """Mean and biased variance of the global batch, over all axes but the last.

  The sums are those of x minus the mean of the first row of a group: squares of
  a channel that lies far from zero would leave nothing of a small variance. A
  row is one of the n whose variance is sought, so that its mean is less than
  sqrt(n) standard deviations away, and the variance is right to about n
  roundings. Devices shift by rows of their own and exchange only moments.

  Args:
    x: [B, ..., C], any float type; the sums are float32 or wider.
    axis_name: mapped axis over which the batch is split, or None.
    groups: G; row r belongs to group r % G, with moments of its own.

  Returns:
    mean [G, C], variance [G, C].
  """
  wide = jnp.promote_types(x.dtype, jnp.float32)
  first = x[:groups].astype(wide).reshape(groups, -1, x.shape[-1])
  shift = lax.stop_gradient(first.mean(axis=1))
  count = x.size // (groups * x.shape[-1])
  mean = group_sum(groups, (x, shift)) / count
  square = group_sum(groups, (x, shift), (x, shift)) / count
  moments = jnp.stack([shift + mean, square - mean * mean])
  means, variances = collectives.all_gather(moments[None], axis_name).swapaxes(
    0, 1
  )  # each [devices, G, C]
  mean = means.mean(axis=0)
  variance = (variances + (means - mean) ** 2).mean(axis=0)
  return mean, jnp.maximum(variance, 0)


def group_sum(groups: int, *factors):
  """Sum of a product over all axes but the last, group by group.

  Args:
    groups: G; row r belongs to group r % G.
    *factors: pairs of an array [B, ..., C] and what is subtracted from it,
      [G, C] or 0.

  Returns:
    [G, C], float32 or wider.
  """
  x = factors[0][0]
  channels = x.shape[-1]
  parts = 1 if groups == 1 else len(x) // groups
  length = x.size // (parts * groups * channels)
  fold = 1
  while fold * channels < _VECTOR and length % (2 * fold) == 0:
    fold *= 2
  wide = jnp.promote_types(x.dtype, jnp.float32)

  def lay(x, less):
    x = x.astype(wide).reshape(parts, groups, -1, fold * channels)
    if isinstance(less, int):
      return x
    return x - jnp.tile(less, (1, fold))[:, None]

  product = functools.reduce(jnp.multiply, [lay(*f) for f in factors])
  return product.sum((0, 2)).reshape(groups, fold, channels).sum(1)


def by_row(values, x):
  """[G, C], one row per group of `x` [B, ..., C] -> broadcasts against `x`."""
  if len(values) == 1:
    return values[0]
  rows = jnp.tile(values, (len(x) // len(values), 1))
  return rows.reshape(len(x), *(1,) * (x.ndim - 2), x.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def normalise(y, scale, shift, axis_name, relu: bool, pool: bool, groups=1):
  """BatchNorm by the statistics of the global batch, then ReLU, then pool.

  Args:
    y: [B, L, C].
    scale: [C].
    shift: [C].
    axis_name: mapped axis over which the batch is split, or None.
    relu: whether a ReLU follows.
    pool: whether a 2:1 max-pool along time follows; it drops an odd last
      sample, and its gradient goes to the first of two equal samples.
    groups: G; row r is normalised by the statistics of the rows of group r % G.

  Returns:
    [B, L (or L // 2), C], and the batch's mean and biased variance, both
    [G, C], through which no gradient flows.
  """
  return _forward(y, scale, shift, axis_name, relu, pool, groups)[0]


def _forward(y, scale, shift, axis_name, relu, pool, groups):
  mean, var = batch_moments(y, axis_name, groups)
  inverse = lax.rsqrt(var + EPSILON)  # of the standard deviation
  factor = scale * inverse
  offset = shift - mean * factor
  activation = materialise(
    lambda y, factor, offset: activate(y, factor, offset, relu, pool)
  )
  a = activation(y, by_row(factor, y), by_row(offset, y))
  return (a, mean, var), (y, scale, shift, mean, inverse)


def activate(y, factor, offset, relu: bool, pool: bool):
  """pool(relu(y * factor + offset)), in the type of `y`."""
  z = y * factor + offset
  if relu:
    z = jnp.maximum(z, 0)
  if pool:
    z = jnp.maximum(*pairs(z))
  return z.astype(y.dtype)


def pairs(y):
  """[B, L, C] -> two [B, L // 2, C]: samples 0, 2, ... and 1, 3, ..."""
  half = y.shape[1] // 2
  both = y[:, : 2 * half].reshape(y.shape[0], half, 2, y.shape[2])
  return both[:, :, 0], both[:, :, 1]


def _backward(axis_name, relu, pool, groups, residuals, gradients):
  y, scale, shift, mean, inverse = residuals
  factor = scale * inverse
  offset = shift - mean * factor
  factors, offsets = by_row(factor, y), by_row(offset, y)

  # Gradient after the ReLU, and what multiplies it in y: behind a max-pool
  # both are at half length, where one sample of each pair has the gradient.
  @materialise
  def after_relu(gradient, y, factor, offset):
    z = activate(y, factor, offset, False, pool)
    return jnp.where(z > 0, gradient, 0).astype(gradient.dtype)

  @materialise
  def times_source(gradient, y, factor, offset, mean):
    first, (y0, y1) = _first_wins(y, factor, offset)
    return gradient * (jnp.where(first, y0, y1) - mean)

  gradient = gradients[0]
  if relu:
    gradient = after_relu(gradient, y, factors, offsets)
  if pool:
    product = times_source(gradient, y, factors, offsets, by_row(mean, y))
    sum_y = group_sum(groups, (product, 0))
  else:
    sum_y = group_sum(groups, (gradient, 0), (y, mean))
  sum_1 = group_sum(groups, (gradient, 0))
  count = y.size // (groups * y.shape[-1])
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

  dy = source_gradient(
    gradient, y, factors, offsets, by_row(slope, y), by_row(level, y)
  )
  return dy, (sum_y * inverse).sum(0), sum_1.sum(0)


def _first_wins(y, factor, offset):
  """Which sample of each pair the max-pool takes, and both of them."""
  y0, y1 = pairs(y)
  return y0 * factor + offset >= y1 * factor + offset, (y0, y1)


normalise.defvjp(_forward, _backward)
