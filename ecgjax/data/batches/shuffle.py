"""Order of the records: pure functions of (seed, epoch, stored position).

Rows are sorted by a hash, so an epoch's order is a closed form, the same on
every machine and with every version of NumPy. Resuming at a step, or reading
one host's part of the global batch, is indexing; no iterator has a state.
"""

import hashlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Order(NamedTuple):
  """In which order, and in which batches, a run reads its training rows.

  Host h of P takes rows [h b, (h + 1) b) of each global batch, b = B / P, so
  that the hosts together see the batches of one host. None spans two epochs.

  Attributes:
    batch_size: the GLOBAL batch size B.
    seed: with the epoch, decides the order.
    process_index: this host, h.
    process_count: number of hosts, P.
    repeats: [n] integers from 1 on: an epoch holds row i that many times; the
      copies are shuffled like rows of their own. None: once.
    keep_remainder: whether what remains of an epoch after the last full batch
      is a smaller batch, or dropped.
  """

  batch_size: int
  seed: int
  process_index: int = 0
  process_count: int = 1
  repeats: np.ndarray | None = None
  keep_remainder: bool = False


def epoch_order(
  position: np.ndarray, window: np.ndarray, seed: int, epoch: int
) -> np.ndarray:
  """Shuffles windows, and the records within each.

  Args:
    position: [n] number of each row's record in storage, unique.
    window: [n] window of each row; rows of a window stay together. With one
      window the order is a uniform permutation.
    seed: seed of the run.
    epoch: number of the epoch.

  Returns:
    [n] row numbers.
  """
  key = hashlib.sha256(f'ecgjax-order-v1|{seed}|{epoch}'.encode()).digest()
  record_key, window_key = np.frombuffer(key[:16], '<u8')
  return np.lexsort(
    (
      mix(position.astype(np.uint64) + record_key),
      mix(window.astype(np.uint64) + window_key),
    )
  )  # the last key is the primary one


def mix(x: np.ndarray) -> np.ndarray:
  """SplitMix64 (Steele, Lea and Flood, 2014): a bijection of uint64."""
  x = x * np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def steps_per_epoch(
  num_rows: int, batch_size: int, keep_remainder: bool = False
) -> int:
  """Training batches per epoch.

  Args:
    num_rows: rows of an epoch.
    batch_size: rows of a full batch.
    keep_remainder: whether what remains is a last, smaller batch; a single row
      is none, for its features have no variance.

  Raises:
    ValueError: if there is no full batch.
  """
  if not 0 < batch_size <= num_rows:
    raise ValueError(
      f'config.batch_size is {batch_size} and the training split has '
      f'{num_rows} usable records; choose 1 to {num_rows}'
    )
  steps, remainder = divmod(num_rows, batch_size)
  return steps + (keep_remainder and remainder > 1)


def train_rows(
  position: np.ndarray, window: np.ndarray, order: Order, start_step: int = 0
) -> Iterator[np.ndarray]:
  """Rows of the training batches of this host, without end.

  Args:
    position: see `epoch_order`.
    window: see `epoch_order`.
    order: which rows, and how many at a time.
    start_step: first step; those before it cost nothing.

  Yields:
    One [steps, b] array per epoch, and one [1, remainder] if that is kept; the
    first begins at `start_step`.

  Raises:
    ValueError: if B is not a multiple of P or exceeds the number of rows, or
      P > 1 and a remainder is kept.
  """
  batch_size, repeats = order.batch_size, order.repeats
  if repeats is None:
    repeats = np.ones(len(position), int)
  source = np.repeat(np.arange(len(position)), repeats)
  first_copy = np.repeat(np.cumsum(repeats) - repeats, repeats)
  copy = (np.arange(len(source)) - first_copy).astype(np.uint64)
  position = position[source].astype(np.uint64) + (copy << np.uint64(40))
  window = window[source]
  steps = steps_per_epoch(len(position), batch_size, order.keep_remainder)
  full = len(position) // batch_size
  if order.keep_remainder and order.process_count > 1:
    raise ValueError(
      f'config.keep_remainder needs one process, there are '
      f'{order.process_count}: a smaller batch is not split; set it to False'
    )
  hosts = _host_slice(batch_size, order.process_index, order.process_count)

  def generate():
    first_epoch, step = divmod(start_step, steps)
    for epoch in itertools.count(first_epoch):
      rows = source[epoch_order(position, window, order.seed, epoch)]
      rows, remainder = np.split(rows, [full * batch_size])
      if step < full:
        yield rows.reshape(full, batch_size)[step:, hosts]
      if steps > full:
        yield remainder[None]
      step = 0

  return generate()


def repeats(label: np.ndarray, mask: np.ndarray, share: float) -> np.ndarray:
  """How often each row of an epoch is read so that no class is rarer than that.

  A class with n of N rows reaches the share s when each of them occurs
  s (N - n) / (n (1 - s)) times, rounded and at least once; a row with several
  classes follows the rarest of them.

  Args:
    label: [N, K], positive where nonzero.
    mask: [N, K], 0 where not annotated.
    share: s in (0, 1).

  Returns:
    [N] integers from 1 on.
  """
  positive = (label > 0) & (mask > 0)
  count = positive.sum(axis=0)
  wanted = share * (len(label) - count) / (np.maximum(count, 1) * (1 - share))
  factor = np.maximum(np.floor(wanted + 0.5), 1).astype(int)  # [K]
  return np.where(positive, factor, 1).max(axis=1, initial=1)


def eval_rows(
  num_rows: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """One pass over all rows in stored order; every row counts once.

  Returns:
    Rows [steps, b], the last batch filled up with the last row, and float32
    mask [steps, b], 0 for what was filled up.

  Raises:
    ValueError: if B is not a multiple of P.
  """
  hosts = _host_slice(batch_size, process_index, process_count)
  steps = -(-num_rows // batch_size)
  rows = np.arange(steps * batch_size).reshape(steps, batch_size)[:, hosts]
  mask = (rows < num_rows).astype(np.float32)
  return np.minimum(rows, num_rows - 1), mask


def _host_slice(batch_size, process_index, process_count) -> slice:
  if batch_size < 1 or batch_size % process_count:
    raise ValueError(
      f'config.batch_size is {batch_size}; it has to be a positive multiple of '
      f'the number of processes, {process_count}'
    )
  size = batch_size // process_count
  return slice(process_index * size, (process_index + 1) * size)
