"""A split in device memory: epochs cost the host no work.

Batches are gathered on the device, with the rows and values of
`stream.train_batches` and `stream.eval_batches`; only row numbers travel.
int16 signals are small: PTB-XL's 17,418 training records take 0.42 GB at
100 Hz and 12 leads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.data.batches import shuffle
from ecgjax.data.batches.split import Split


def load(split: Split) -> dict[str, jax.Array]:
  """Reads a split into the memory of the default device.

  Returns:
    `ecg` [n, L, C] int16 and every other field of a batch but `mask`.
  """
  # Not kept on the host as well.
  return jax.device_put({'ecg': split.read(0, len(split)), **split.columns})


@jax.jit
def gather(arrays: dict[str, jax.Array], rows, mask) -> dict[str, jax.Array]:
  """Rows of every array: rows [b] int32, mask [b] -> a batch of b rows."""
  batch = {
    name: array.at[rows].get(mode='promise_in_bounds')
    for name, array in arrays.items()
  }
  return batch | {'mask': mask}


def train_batches(
  split: Split,
  arrays: dict[str, jax.Array],
  order: shuffle.Order,
  start_step: int = 0,
) -> Iterator[dict[str, jax.Array]]:
  """As `stream.train_batches`, from the arrays of `load`."""
  chunks = shuffle.train_rows(split.position, split.window, order, start_step)
  return (
    gather(arrays, rows.astype(np.int32), jnp.ones(len(rows), jnp.float32))
    for rows in itertools.chain.from_iterable(chunks)
  )


def eval_batches(
  split: Split,
  arrays: dict[str, jax.Array],
  batch_size: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, jax.Array]]:
  """As `stream.eval_batches`, from the arrays of `load`."""
  rows, masks = shuffle.eval_rows(
    len(split), batch_size, process_index, process_count
  )
  return (
    gather(arrays, batch.astype(np.int32), mask)
    for batch, mask in zip(rows, masks)
  )
