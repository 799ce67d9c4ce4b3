"""From a prepared data set to batches of NumPy arrays.

`open_split` fixes which records of a split are used, with which leads, length
and label task; `train_batches` and `eval_batches` then yield batches

  ecg int16 [B, L, C], gain and baseline f32 [B, C] (mV = (ecg - baseline) /
  gain), valid_start, valid_len, record, patient int32 [B], mask f32 [B]
  (0 = padding), and with a task label and label_mask f32 [B, K].

The order of the rows is `data.batches.shuffle`; it does not depend on how they
are read. tf.data reads and parses whole shards in sequence, about twice as
fast as it shuffles single records. A split of up to `config.data.window_gib`
(PTB-XL at 100 Hz is 0.5 GB) is decoded once per process, kept, and its epochs
are uniform permutations. A larger one is read in windows of consecutive shards,
the next window in the background, two in memory: windows are shuffled, and the
records within each, so that a batch holds records of one window or two.
Metadata comes from the record table. `ecgjax.data.batches.on_device` yields the
same batches from the memory of the device.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator

import numpy as np

from ecgjax.data.batches import shuffle
from ecgjax.data.store import labels
from ecgjax.data.store import records as table_lib
from ecgjax.ecg.leads import indices

GIB = 1 << 30


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """The records of one split that a run uses, in stored order.

  Attributes:
    source: name, config and version of the data set, and the split.
    shards: paths and record counts of the split's shards.
    columns: batch field -> [n, ...], every field but `ecg` and `mask`.
    record_ids: [n] strings.
    content_hashes: [n] strings.
    class_names: the K classes of the task; empty without a task.
    dropped: reason -> number of records of the split that are not used.
    leads: positions of the C leads used, among the stored twelve.
    length: samples per lead, L.
    position: [n] where each row is among all records of the split, ascending.
    window: [n] window of each row, ascending.
    kept: whether the signals are decoded once and kept.
  """

  source: dict[str, str]
  shards: tuple[tuple[str, ...], tuple[int, ...]]
  columns: dict[str, np.ndarray]
  record_ids: np.ndarray
  content_hashes: np.ndarray
  class_names: tuple[str, ...]
  dropped: dict[str, int]
  leads: tuple[int, ...]
  length: int
  position: np.ndarray
  window: np.ndarray
  kept: bool

  def __len__(self) -> int:
    return len(self.position)

  @property
  def name(self) -> str:
    """'train', 'validation' or 'test'."""
    return self.source['split']

  def read(self, first: int, last: int) -> np.ndarray:
    """Reads the signals of rows [first, last): [last - first, L, C] int16.

    Raises:
      CorruptShard: names the shard.
    """
    wanted = self.position[first:last]
    return _read(self.shards, self.leads, self.length, wanted)


def _read(shards, leads, length, wanted) -> np.ndarray:
  """[m, L, C] signals of the records at `wanted` [m], ascending positions."""
  ends = np.cumsum(shards[1])
  needed = np.unique(np.searchsorted(ends, wanted, side='right'))
  position = np.concatenate(
    [np.arange(ends[shard] - shards[1][shard], ends[shard]) for shard in needed]
  )  # of the records of the shards that are read
  rows = np.searchsorted(position, wanted)
  ecg = np.empty((len(wanted), length, len(leads)), np.int16)
  filled, end = 0, 0
  for batch in table_lib.read_shards(
    [shards[0][shard] for shard in needed],
    [shards[1][shard] for shard in needed],
    (table_lib.SIGNAL,),
  ):
    signals = batch[table_lib.SIGNAL]  # [b, T, 12]
    start, end = end, end + len(signals)
    last = np.searchsorted(rows, end)
    if last - filled < len(signals):
      signals = signals[rows[filled:last] - start]
    # Twice as fast as indexing with the tuple.
    for column, lead in enumerate(leads):
      ecg[filled:last, :, column] = signals[:, :length, lead]
    filled = last
  return ecg


# One entry per split of a run. Label subsets of a split share it.
@functools.lru_cache(maxsize=4)
def _read_all(shards, leads, length) -> np.ndarray:
  """[N, L, C] signals of all records of a split."""
  ecg = _read(shards, leads, length, np.arange(sum(shards[1])))
  ecg.setflags(write=False)
  return ecg


def open_split(
  builder,
  split: str,
  config,
  *,
  records: Collection[str] | None = None,
  keep_unlabelled: bool = False,
  window_bytes: int | None = None,
) -> Split:
  """Chooses records, leads, length and label task of a split.

  Signals longer than `config.data.length` are cut to their first samples.

  Args:
    builder: a prepared TFDS builder with the record schema.
    split: 'train', 'validation' or 'test'.
    config: uses `config.data` with `rate` (Hz), `length` (samples), `leads`
      and, where there are such, `task`, `single_label` and `window_gib`.
    records: ids of the records to use, for label subsets; None means all.
    keep_unlabelled: for pretraining: keep records without any label of the
      task, and accept a data set that stores no labels at all.
    window_bytes: how much is shuffled, and read, at a time; None: `window_gib`.

  Raises:
    ValueError: if rate, length, leads, task or record ids do not fit the data
      set, no record is left, or a window is empty.
    CorruptShard: if a shard is damaged.
  """
  where = f'data set {builder.info.full_name}'
  shards = table_lib.shards(builder, split)
  table = table_lib.read_table(builder, split)
  data = config.data
  stored, num_leads = builder.info.features[table_lib.SIGNAL].shape
  for rate in np.unique(table['fs']):
    if rate != np.float32(data.rate):
      raise ValueError(
        f'{where} is stored at {rate:g} Hz and config.data.rate is '
        f'{data.rate:g}; prepare it with --rate={data.rate:g}'
      )
  if not 0 < data.length <= stored:
    raise ValueError(
      f'{where} stores {stored} samples per lead and config.data.length is '
      f'{data.length}; choose 1 to {stored}'
    )
  leads = indices(data.leads)
  window_gib = data.get('window_gib', 1.0)
  if not window_gib > 0:
    raise ValueError(
      f'config.data.window_gib is {window_gib:g}; it must be above 0'
    )
  keep = np.ones(len(table['record_id']), bool)
  dropped = {}

  def drop(reason, condition):
    dropped[reason] = int((keep & condition).sum())
    keep[condition] = False

  if records is not None:
    wanted = np.array(sorted(records), np.str_)
    absent = np.setdiff1d(wanted, table['record_id'])
    if len(absent):
      raise ValueError(
        f'{len(absent)} records of the label subset are not in split {split!r} '
        f'of {where}; the first is {str(absent[0])!r}'
      )
    drop('not in subset', ~np.isin(table['record_id'], wanted))
  drop('missing lead', ~table['lead_mask'][:, leads].all(axis=1))
  columns = {
    'gain': table['gain'][:, leads],
    'baseline': table['baseline'][:, leads],
    'valid_start': np.minimum(table['valid_start'], data.length),
    'record': table['record'],
    'patient': table['patient'],
  }
  end = np.minimum(table['valid_start'] + table['valid_len'], data.length)
  columns['valid_len'] = end - columns['valid_start']
  class_names = ()
  names = builder.info.metadata['label_names']
  if data.get('task') and (names or not keep_unlabelled):
    task = labels.make_task(data.task, names)
    class_names = task.classes
    label, mask = labels.apply(task, table['labels'], table['label_mask'])
    columns |= {'label': label, 'label_mask': mask}
    if not keep_unlabelled:
      drop('not annotated for the task', ~mask.any(axis=1))
      if task.labelled_only:
        drop('no label of the task', ~label.any(axis=1))
    if data.get('single_label'):
      drop('several labels', label.sum(axis=1) > 1)
      if not keep_unlabelled:
        drop('no label', ~label.any(axis=1))
  position = np.flatnonzero(keep)
  if not len(position):
    reasons = ', '.join(f'{k}: {v}' for k, v in dropped.items())
    raise ValueError(f'{where} has no usable {split} record ({reasons})')
  shard_ends = np.cumsum(shards[1])
  if window_bytes is None:
    window_bytes = int(window_gib * GIB)
  window_records = window_bytes // (stored * num_leads * 2)
  rows_per_shard = np.diff(np.searchsorted(position, shard_ends), prepend=0)
  return Split(
    source={
      'name': builder.info.name,
      'config': builder.info.config_name or '',
      'version': str(builder.info.version),
      'split': split,
    },
    shards=shards,
    columns={k: np.ascontiguousarray(v[keep]) for k, v in columns.items()},
    record_ids=table['record_id'][keep],
    content_hashes=table['content_hash'][keep],
    class_names=class_names,
    dropped=dropped,
    leads=leads,
    length=data.length,
    position=position,
    window=_windows(rows_per_shard, window_records),
    kept=len(keep) <= window_records,
  )


def _windows(rows_per_shard, rows_per_window) -> np.ndarray:
  """[n] window of every row; windows hold whole shards, at least one."""
  windows, window, size = [], 0, 0
  for rows in rows_per_shard:
    if size and size + rows > rows_per_window:
      window, size = window + 1, 0
    size += rows
    windows.append(window)
  return np.repeat(windows, rows_per_shard)


def steps_per_epoch(
  split: Split, batch_size: int, keep_remainder: bool = False
) -> int:
  """Training batches per epoch, see `shuffle.steps_per_epoch`."""
  return shuffle.steps_per_epoch(len(split), batch_size, keep_remainder)


def fingerprint(split: Split) -> dict:
  """Identifies the data a run reads, wherever they are stored.

  Returns:
    {'name', 'config', 'version', 'split', 'num_examples', 'sha256'}; the hash
    covers record ids, content hashes, labels and every other batch field.
  """
  known = split.source | {'num_examples': len(split)}
  digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
  for strings in (split.record_ids, split.content_hashes):
    digest.update('\n'.join(strings).encode())
  for name in sorted(split.columns):
    column = split.columns[name]
    digest.update(name.encode())
    digest.update(column.astype(column.dtype.newbyteorder('<')).tobytes())
  return known | {'sha256': digest.hexdigest()}


def train_batches(
  split: Split,
  batch_size: int,
  *,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  repeats: np.ndarray | None = None,
  keep_remainder: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
  """Training batches without end.

  Host h of P takes rows [h b, (h + 1) b) of each global batch, b = B / P, so
  that the hosts together see the batches of one host. None spans two epochs.

  Args:
    split: an open split.
    batch_size: the GLOBAL batch size B.
    seed: with the epoch, decides the order.
    start_step: first step; those before it cost nothing.
    process_index: this host, h.
    process_count: number of hosts, P.
    repeats: how often each row occurs in an epoch, see `shuffle.repeats`.
    keep_remainder: see `shuffle.train_rows`.

  Yields:
    Batches of b rows, see the module.

  Raises:
    ValueError: see `shuffle.train_rows`.
    CorruptShard: names the shard.
  """
  chunks = shuffle.train_rows(
    split.position, split.window, batch_size, seed, start_step,
    process_index, process_count, repeats, keep_remainder,
  )  # fmt: skip
  return batches(split, chunks)


def eval_batches(
  split: Split,
  batch_size: int,
  *,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """One pass over a split in stored order; every record counts once.

  The last batch is filled up with the last record at mask 0. Arguments and
  errors are those of `train_batches`.
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
    chunks: [steps, b] arrays of row numbers, such as `shuffle.train_rows`. Rows
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
