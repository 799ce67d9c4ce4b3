"""Everything that a run has learnt, as arrays only."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ecgjax.methods.method import Method


@struct.dataclass
class TrainState:
  """Arrays only (no functions): saving, donation and tracing stay trivial.

  Attributes:
    step: number of updates done, int32.
    params: trained by the optimizer.
    model_state: BatchNorm statistics, codebooks, queues.
    opt_state: the optimizer's moments and counters.
    target: EMA target network, or None.
    rng: base key; the key of a step is folded from it, it never changes.
  """

  step: jax.Array
  params: Any
  model_state: Any
  opt_state: Any
  target: Any
  rng: jax.Array


def create_train_state(method: Method, optimizer, seed: int, batch):
  """Initial state of a run; depends on the seed and on shapes only."""
  rng = jax.random.key(seed, impl='threefry2x32')
  init_key, rng = jax.random.split(rng)
  variables = method.init(init_key, jax.tree.map(jnp.zeros_like, batch))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables.params,
    model_state=variables.model_state,
    opt_state=optimizer.init(variables.params),
    target=variables.target,
    rng=rng,
  )
