"""ViT-1D: a transformer on patches of all leads.

Pre-norm vision transformer (Dosovitskiy et al. 2021) with patches along time
and fixed sine-cosine positions, so that one model reads any length. No class
token: heads pool over time.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ecgjax.models import blocks
from ecgjax.runtime.shapes import Array, Float


def sincos_positions(steps: int, width: int):
  """[steps, width] sine-cosine positions (Vaswani et al. 2017)."""
  rate = 10_000.0 ** (-jnp.arange(width // 2) / (width // 2))
  angle = jnp.arange(steps)[:, None] * rate
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


class Layer(nn.Module):
  """Self-attention and MLP, each after LayerNorm and with a shortcut."""

  heads: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B T D']) -> Float[Array, 'B T D']:
    """[B, T, D] -> [B, T, D]."""
    width = x.shape[-1]
    norm = lambda: nn.LayerNorm(dtype=self.dtype)
    attention = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype)
    x = x + attention(norm()(x))
    h = nn.gelu(blocks.Linear(4 * width, self.dtype)(norm()(x)))
    return x + blocks.Linear(width, self.dtype)(h)


class ViT1D(nn.Module):
  """Transformer over patches of samples: [B, L, C] -> [B, T, D].

  Attributes:
    width: D.
    depth: layers.
    heads: attention heads; divides the width.
    patch: samples per patch; divides the length.
    dtype: compute type, None for the input's.
  """

  width: int
  depth: int
  heads: int
  patch: int
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
      train: not used, as all that follows: there are no batch statistics.
        Every encoder is called alike.
      axis_name: not used.
      groups: not used.

    Returns:
      [B, L / patch, D].

    Raises:
      ValueError: if the patch does not divide the length.
    """
    del train, axis_name, groups
    batch, length, leads = x.shape
    if length % self.patch:
      raise ValueError(
        f'patch {self.patch} of vit1d does not divide the length {length}'
      )
    steps = length // self.patch
    x = x.reshape(batch, steps, self.patch * leads)  # [B, T, patch * C]
    x = blocks.Linear(self.width, self.dtype)(x)
    x = x + sincos_positions(steps, self.width).astype(x.dtype)
    layers = nn.scan(
      lambda layer, x, _: (layer(x), None),
      variable_axes={'params': 0},
      split_rngs={'params': True},
      length=self.depth,
    )
    x, _ = layers(Layer(self.heads, self.dtype, name='layers'), x, None)
    return nn.LayerNorm(dtype=self.dtype)(x)


def make(
  width: int = 192,
  depth: int = 6,
  heads: int = 3,
  patch: int = 20,
  dtype: Any = None,
) -> ViT1D:
  """Makes the encoder; `patch` in samples, `depth` layers of `width`."""
  return ViT1D(width, depth, heads, patch, dtype)
