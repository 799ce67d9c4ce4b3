"""An encoder in one file: means of patches, one linear layer."""

from typing import Any

from flax import linen as nn


class PatchMean(nn.Module):
  """[B, L, C] -> [B, L / patch, width]."""

  width: int
  patch: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x, train: bool, axis_name=None, groups: int = 1):
    """Encodes ECGs; nothing but `x` matters."""
    del train, axis_name, groups
    x = x.reshape(x.shape[0], -1, self.patch, x.shape[2]).mean(axis=2)
    return nn.Dense(self.width, dtype=self.dtype)(x)


def make(width: int = 8, patch: int = 10, dtype: Any = None) -> PatchMean:
  """Makes the encoder; `patch` in samples."""
  return PatchMean(width, patch, dtype)
