"""Building blocks of the 1-D networks.

Every block that uses batch statistics takes `train`, `axis_name` and `groups`
as call arguments: the methods know the mapped axis only when they are called.
Statistics are those of the GLOBAL batch, so that no result depends on the
number of devices; with G groups row r is normalised by those of group r % G
(of its lead, where the rows are the leads of a batch).

Computation runs in `dtype` (None: that of the input); parameters, statistics
and everything that leaves a head are float32 or wider.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ecgjax.models.batch_norm import (
  EPSILON,
  batch_moments,
  by_row,
  normalise,
  pairs,
)
from ecgjax.models.convolution import convolve
from ecgjax.runtime.shapes import Array, Float

MOMENTUM = 0.9  # weight kept by the running statistics


def uniform_fan_in(fan_in: int) -> Callable:
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's start of layers."""
  bound = fan_in**-0.5

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


class Linear(nn.Module):
  """Affine map of the last axis; weights and biases U(+-1/sqrt(fan_in))."""

  features: int
  dtype: Any = None

  @nn.compact
  def __call__(
    self, x: Float[Array, '*B D']
  ) -> Float[Array, '*B {self.features}']:
    """[..., D] -> [..., features]."""
    fan_in = x.shape[-1]
    init = uniform_fan_in(fan_in)
    kernel = self.param('kernel', init, (fan_in, self.features))
    bias = self.param('bias', init, (self.features,))
    dtype = self.dtype or x.dtype
    return x.astype(dtype) @ kernel.astype(dtype) + bias.astype(dtype)


def update_running(module: nn.Module, mean, var, train: bool):
  """Declares the running statistics, moves them if `train`, returns them.

  Several groups move them one after the other, as if each had been a batch.

  Args:
    module: the linen module that owns them.
    mean: [G, C] mean of each group of this batch (None if not `train`).
    var: [G, C] biased variance (None if not `train`).
    train: whether to move the running statistics.

  Returns:
    mean [C], variance [C].
  """
  features = module.features
  running_mean = module.variable(
    'batch_stats', 'mean', jnp.zeros, (features,), jnp.float32
  )
  running_var = module.variable(
    'batch_stats', 'var', jnp.ones, (features,), jnp.float32
  )
  if train and not module.is_initializing():
    for running, batch in ((running_mean, mean), (running_var, var)):
      for group in batch:
        new = MOMENTUM * running.value + (1 - MOMENTUM) * group
        running.value = lax.stop_gradient(new)
  return running_mean.value, running_var.value


class BatchNorm(nn.Module):
  """Batch normalisation over all axes but the last, global-batch statistics."""

  features: int

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B *S C'],
    train: bool,
    axis_name: str | None = None,
    groups: int = 1,
  ) -> Float[Array, 'B *S C']:
    """[B, ..., C] -> [B, ..., C]."""
    scale = self.param('scale', nn.initializers.ones, (self.features,))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    mean, var = batch_moments(x, axis_name, groups) if train else (None, None)
    running = update_running(self, mean, var, train)
    if not train:
      mean, var = (statistic[None] for statistic in running)
    factor = scale * lax.rsqrt(var + EPSILON)  # [G, C]
    offset = bias - mean * factor
    return (x * by_row(factor, x) + by_row(offset, x)).astype(x.dtype)


@jax.custom_vjp
def max_pool(x):
  """2:1 max-pool along time, [B, L, C] -> [B, L//2, C]; an odd last is dropped.

  The gradient goes to the first of two equal samples, as in PyTorch. (Autodiff
  of a maximum of two slices gave wrong gradients when compiled for CPU.)
  """
  first, second = pairs(x)
  return jnp.maximum(first, second)


def _max_pool_fwd(x):
  return max_pool(x), x


def _max_pool_bwd(x, gradient):
  first, second = pairs(x)
  wins = first >= second
  zero = jnp.zeros_like(gradient)
  shares = [jnp.where(wins, gradient, zero), jnp.where(wins, zero, gradient)]
  both = jnp.stack(shares, axis=2)  # [B, L//2, 2, C]
  both = both.reshape(x.shape[0], -1, x.shape[2])  # [B, 2*(L//2), C]
  return (jnp.pad(both, ((0, 0), (0, x.shape[1] % 2), (0, 0))),)


max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


class ConvNorm(nn.Module):
  """Convolution, BatchNorm, optional ReLU, optional 2:1 max-pool.

  BatchNorm removes whatever bias the convolution has, so that training leaves
  the bias out and adds it to the running mean only; its gradient is zero.

  Attributes:
    features: output channels.
    kernel_size: odd number of taps.
    stride: samples from one output of the convolution to the next.
    relu: whether a ReLU follows.
    pool: whether a 2:1 max-pool follows.
    use_bias: whether the convolution has a bias.
    zero_scale: start BatchNorm's scale at zero (last one of a residual branch).
    dtype: compute type of the convolution, None for the input's.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  relu: bool = True
  pool: bool = False
  use_bias: bool = True
  zero_scale: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B L C'],
    train: bool,
    axis_name: str | None = None,
    groups: int = 1,
  ) -> Float[Array, 'B M {self.features}']:
    """[B, L, C] -> [B, L', features]."""
    fan_in = self.kernel_size * x.shape[-1]
    init = uniform_fan_in(fan_in)
    shape = (self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', init, shape)
    bias = self.param('bias', init, (self.features,)) if self.use_bias else 0.0
    start = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
    scale = self.param('scale', start, (self.features,))
    shift = self.param('shift', nn.initializers.zeros, (self.features,))
    dtype = self.dtype or x.dtype
    y = convolve(x.astype(dtype), kernel.astype(dtype), self.stride)
    if train:
      y, mean, var = normalise(
        y, scale, shift, axis_name, self.relu, self.pool, groups
      )
      update_running(self, mean + bias, var, train)
      return y
    mean, var = update_running(self, None, None, train)
    factor = scale * lax.rsqrt(var + EPSILON)
    y = (y * factor + (shift - (mean - bias) * factor)).astype(dtype)
    if self.relu:
      y = nn.relu(y)
    return max_pool(y) if self.pool else y
