"""What follows an encoder: pooling, projection, classification."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecgjax.models import blocks
from ecgjax.runtime.shapes import Array, Float, Shaped


def global_average(h):
  """Mean over time: [B, T, D] -> [B, D], float32 or wider."""
  return h.mean(axis=1, dtype=jnp.promote_types(h.dtype, jnp.float32))


class ProjectionMLP(nn.Module):
  """Linear, BatchNorm, ReLU, Linear: LCD's projector and its predictor.

  Attributes:
    hidden: width of the middle layer.
    features: width of the output.
    dtype: compute type of the products, None for the input's.
  """

  hidden: int = 512
  features: int = 512
  dtype: Any = None

  @nn.compact
  def __call__(
    self, h: Float[Array, 'B D'], train: bool, axis_name: str | None = None
  ) -> Float[Array, 'B {self.features}']:
    """[B, D] -> [B, features], in the type of `h`."""
    x = blocks.Linear(self.hidden, self.dtype)(h)
    x = blocks.BatchNorm(self.hidden)(x, train, axis_name)
    return blocks.Linear(self.features, self.dtype)(nn.relu(x)).astype(h.dtype)


class AttentionPool(nn.Module):
  """Softmax-weighted mean with a learned score, e.g. over leads."""

  hidden: int = 64

  @nn.compact
  def __call__(
    self, h: Float[Array, 'B N D'], mask: Shaped[Array, 'B N'] | None = None
  ) -> tuple[Float[Array, 'B D'], Float[Array, 'B N']]:
    """Pools the middle axis.

    Args:
      h: [B, N, D].
      mask: [B, N], 0 where there is nothing to pool (a missing lead); at least
        one entry of a row must be 1.

    Returns:
      pooled [B, D], weights [B, N] (they sum to one).
    """
    scores = blocks.Linear(1)(jnp.tanh(blocks.Linear(self.hidden)(h)))[..., 0]
    if mask is not None:
      scores = jnp.where(mask > 0, scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)  # [B, N]
    return jnp.einsum('bn,bnd->bd', weights, h), weights


class Classifier(nn.Module):
  """Linear classifier on the features of a record.

  Attributes:
    num_classes: K.
    pool: 'concat' (all leads side by side, the LCD reference), 'mean' or
      'attention' over the leads.
  """

  num_classes: int
  pool: str = 'concat'

  @nn.compact
  def __call__(
    self, features: Float[Array, 'B D'] | Float[Array, 'B C D']
  ) -> Float[Array, 'B {self.num_classes}']:
    """[B, C, D] (or [B, D], one vector per record) -> logits [B, K]."""
    if features.ndim == 2:
      features = features[:, None]
    if self.pool == 'concat':
      pooled = features.reshape(features.shape[0], -1)  # [B, C * D]
    elif self.pool == 'mean':
      pooled = features.mean(axis=1)
    elif self.pool == 'attention':
      pooled, _ = AttentionPool()(features)
    else:
      raise ValueError(
        f'pool is {self.pool!r}; choose one of concat, mean, attention'
      )
    return blocks.Linear(self.num_classes)(pooled)
