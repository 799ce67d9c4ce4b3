"""Pre-activation residual network over all leads, after PCLR's encoder.

A stem convolution and four residual units, each four times shorter than the
one before: from [L, leads] to [L / 256, 320]. PCLR (Diamant et al. 2022)
describes 4096 x 12 inputs, kernels of 16 taps and units of 1024 x 128,
256 x 196, 64 x 256 and 16 x 320. Written from
that description: its code is under another licence and was not used. What the
description leaves open is chosen here: the stem has 64 channels, the
shortcut is a mean over four samples and a linear map, and there is no dropout.

At 12 leads it has 6,392,084 parameters at width 1 and 402,677 at 0.25.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ecgjax.models import blocks
from ecgjax.runtime.shapes import Array, Float

STEM = 64
UNITS = (128, 196, 256, 320)  # channels
KERNEL = 16  # taps
STRIDE = 4  # of every unit, samples


class ResidualUnit(nn.Module):
  """BatchNorm, ReLU, convolution, twice; the second one has the stride.

  Attributes:
    features: output channels.
    dtype: compute type of the convolutions, None for the input's.
  """

  features: int
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B L C'],
    train: bool,
    axis_name: str | None = None,
    groups: int = 1,
  ) -> Float[Array, 'B T D']:
    """[B, L, C] -> [B, ceil(L / 4), features]."""
    conv = lambda stride: nn.Conv(
      self.features, (KERNEL,), stride, use_bias=False, dtype=self.dtype
    )
    short = x
    if x.shape[1] % STRIDE:  # the mean of what is left of the last window
      short = jnp.pad(
        x, ((0, 0), (0, -x.shape[1] % STRIDE), (0, 0)), mode='edge'
      )
    shape = (x.shape[0], -1, STRIDE, x.shape[2])
    short = blocks.Linear(self.features, self.dtype)(
      short.reshape(shape).mean(axis=2)  # [B, ceil(L / 4), C]
    )
    norm = lambda x: blocks.BatchNorm(x.shape[2])(x, train, axis_name, groups)
    y = conv(1)(nn.relu(norm(x)))
    y = nn.relu(norm(y))
    return conv(STRIDE)(y) + short


class ResNet1D(nn.Module):
  """The network of this module: [B, L, leads] -> [B, L / 256, 320 * width].

  Attributes:
    width: factor on all channels.
    dtype: compute type of the convolutions, None for the input's.
  """

  width: float = 0.25
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B L C'],
    train: bool,
    axis_name: str | None = None,
    groups: int = 1,
  ) -> Float[Array, 'B T D']:
    """Encodes ECGs with their leads as channels.

    Args:
      x: [B, L, C].
      train: normalise by the statistics of the batch and move the running
        ones (collection 'batch_stats', which must then be mutable).
      axis_name: mapped axis over which the batch is split, or None.
      groups: see `VGG1D`.

    Returns:
      [B, ceil(L / 256), 320 * width]
    """
    scaled = lambda channels: max(1, round(channels * self.width))
    x = nn.Conv(scaled(STEM), (KERNEL,), use_bias=False, dtype=self.dtype)(x)
    for channels in UNITS:
      unit = ResidualUnit(scaled(channels), self.dtype)
      x = unit(x, train, axis_name, groups)
    x = blocks.BatchNorm(x.shape[2])(x, train, axis_name, groups)
    return nn.relu(x)


def make(width: float = 0.25, dtype: Any = None) -> ResNet1D:
  """Makes the encoder; `width` scales all channels, see the module."""
  return ResNet1D(width=width, dtype=dtype)
