"""What the codecs of signals and of pages are made of between their ends."""

from typing import Any

import flax.linen as nn

from ecgjax.runtime.shapes import Array, Float


class Block(nn.Module):
  """Residual block: LayerNorm, dilated convolution, GELU, linear.

  Attributes:
    width: W.
    kernel: taps along each axis of the tokens.
    dilation: tokens from one tap to the next, along each axis.
    dtype: compute type, None for float32.
  """

  width: int
  kernel: tuple[int, ...]
  dilation: tuple[int, ...]
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S W']) -> Float[Array, 'B *S W']:
    """[B, ..., W] -> [B, ..., W]."""
    h = nn.LayerNorm(dtype=self.dtype)(x)
    h = nn.Conv(
      self.width, self.kernel, kernel_dilation=self.dilation, dtype=self.dtype
    )(h)
    return x + nn.Dense(self.width, dtype=self.dtype)(nn.gelu(h))


class Trunk(nn.Module):
  """First layer, residual blocks of rising dilation along time, LayerNorm.

  Attributes:
    width: W.
    depth: number of blocks.
    kernel: taps along each axis of the tokens; time is the last one.
    dilations: along time, taken in turn by the blocks.
    convolve_first: whether the first layer is a convolution, else linear.
    dtype: compute type, None for float32.
  """

  width: int
  depth: int
  kernel: tuple[int, ...]
  dilations: tuple[int, ...]
  convolve_first: bool
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S C']) -> Float[Array, 'B *S W']:
    """[B, ..., C] -> [B, ..., W]."""
    if self.convolve_first:
      x = nn.Conv(self.width, self.kernel, dtype=self.dtype)(x)
    else:
      x = nn.Dense(self.width, dtype=self.dtype)(x)
    others = (1,) * (len(self.kernel) - 1)
    for i in range(self.depth):
      dilation = (*others, self.dilations[i % len(self.dilations)])
      x = Block(self.width, self.kernel, dilation, self.dtype)(x)
    return nn.LayerNorm(dtype=self.dtype)(x)
