"""1-D encoder and decoder of ECGs, one token per patch of samples.

The encoder lays all leads of a patch side by side and mixes the patches with
dilated convolutions; the decoder mirrors it. Both see several beats at once, so
that the form that the beats share need not be coded in each of them. There are
no batch statistics: a record is coded the same whatever lies beside it.

Both ends are in mV: the encoder divides by a fixed scale and the decoder
multiplies by it. Amplitudes survive, which normalising each record would lose.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ecgjax.models import codec_trunk
from ecgjax.runtime.shapes import Array, Float

DILATIONS = (1, 2, 4, 8)


def trunk(width: int, depth: int, dtype: Any) -> codec_trunk.Trunk:
  """The layers between the ends, of the encoder and of the decoder."""
  return codec_trunk.Trunk(
    width,
    depth,
    kernel=(3,),
    dilations=DILATIONS,
    convolve_first=True,
    dtype=dtype,
  )


class Encoder(nn.Module):
  """ECG to continuous tokens.

  Attributes:
    dim: D of a token.
    width, depth: channels and number of blocks of the trunk.
    patch: samples per token.
    scale: mV, about the standard deviation of the tracings.
    dtype: compute type, None for float32.
  """

  dim: int
  width: int
  depth: int
  patch: int
  scale: float
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B L C'],
    train: bool = False,
    axis_name: str | None = None,
  ) -> Float[Array, 'B T D']:
    """[B, L, C] mV -> [B, L / patch, D].

    Raises:
      ValueError: if the length is no multiple of the patch.
    """
    del train, axis_name  # the interface of every encoder
    batch, length, leads = x.shape
    if length % self.patch:
      raise ValueError(
        f'config.data.length is {length}, which is no multiple of the patch '
        f'of {self.patch} samples (config.model.kwargs.patch)'
      )
    x = (x / self.scale).reshape(batch, -1, self.patch * leads)  # [B, T, P * C]
    x = trunk(self.width, self.depth, self.dtype)(x)
    return nn.Dense(self.dim)(x.astype(jnp.float32))


class Decoder(nn.Module):
  """Tokens to ECG; attributes as in `Encoder`, `leads` is C."""

  leads: int
  width: int
  depth: int
  patch: int
  scale: float
  dtype: Any = None

  @nn.compact
  def __call__(
    self, z: Float[Array, 'B T D']
  ) -> Float[Array, 'B T*{self.patch} {self.leads}']:
    """[B, T, D] -> [B, T * patch, C] mV."""
    x = trunk(self.width, self.depth, self.dtype)(z)
    x = nn.Dense(self.patch * self.leads)(x.astype(z.dtype))
    return self.scale * x.reshape(z.shape[0], -1, self.leads)


def make(
  dim: int = 32,
  width: int = 128,
  depth: int = 4,
  patch: int = 8,
  scale: float = 0.2,
  dtype: Any = None,
) -> Encoder:
  """Makes the encoder of ECGs [B, L, C] in mV; attributes as there."""
  return Encoder(dim, width, depth, patch, scale, dtype)


def make_decoder(encoder: Encoder, shape: tuple[int, int]) -> Decoder:
  """Makes the decoder that belongs to an encoder, for ECGs [L, C]."""
  return Decoder(
    shape[1],
    encoder.width,
    encoder.depth,
    encoder.patch,
    encoder.scale,
    encoder.dtype,
  )
