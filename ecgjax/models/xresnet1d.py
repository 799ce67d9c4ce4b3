"""XResNet-1D, the strongest plain convolutional baseline on PTB-XL.

ResNet-D (He et al., Bag of tricks, 2019) with convolutions along time, five
taps wide, as benchmarked on PTB-XL by Strodthoff et al. (2020): three
convolutions and a max-pool as stem, an average pool before the 1-tap
convolution of a shortcut, BatchNorm scales of zero at the end of every
residual branch. That benchmark keeps 64 channels in every stage (256 with the
expansion of a bottleneck), where the image network doubles them.

Deviations: weights start as everywhere in this package, U(+-1/sqrt(fan_in)),
not Kaiming normal; features are mean-pooled by the head, not concatenated with
a maximum.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ecgjax.models import blocks
from ecgjax.runtime.shapes import Array, Float

STEM = (32, 32, 64)  # channels


class Residual(nn.Module):
  """Residual block of two convolutions, or three in a bottleneck."""

  features: int
  stride: int = 1
  bottleneck: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B L C'],
    train: bool,
    axis_name: str | None = None,
    groups: int = 1,
  ) -> Float[Array, 'B T D']:
    """[B, L, C] -> [B, ceil(L / stride), features * (4 if bottleneck)]."""
    width = self.features
    out = width * 4 if self.bottleneck else width

    def block(x, features, kernel_size, stride=1, **kwargs):
      module = blocks.ConvNorm(
        features,
        kernel_size,
        stride,
        use_bias=False,
        dtype=self.dtype,
        **kwargs,
      )
      return module(x, train, axis_name, groups)

    last = {'relu': False, 'zero_scale': True}
    if self.bottleneck:
      branch = block(x, width, 1)
      branch = block(branch, width, 5, self.stride)
      branch = block(branch, out, 1, **last)
    else:
      branch = block(x, width, 5, self.stride)
      branch = block(branch, out, 5, **last)
    if self.stride == 2:
      x = _average_pairs(x)
    if x.shape[-1] != out:
      x = block(x, out, 1, relu=False)
    return nn.relu(branch + x)


def _average_pairs(x):
  """[B, L, C] -> [B, ceil(L / 2), C]; an odd last sample stays as it is."""
  if x.shape[1] % 2:
    x = jnp.concatenate([x, x[:, -1:]], axis=1)
  return x.reshape(x.shape[0], -1, 2, x.shape[2]).mean(axis=2)


class XResNet1D(nn.Module):
  """XResNet along time.

  Attributes:
    depths: residual blocks of each stage.
    widths: channels of each stage (before expansion).
    bottleneck: three-convolution blocks with four times the output channels.
    dtype: compute type of the convolutions, None for the input's.
  """

  depths: tuple[int, ...]
  widths: tuple[int, ...]
  bottleneck: bool
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B L C'],
    train: bool,
    axis_name: str | None = None,
    groups: int = 1,
  ) -> Float[Array, 'B T D']:
    """Encodes ECGs.

    Args:
      x: [B, L, C].
      train: see `VGG1D`.
      axis_name: see `VGG1D`.
      groups: see `VGG1D`.

    Returns:
      [B, about L / 32, D], D = 4 * widths[-1] with bottlenecks, else
      widths[-1].
    """
    for i, channels in enumerate(STEM):
      x = blocks.ConvNorm(
        channels, 5, 2 if i == 0 else 1, use_bias=False, dtype=self.dtype
      )(x, train, axis_name, groups)
    x = nn.max_pool(x, (3,), (2,), [(1, 1)])
    for stage, (depth, width) in enumerate(zip(self.depths, self.widths)):
      first = Residual(
        width,
        1 if stage == 0 else 2,
        self.bottleneck,
        self.dtype,
        name=f'stage{stage}_first',
      )
      x = first(x, train, axis_name, groups)
      if depth > 1:
        # The other blocks are alike: one compiled body, stacked parameters.
        repeat = nn.scan(
          lambda block, x, _: (block(x, train, axis_name, groups), None),
          variable_axes={'params': 0, 'batch_stats': 0},
          split_rngs={'params': True},
          length=depth - 1,
        )
        rest = Residual(
          width, 1, self.bottleneck, self.dtype, name=f'stage{stage}_rest'
        )
        x, _ = repeat(rest, x, None)
    return x


SIZES = {
  'small': {
    'depths': (2, 2, 2, 2),
    'widths': (64, 64, 64, 64),
    'bottleneck': False,
  },
  '101': {
    'depths': (3, 4, 23, 3),
    'widths': (64, 64, 64, 64),
    'bottleneck': True,
  },
}


def make(size: str = '101', dtype: Any = None) -> XResNet1D:
  """Makes 'small' (18 layers) or '101' (101 layers).

  Raises:
    ValueError: if there is no such size.
  """
  if size not in SIZES:
    raise ValueError(
      f'size of xresnet1d is {size!r}; choose one of {", ".join(SIZES)}'
    )
  return XResNet1D(**SIZES[size], dtype=dtype)
