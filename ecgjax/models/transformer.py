"""Causal transformer over code indices, conditional on classes.

Pre-norm blocks with rotary positions (Su et al. 2021), so that what matters is
the distance of two tokens and not their place in the record, whose start is
arbitrary. The sequence is [class][k_1][k_2]...; residual stages of one token
follow each other. One function serves training (a whole sequence) and sampling
(one token at a time, with a cache of keys and values).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecgjax.runtime.shapes import Array, Bool, Float, Int, Shaped

_BASE = 10_000.0  # slowest rotation, Su et al. 2021


def rotate(x, position):
  """Rotary positions: x [B, S, H, D], position [S] -> [B, S, H, D]."""
  half = x.shape[-1] // 2
  rate = _BASE ** (-jnp.arange(half) / half)
  angle = (position[:, None] * rate)[:, None]  # [S, 1, D/2]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  a, b = x[..., :half], x[..., half:]
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


class Block(nn.Module):
  """Attention to the past, then a two-layer perceptron."""

  width: int
  heads: int

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B S W'], position: Int[Array, ' S'], cache
  ):
    """Args: x [B, S, W]; position [S]; cache of keys and values, each
    [B, N, H, D], into which those of x are written at `position`.

    Returns:
      [B, S, W] and the cache.
    """
    batch, length, _ = x.shape
    h = nn.LayerNorm()(x)
    split = (batch, length, 3, self.heads, self.width // self.heads)
    h = nn.Dense(3 * self.width, use_bias=False)(h).reshape(split)
    query, key = (rotate(h[:, :, i], position) for i in range(2))
    write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(
      old, new.astype(old.dtype), position[0], axis=1
    )
    key, value = write(cache[0], key), write(cache[1], h[:, :, 2])
    score = jnp.einsum('bshd,bnhd->bhsn', query, key)
    score = score * (self.width // self.heads) ** -0.5
    past = jnp.arange(key.shape[1]) <= position[:, None]  # [S, N]
    weight = jax.nn.softmax(jnp.where(past, score, -jnp.inf), axis=-1)
    seen = jnp.einsum('bhsn,bnhd->bshd', weight, value)
    x = x + nn.Dense(self.width)(seen.reshape(x.shape))
    h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
    return x + nn.Dense(self.width)(h), (key, value)


class CausalTransformer(nn.Module):
  """Network that returns the logits of the next code index.

  Attributes:
    num_codes: K.
    num_stages: Q; index n of the sequence belongs to stage n % Q.
    width, depth, heads: of the network; `width / heads` must be even.
  """

  num_codes: int
  num_stages: int
  width: int
  depth: int
  heads: int

  @nn.compact
  def __call__(
    self,
    label: Shaped[Array, 'B C'],
    unconditional: Bool[Array, ' B'],
    tokens: Int[Array, 'B S'],
    cache,
    start=0,
  ):
    """Reads some tokens after those in the cache.

    Args:
      label: [B, C] multi-hot classes.
      unconditional: [B] bool, True hides the classes.
      tokens: [B, S] indices read at positions start..start + S - 1; the one at
        position 0 stands for the classes, its value is ignored.
      cache: keys and values so far, made by `make_cache` for the length of
        the whole sequence.
      start: position of the first token.

    Returns:
      logits [B, S, K] of the index that follows each token, features [B, S, W],
      and the cache.
    """
    position = start + jnp.arange(tokens.shape[1])
    table = self.param(
      'codes',
      nn.initializers.normal(0.02),
      (self.num_stages, self.num_codes, self.width),
    )
    nothing = self.param(
      'unconditional', nn.initializers.normal(0.02), (self.width,)
    )
    classes = nn.Dense(self.width, name='classes')(label)  # [B, W]
    classes = jnp.where(unconditional[:, None], nothing, classes)
    stage = (position - 1) % self.num_stages  # of the token that is read
    x = table[stage, tokens]  # [B, S, W]
    x = jnp.where(position[:, None] == 0, classes[:, None], x)
    new_cache = []
    for layer in cache:
      x, layer = Block(self.width, self.heads)(x, position, layer)
      new_cache.append(layer)
    x = nn.LayerNorm()(x)
    logits = nn.Dense(
      self.num_stages * self.num_codes,
      kernel_init=nn.initializers.zeros,  # starts from the uniform law
      name='head',
    )(x)
    logits = logits.reshape(*tokens.shape, self.num_stages, self.num_codes)
    following = position % self.num_stages
    logits = jnp.take_along_axis(
      logits, following[None, :, None, None], axis=2
    )[:, :, 0]
    return logits, x, tuple(new_cache)

  def make_cache(self, batch: int, length: int):
    """Empty keys and values of all layers for sequences of `length`."""
    shape = (batch, length, self.heads, self.width // self.heads)
    return tuple(
      (jnp.zeros(shape), jnp.zeros(shape)) for _ in range(self.depth)
    )
