"""2-D encoder and decoder of ECG pages, one token per patch of pixels.

As `codec1d`: the encoder lays the pixels of a patch side by side and mixes the
patches with convolutions, dilated along time; the decoder mirrors it and ends
in one logit of ink per pixel. Nothing is computed at full resolution but the
first and the last linear map, since most of a page is white.

A page that is no multiple of the patch is padded with white, centred; what the
decoder draws there is cut off.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ecgjax.models import codec_trunk
from ecgjax.runtime.shapes import Array, Float

DILATIONS = (1, 2, 4)  # along time
BLANK = -3.0  # logit before training: one pixel in twenty is ink


def trunk(width: int, depth: int, dtype: Any) -> codec_trunk.Trunk:
  """The layers between the ends, of the encoder and of the decoder."""
  return codec_trunk.Trunk(
    width,
    depth,
    kernel=(3, 3),
    dilations=DILATIONS,
    convolve_first=False,
    dtype=dtype,
  )


class Encoder(nn.Module):
  """Page to continuous tokens, line by line.

  Attributes:
    dim: D of a token.
    width, depth: channels and number of blocks of the trunk.
    patch: pixel rows and columns of a token.
    dtype: compute type, None for float32.
  """

  dim: int
  width: int
  depth: int
  patch: tuple[int, int]
  dtype: Any = None

  scale = 1.0  # ink is of order one

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B H W'],
    train: bool = False,
    axis_name: str | None = None,
  ) -> Float[Array, 'B T D']:
    """[B, H, W] ink -> [B, h * w, D]."""
    del train, axis_name  # the interface of every encoder
    rows, columns = grid(x.shape[1:], self.patch)
    edges = [(0, 0), *margins(x.shape[1:], self.patch)]
    x = jnp.pad(x, edges).reshape(
      len(x), rows, self.patch[0], columns, self.patch[1]
    )
    x = x.transpose(0, 1, 3, 2, 4).reshape(len(x), rows, columns, -1)
    x = trunk(self.width, self.depth, self.dtype)(x)  # [B, h, w, W]
    z = nn.Dense(self.dim)(x.astype(jnp.float32))
    return z.reshape(len(x), -1, self.dim)


class Decoder(nn.Module):
  """Tokens to logits of ink; attributes as in `Encoder`.

  Attributes:
    shape: H and W of the page.
  """

  shape: tuple[int, int]
  width: int
  depth: int
  patch: tuple[int, int]
  dtype: Any = None

  @nn.compact
  def __call__(self, z: Float[Array, 'B T D']) -> Float[Array, 'B H W']:
    """[B, h * w, D] -> [B, H, W] logits."""
    rows, columns = grid(self.shape, self.patch)
    x = z.reshape(len(z), rows, columns, -1)
    x = trunk(self.width, self.depth, self.dtype)(x)
    x = nn.gelu(nn.Dense(2 * self.width, dtype=self.dtype)(x))
    white = nn.initializers.constant(BLANK)
    x = nn.Dense(self.patch[0] * self.patch[1], bias_init=white)(
      x.astype(z.dtype)
    )
    x = x.reshape(len(z), rows, columns, *self.patch).transpose(0, 1, 3, 2, 4)
    x = x.reshape(len(z), rows * self.patch[0], columns * self.patch[1])
    (top, _), (left, _) = margins(self.shape, self.patch)
    return x[:, top : top + self.shape[0], left : left + self.shape[1]]


def grid(shape, patch) -> tuple[int, int]:
  """Rows and columns of tokens of a page of H by W pixels."""
  return tuple(-(-n // p) for n, p in zip(shape, patch))


def margins(shape, patch) -> list[tuple[int, int]]:
  """Pixels of white before and after the page, both ways."""
  edges = []
  for n, p in zip(shape, patch):
    missing = -n % p
    edges.append((missing // 2, missing - missing // 2))
  return edges


def make(
  dim: int = 32,
  width: int = 128,
  depth: int = 3,
  patch: tuple[int, int] = (20, 20),
  dtype: Any = None,
) -> Encoder:
  """Makes the encoder of pages [B, H, W] of ink; attributes as there."""
  return Encoder(dim, width, depth, tuple(patch), dtype)


def make_decoder(encoder: Encoder, shape: tuple[int, int]) -> Decoder:
  """Makes the decoder that belongs to an encoder, for pages of H by W."""
  return Decoder(
    tuple(shape), encoder.width, encoder.depth, encoder.patch, encoder.dtype
  )
