"""Random numbers by fixed slots of a key.

Every quantity that is drawn has a slot of its own, `fold_in(key, slot)`, so
that a new draw never changes an old one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

COUNT = 80


def normal(key, slot, shape=()):
  """Standard normal numbers of a slot of the key."""
  return jax.random.normal(jax.random.fold_in(key, slot), shape)


def uniform(key, slot, low=0.0, high=1.0, shape=()):
  """Numbers of a slot of the key, uniform in [low, high)."""
  key = jax.random.fold_in(key, slot)
  return low + (high - low) * jax.random.uniform(key, shape)


class Draws(NamedTuple):
  """All scalar draws of a key at once, which compiles one hash for all slots.

  The values are those of `normal` and `uniform`.
  """

  key: jax.Array
  normals: jax.Array  # [COUNT]
  uniforms: jax.Array  # [COUNT]

  @classmethod
  def of(cls, key) -> 'Draws':
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(COUNT))
    return cls(
      key, jax.vmap(jax.random.normal)(keys), jax.vmap(jax.random.uniform)(keys)
    )

  def normal(self, slot, shape=()):
    if shape == ():
      return self.normals[slot]
    return normal(self.key, slot, shape)

  def uniform(self, slot, low=0.0, high=1.0, shape=()):
    if shape == ():
      return low + (high - low) * self.uniforms[slot]
    return uniform(self.key, slot, low, high, shape)

  def integer(self, slot, low, high, shape=()):
    """Uniform integers low..high-1; the bounds may be traced."""
    unit = self.uniform(slot, shape=shape)
    return low + jnp.floor((high - low) * unit).astype(jnp.int32)
