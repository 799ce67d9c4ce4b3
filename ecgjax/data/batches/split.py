"""The records of a split that a run uses, and how their signals are read.

`open_split` fixes which records these are, with which leads, length and label
task. A split of up to `window_gib` (PTB-XL at 100 Hz is 0.5 GB) is decoded once
per process and kept; a larger one is read in windows of consecutive shards. All
but the signals comes from the record table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from ecgjax.data.store import labels
from ecgjax.data.store import records as table_lib
from ecgjax.ecg.contract import InputContract
from ecgjax.ecg.leads import indices

GIB = 1 << 30


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """The records of one split that a run uses, in stored order.

  Attributes:
    source: name, config and version of the data set, and the split.
    shards: paths and record counts of the split's shards.
    stored: samples and leads of a stored signal, (T, 12).
    columns: batch field -> [n, ...], every field but `ecg` and `mask`.
    times: [n] float32, days since the patient's first ECG, -1 unknown.
    record_ids: [n] strings.
    content_hashes: [n] strings.
    class_names: the K classes of the task; empty without a task.
    dropped: reason -> number of records of the split that are not used.
    leads: positions of the C leads used, among the stored twelve.
    length: samples per lead, L.
    position: [n] where each row is among all records of the split, ascending.
    window_records: stored records that are shuffled, and read, at a time.
    window: [n] window of each row, ascending.
    kept: whether the signals are decoded once and kept.
  """

  source: dict[str, str]
  shards: tuple[tuple[str, ...], tuple[int, ...]]
  stored: tuple[int, int]
  columns: dict[str, np.ndarray]
  times: np.ndarray
  record_ids: np.ndarray
  content_hashes: np.ndarray
  class_names: tuple[str, ...]
  dropped: dict[str, int]
  leads: tuple[int, ...]
  length: int
  position: np.ndarray
  window_records: int
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
    return read_signals(self.shards, self.leads, self.length, wanted)

  def take(self, rows: np.ndarray) -> Split:
    """Some of its records, for label subsets.

    Args:
      rows: [n] bool.

    Raises:
      ValueError: if there is none.
    """
    return self._take(
      rows, self.dropped | {'not in subset': int((~rows).sum())}
    )

  def _take(self, rows, dropped: dict[str, int]) -> Split:
    position = self.position[rows]
    if not len(position):
      where = [self.source[k] for k in ('name', 'config', 'version')]
      reasons = ', '.join(f'{k}: {v}' for k, v in dropped.items())
      raise ValueError(
        f'data set {"/".join(filter(None, where))} has no usable {self.name} '
        f'record ({reasons})'
      )
    ends = np.cumsum(self.shards[1])
    rows_per_shard = np.diff(np.searchsorted(position, ends), prepend=0)
    return dataclasses.replace(
      self,
      columns={
        name: np.ascontiguousarray(column[rows])
        for name, column in self.columns.items()
      },
      times=self.times[rows],
      record_ids=self.record_ids[rows],
      content_hashes=self.content_hashes[rows],
      dropped=dropped,
      position=position,
      window=_windows(rows_per_shard, self.window_records),
      kept=len(position) <= self.window_records,
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


class Opened(NamedTuple):
  """A whole stored split as a contract and a label task see it.

  Attributes:
    whole: all N stored records.
    reasons: why records cannot be used: (reason, [N] bool, whether that is so
      only where labels are needed).
  """

  whole: Split
  reasons: tuple[tuple[str, np.ndarray, bool], ...]

  def choose(
    self,
    records: Collection[str] | None = None,
    keep_unlabelled: bool = False,
  ) -> Split:
    """The records that can be used; see `open_split`."""
    whole, dropped = self.whole, {}
    keep = np.ones(len(whole), bool)

    def drop(reason, condition):
      dropped[reason] = int((keep & condition).sum())
      keep[condition] = False

    if records is not None:
      wanted = np.array(sorted(records), np.str_)
      absent = np.setdiff1d(wanted, whole.record_ids)
      if len(absent):
        raise ValueError(
          f'{len(absent)} records of the label subset are not in split '
          f'{whole.name!r} of data set {whole.source["name"]}; the first is '
          f'{str(absent[0])!r}'
        )
      drop('not in subset', ~np.isin(whole.record_ids, wanted))
    for reason, condition, for_labels in self.reasons:
      if not (for_labels and keep_unlabelled):
        drop(reason, condition)
    return whole._take(keep, dropped)


def open_whole(
  builder,
  split: str,
  contract: InputContract,
  task: str = '',
  *,
  single_label: bool = False,
  window_gib: float = 1.0,
) -> Opened:
  """Opens a stored split once, to choose records of it several times.

  Arguments and errors are those of `open_split`; a data set without labels is
  opened without a task.
  """
  where = f'data set {builder.info.full_name}'
  shards = table_lib.shards(builder, split)
  table = table_lib.read_table(builder, split)
  stored, num_leads = builder.info.features[table_lib.SIGNAL].shape
  rate, length = contract.rate, contract.length
  for stored_rate in np.unique(table['fs']):
    if stored_rate != np.float32(rate):
      raise ValueError(
        f'{where} is stored at {stored_rate:g} Hz and config.data.rate is '
        f'{rate:g}; prepare it with --rate={rate:g}'
      )
  if not 0 < length <= stored:
    raise ValueError(
      f'{where} stores {stored} samples per lead and config.data.length is '
      f'{length}; choose 1 to {stored}'
    )
  if not window_gib > 0:
    raise ValueError(
      f'config.data.window_gib is {window_gib:g}; it must be above 0'
    )
  leads = indices(contract.leads)
  start = np.minimum(table['valid_start'], length)
  end = np.minimum(table['valid_start'] + table['valid_len'], length)
  columns = {
    'gain': table['gain'][:, leads],
    'baseline': table['baseline'][:, leads],
    'valid_start': start,
    'record': table['record'],
    'patient': table['patient'],
    'valid_len': end - start,
  }
  class_names, reasons = (), []
  reasons.append(('missing lead', ~table['lead_mask'][:, leads].all(1), False))
  names = builder.info.metadata['label_names']
  if task and names:
    wanted = labels.make_task(task, names)
    class_names = wanted.classes
    label, mask = labels.apply(wanted, table['labels'], table['label_mask'])
    columns |= {'label': label, 'label_mask': mask}
    reasons.append(('not annotated for the task', ~mask.any(axis=1), True))
    if wanted.labelled_only:
      reasons.append(('no label of the task', ~label.any(axis=1), True))
    if single_label:
      reasons.append(('several labels', label.sum(axis=1) > 1, False))
      reasons.append(('no label', ~label.any(axis=1), True))
  everything = np.arange(len(table['record_id']))
  return Opened(
    Split(
      source={
        'name': builder.info.name,
        'config': builder.info.config_name or '',
        'version': str(builder.info.version),
        'split': split,
      },
      shards=shards,
      stored=(stored, num_leads),
      columns=columns,
      times=table['time'],
      record_ids=table['record_id'],
      content_hashes=table['content_hash'],
      class_names=class_names,
      dropped={},
      leads=leads,
      length=length,
      position=everything,
      window_records=int(window_gib * GIB) // (stored * num_leads * 2),
      window=np.zeros_like(everything),
      kept=False,
    ),
    tuple(reasons),
  )


def open_split(
  builder,
  split: str,
  contract: InputContract,
  task: str = '',
  *,
  records: Collection[str] | None = None,
  keep_unlabelled: bool = False,
  single_label: bool = False,
  window_gib: float = 1.0,
) -> Split:
  """Chooses records, leads, length and label task of a split.

  Signals longer than the contract's are cut to their first samples.

  Args:
    builder: a prepared TFDS builder with the record schema.
    split: 'train', 'validation' or 'test'.
    contract: rate (Hz), length (samples) and leads.
    task: see `labels.make_task`; '' for batches without labels.
    records: ids of the records to use, for label subsets; None means all.
    keep_unlabelled: for pretraining: keep records without any label of the
      task, and accept a data set that stores no labels at all.
    single_label: leave out records with several labels of the task.
    window_gib: how much is shuffled, and read, at a time.

  Raises:
    ValueError: if rate, length, leads, task or record ids do not fit the data
      set, no record is left, or a window is empty.
    CorruptShard: if a shard is damaged.
  """
  opened = open_whole(
    builder, split, contract, task,
    single_label=single_label, window_gib=window_gib,
  )  # fmt: skip
  if not keep_unlabelled:
    require_labels(builder, task)
  return opened.choose(records, keep_unlabelled)


def require_labels(builder, task: str) -> None:
  """Raises a ValueError where a data set has no labels for a task."""
  names = builder.info.metadata['label_names']
  if task and not names:
    labels.make_task(task, names)


def arguments(data) -> dict:
  """What `config.data` says to `open_split`, as its arguments by name."""
  return {
    'contract': InputContract.from_data(data),
    'task': data.get('task', ''),
    'single_label': data.get('single_label', False),
    'window_gib': data.get('window_gib', 1.0),
  }


def read_signals(shards, leads, length, wanted) -> np.ndarray:
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
