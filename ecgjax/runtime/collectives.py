"""Collectives that are the identity outside of a mapped axis.

Global-batch losses are written once with these helpers: under `jax.pmap` they
reduce over `axis_name`; under plain `jax.jit`, also with a batch sharded over
a mesh, `axis_name` is None and the arrays are global already.
"""

import jax
import jax.numpy as jnp


def psum(x, axis_name: str | None):
  """Sums over the mapped axis; without one, returns `x`."""
  return x if axis_name is None else jax.lax.psum(x, axis_name)


def pmean(x, axis_name: str | None):
  """Averages over the mapped axis; without one, returns `x`."""
  return x if axis_name is None else jax.lax.pmean(x, axis_name)


def all_gather(x, axis_name: str | None):
  """[B, ...] -> [D * B, ...], rows in the order of the global batch."""
  if axis_name is None:
    return x
  return jax.lax.all_gather(x, axis_name, tiled=True)


def global_row(num_rows: int, axis_name: str | None):
  """[B] position of each local row in the global batch."""
  rows = jnp.arange(num_rows)
  if axis_name is None:
    return rows
  return jax.lax.axis_index(axis_name) * num_rows + rows
