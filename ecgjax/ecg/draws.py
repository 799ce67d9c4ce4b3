"""Random numbers by fixed slots of a key.

Every quantity that is drawn has a slot of its own, `fold_in(key, slot)`, so
that a new draw never changes an old one.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

COUNT = 80


def normal(key, slot, shape=()):
  """Draws standard normal numbers from a slot of the key."""
  return jax.random.normal(jax.random.fold_in(key, slot), shape)


def uniform(key, slot, low=0.0, high=1.0, shape=()):
  """Draws numbers uniform in [low, high) from a slot of the key."""
  key = jax.random.fold_in(key, slot)
  return low + (high - low) * jax.random.uniform(key, shape)


class Draws(NamedTuple):
  """The first numbers of all slots of a key, which compiles one hash for all.

  With partitionable Threefry they are those of `normal` and `uniform`.

  Attributes:
    key: the key.
    normals: [COUNT, width] standard normal numbers.
    uniforms: [COUNT, width] numbers in [0, 1), from the same bits.
  """

  key: jax.Array
  normals: jax.Array
  uniforms: jax.Array

  @classmethod
  def of(cls, key, width: int) -> 'Draws':
    slots = jnp.arange(COUNT)
    draw = lambda kind: jax.vmap(lambda slot: kind(key, slot, shape=(width,)))
    return cls(key, draw(normal)(slots), draw(uniform)(slots))

  def normal(self, slot, shape=()):
    return self._take(self.normals, slot, shape)

  def uniform(self, slot, low=0.0, high=1.0, shape=()):
    return low + (high - low) * self._take(self.uniforms, slot, shape)

  def integer(self, slot, low, high, shape=()):
    """Uniform integers low..high-1; the bounds may be traced."""
    unit = self.uniform(slot, shape=shape)
    return low + jnp.floor((high - low) * unit).astype(jnp.int32)

  def _take(self, table, slot, shape):
    if math.prod(shape) > table.shape[1]:
      raise ValueError(f'{table.shape[1]} numbers per slot, shape {shape}')
    return table[slot, : math.prod(shape)].reshape(shape)
