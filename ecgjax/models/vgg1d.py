"""VGG16-1D, the single-lead encoder of LCD (docs/methods.md).

Thirteen convolutions of three taps in five stages, each followed by BatchNorm
and ReLU; a 2:1 max-pool ends each stage. At width 0.125 and one input channel
it has 78,216 parameters.
"""

from typing import Any

import flax.linen as nn

from ecgjax.models import blocks
from ecgjax.runtime.shapes import Array, Float

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, depth


class VGG1D(nn.Module):
  """VGG16 with convolutions along time.

  Attributes:
    width: factor on the channels 64, 128, 256, 512, 512.
    dtype: compute type of the convolutions, None for the input's.
  """

  width: float = 0.125
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B L C'],
    train: bool,
    axis_name: str | None = None,
    groups: int = 1,
  ) -> Float[Array, 'B T D']:
    """Encodes segments, one row each.

    Args:
      x: [B, L, C]; LCD has C = 1 and one row per lead.
      train: normalise by the statistics of the batch and move the running
        ones (collection 'batch_stats', which must then be mutable).
      axis_name: mapped axis over which the batch is split, or None.
      groups: G; row r is normalised with the rows of group r % G.

    Returns:
      [B, L // 32, 512 * width]
    """
    for channels, depth in STAGES:
      for i in range(depth):
        block = blocks.ConvNorm(
          round(channels * self.width), pool=i == depth - 1, dtype=self.dtype
        )
        x = block(x, train, axis_name, groups)
    return x


def make(width: float = 0.125, dtype: Any = None) -> VGG1D:
  """Makes the encoder; `width` scales the channels of VGG16."""
  return VGG1D(width=width, dtype=dtype)
