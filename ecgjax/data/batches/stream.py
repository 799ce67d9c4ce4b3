"""Batches of NumPy arrays from an open split.

`train_batches` and `eval_batches` yield batches

  ecg int16 [B, L, C], gain and baseline f32 [B, C] (mV = (ecg - baseline) /
  gain), valid_start, valid_len, record, patient int32 [B], mask f32 [B]
  (0 = padding), and with a task label and label_mask f32 [B, K].

The order of the rows is `data.batches.shuffle`; it does not depend on how they
are read. tf.data reads and parses whole shards in sequence, about twice as
fast as it shuffles single records. Epochs of a split that is kept are uniform
permutations. A larger one is read window by window, the next in the background,
two in memory: windows are shuffled, and the records within each, so that a
batch holds records of one window or two. `data.batches.on_device` yields the
same batches from the memory of the device.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from ecgjax.data.batches import shuffle
from ecgjax.data.batches.split import Split, read_signals


# One entry per split of a run. Label subsets of a split share it.
@functools.lru_cache(maxsize=4)
def _read_all(shards, leads, length) -> np.ndarray:
  """[N, L, C] signals of all records of a split."""
  ecg = read_signals(shards, leads, length, np.arange(sum(shards[1])))
  ecg.setflags(write=False)
  return ecg


def train_batches(
  split: Split, order: shuffle.Order, start_step: int = 0
) -> Iterator[dict[str, np.ndarray]]:
  """Training batches without end, from `start_step` on, see `shuffle.Order`.

  Raises:
    ValueError: see `shuffle.train_rows`.
    CorruptShard: names the shard.
  """
  return batches(
    split, shuffle.train_rows(split.position, split.window, order, start_step)
  )


def eval_batches(
  split: Split,
  batch_size: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """One pass over a split in stored order; every record counts once.

  The last batch is filled up with the last record at mask 0. Arguments and
  errors are those of `shuffle.eval_rows`.
  """
  chunk, masks = shuffle.eval_rows(
    len(split), batch_size, process_index, process_count
  )
  fresh = batches(split, [chunk])
  return ({**batch, 'mask': mask} for batch, mask in zip(fresh, masks))


def batches(
  split: Split, chunks: Iterable[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
  """Batches of chosen rows, all with mask 1.

  Args:
    split: an open split.
    chunks: [steps, b] arrays of row numbers, as of `shuffle.train_rows`. Rows
      of one window should follow each other, or it is read again.

  Yields:
    One batch of b rows per step, see the module.

  Raises:
    CorruptShard: names the shard.
  """
  for rows, ecg in _signals(split, chunks):
    fields = {name: column[rows] for name, column in split.columns.items()}
    yield {'ecg': ecg, **fields, 'mask': np.ones(len(rows), np.float32)}


def _signals(split: Split, chunks: Iterable[np.ndarray]):
  """Yields (rows [b], ecg [b, L, C]) for every row of [steps, b] arrays."""
  if split.kept:
    ecg = _read_all(split.shards, split.leads, split.length)
    for rows in itertools.chain.from_iterable(chunks):
      yield rows, ecg[split.position[rows]]
    return
  chunks, ahead = itertools.tee(chunks)
  needed = (
    window
    for chunk in ahead
    for window, _ in itertools.groupby(split.window[chunk].ravel().tolist())
  )
  with concurrent.futures.ThreadPoolExecutor(1) as executor:

    def start_reading(window, reading):
      """Future of the next window; `reading` where that is the same one."""
      following = next(needed, None)
      if following in (None, window):
        return reading
      first, last = np.searchsorted(split.window, (following, following + 1))
      return executor.submit(lambda: (first, split.read(first, last)))

    reading = start_reading(None, None)
    for chunk in chunks:
      window = None
      for rows in chunk:
        parts = []
        windows = split.window[rows]
        for part in np.split(rows, np.flatnonzero(np.diff(windows)) + 1):
          if split.window[part[0]] != window:
            window = split.window[part[0]]
            first, ecg = reading.result()
            reading = start_reading(window, reading)
          parts.append(ecg[part - first])
        yield rows, parts[0] if len(parts) == 1 else np.concatenate(parts)
