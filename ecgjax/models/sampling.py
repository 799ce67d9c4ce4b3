"""Sampling from an autoregressive prior over code indices.

Temperature, top-k, classifier-free guidance (Ho & Salimans 2022), and partial
resampling: positions that are kept from a parent are read instead of drawn.
Pure functions around a `read` of the network, see `models.transformer`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def guided(conditional, unconditional, guidance: float):
  """Classifier-free guidance of logits [..., K]; 1 is no guidance."""
  return unconditional + guidance * (conditional - unconditional)


def keep_top(logits, k: int):
  """The k largest logits, the others minus infinity; 0 keeps all. [..., K]."""
  if not k:
    return logits
  smallest = jax.lax.top_k(logits, k)[0][..., -1:]
  return jnp.where(logits < smallest, -jnp.inf, logits)


def sample(
  key,
  read: Callable,
  caches,
  length: int,
  *,
  temperature: float = 1.0,
  top_k: int = 0,
  guidance: float = 1.0,
  given=None,
  keep=None,
):
  """Draws sequences of code indices.

  The draw of a row depends on the key and its place in the batch only.

  Args:
    key: random key.
    read: (tokens [B], position, cache, unconditional: bool) -> logits [B, K] of
      the next index, cache.
    caches: (cache, cache) of the conditional and the unconditional pass.
    length: number of indices, N.
    temperature: divides the logits; 0 takes the most probable index.
    top_k: number of indices among which is drawn, 0 for all.
    guidance: weight of the classes, 1 for the plain conditional prior (the
      unconditional pass is then not made).
    given: [B, N] indices of parents, or None.
    keep: [B, N] bool, where the parent's index is kept, or None.

  Returns:
    [B, N] int32.
  """
  batch = jax.tree.leaves(caches)[0].shape[0]
  if given is None:
    given = jnp.zeros((batch, length), jnp.int32)
    keep = jnp.zeros((batch, length), bool)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))

  def draw(position, logits):
    if not temperature:
      return jnp.argmax(logits, axis=-1)
    logits = keep_top(logits, top_k) / temperature
    fold = lambda key: jax.random.fold_in(key, position)
    return jax.vmap(jax.random.categorical)(jax.vmap(fold)(keys), logits)

  def step(carry, inputs):
    tokens, (with_class, without) = carry
    position, parent, kept = inputs
    logits, with_class = read(tokens, position, with_class, False)
    if guidance != 1:
      plain, without = read(tokens, position, without, True)
      logits = guided(logits, plain, guidance)
    tokens = jnp.where(kept, parent, draw(position, logits))
    tokens = tokens.astype(jnp.int32)
    return (tokens, (with_class, without)), tokens

  start = jnp.zeros(batch, jnp.int32)  # position 0 stands for the classes
  inputs = jnp.arange(length), given.T, keep.T
  _, drawn = jax.lax.scan(step, (start, caches), inputs)
  return drawn.T
