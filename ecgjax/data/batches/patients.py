"""Batches of patients: K ECGs of each of N patients, for patient contrast.

`patient_index` lists the ECGs of every patient once. A batch of B rows then
holds N = B / K patients, the K rows of a patient next to each other (losses go
by the patient id, never by position). All choices are pure functions of
(seed, epoch, patient), see `shuffle`: nothing has a state, resuming at a step
is indexing, and hosts that take their slice of each global batch together see
the batches of one host.

* One epoch shows every patient once, whatever the number of his ECGs; the tail
  of fewer than N patients is dropped and differs from epoch to epoch. So no
  patient is twice in a batch, and none is a negative of himself.
* Gaps between a patient's ECGs are kept within bounds (`min_gap`, `max_gap`,
  or `gap_quota` over strata) where he has such a pair; else the pair closest
  to the bounds is taken and counted. Same-day repeats are thus avoided where
  there is a choice. Copies of one signal (equal content hash) count as one.
* A patient with one ECG (a singleton) comes as K copies of it, which the
  method augments differently, with a weight as an anchor; or as a negative
  only; or not at all.

At scale only metadata is in memory: the record table and 24 bytes an ECG for
the index (10^6 patients with 2.9 million ECGs: built in 5 s of CPU time, an
epoch planned in 1.5 s). Signals stay in the record-major TFRecords that every
other method reads too; a split of more than `config.data.window_gib` is read
through an index of offsets (`ecgjax.data.store.random_access`), so that any
pair is two reads wherever the shuffle of the builder has put it. Patient-major
examples would need a second copy of every corpus, and a cap on the ECGs of a
patient.
"""

import hashlib
import itertools
import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ecgjax.data.batches import patient_index, shuffle, stream
from ecgjax.data.batches.patient_index import PatientOptions
from ecgjax.data.batches.split import Split
from ecgjax.data.store import random_access

logger = logging.getLogger(__name__)
_CHUNK = 1 << 16  # patients whose ECGs are chosen at a time


class Epoch(NamedTuple):
  """What one epoch shows.

  Attributes:
    patients: [steps * N] positions in the index, in order.
    rows: [steps * N, K] rows of the split.
    report: counts as JSON-able values.
  """

  patients: np.ndarray
  rows: np.ndarray
  report: dict


def index_split(
  split: Split, options: PatientOptions
) -> patient_index.PatientIndex:
  """`build_index` of an open split."""
  return patient_index.build_index(
    split.columns['patient'],
    split.times,
    patient_index.content_keys(split.content_hashes),
    options,
  )


def choose(
  index: patient_index.PatientIndex,
  patients: np.ndarray,
  options: PatientOptions,
  seed: int,
  epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
  """K ECGs of each of some patients.

  The first one is drawn among those that have a partner within the bounds,
  the others among its partners: distinct while there are any, then again.

  Args:
    index: what `index_split` returned.
    patients: [m] positions in the index.
    options: what a batch holds.
    seed: int, `config.seed`; the order follows from it.
    epoch: number of the epoch.

  Returns:
    [m, K] positions in the flat arrays, and [m] the stratum that was drawn.
  """
  size = index.start[patients + 1] - index.start[patients]
  first = np.cumsum(size) - size
  owner = np.repeat(np.arange(len(patients)), size)
  rank = np.arange(len(owner)) - first[owner]
  flat = index.start[patients][owner] + rank
  ids = index.ids[patients].astype(np.uint64)
  text = f'ecgjax-patients-v1|{seed}|{epoch}'
  keys = hashlib.sha256(text.encode()).digest()[:16]
  record_key, stratum_key = np.frombuffer(keys, '<u8')
  number = shuffle.mix(
    shuffle.mix(ids + record_key)[owner] + rank.astype(np.uint64)
  )
  if options.ecgs_per_patient == 1:
    best = np.lexsort((number, owner))[first]
    return flat[best][:, None], np.zeros(len(patients), int)
  stratum = np.zeros(len(patients), int)
  if options.gap_quota:
    u = shuffle.mix(ids + stratum_key) / 2.0**64
    stratum = np.searchsorted(np.cumsum(options.gap_quota)[:-1], u, 'right')
  excess = index.excess[stratum[owner], flat]
  least = np.minimum.reduceat(excess, first)
  anchor = np.lexsort((number, excess > least[owner], owner))[first]
  gap = np.abs(index.time[flat] - index.time[flat[anchor]][owner])
  low, high = index.bounds[stratum].T
  distance = patient_index.outside(gap, low[owner], high[owner])
  itself = np.arange(len(owner)) == anchor[owner]
  ranked = np.lexsort((number, distance, itself, owner))
  turn = np.arange(options.ecgs_per_patient - 1) % size[:, None]  # [m, K - 1]
  partners = flat[ranked[first[:, None] + turn]]
  return np.concatenate([flat[anchor][:, None], partners], 1), stratum


def plan_epoch(
  index: patient_index.PatientIndex,
  num_patients: int,
  options: PatientOptions,
  seed: int,
  epoch: int,
) -> Epoch:
  """Which ECGs one epoch shows, in order, and what that amounts to.

  Args:
    index: what `index_split` returned.
    num_patients: N, patients of a global batch.
    options: what a batch holds.
    seed: int, `config.seed`; the order follows from it.
    epoch: number of the epoch.
  """
  zeros = np.zeros(len(index), np.uint8)
  shuffled = shuffle.epoch_order(index.ids, zeros, seed, epoch)
  shown = shuffled[: len(index) // num_patients * num_patients]
  parts = [
    choose(index, shown[first : first + _CHUNK], options, seed, epoch)
    for first in range(0, len(shown), _CHUNK)
  ]
  flat, stratum = map(np.concatenate, zip(*parts))
  report = {
    'patients': len(index),
    'singletons': index.num_singletons,
    'singletons_dropped': index.num_dropped,
    'duplicates_left_out': index.num_duplicates,
    'dropped_tail': len(index) - len(shown),
    **_gap_counts(index, flat, stratum, options.gap_edges),
  }
  return Epoch(shown, index.rows[flat], report)


def _gap_counts(index, flat, stratum, edges) -> dict:
  """Counts of pairs (first ECG, another one) by their gap."""
  pair = flat[:, 1:] != flat[:, :1]  # not the copies of a singleton
  gap = np.abs(index.time[flat[:, 1:]] - index.time[flat[:, :1]])[pair]
  bounds = np.repeat(index.bounds[stratum][:, None], pair.shape[1], 1)[pair]
  names = ['same_day', *(f'under_{x:g}_days' for x in edges), 'longer']
  place = np.searchsorted([1.0, *edges], gap, side='right')  # nan: at the end
  counts = np.bincount(place[~np.isnan(gap)], minlength=len(names))
  return {
    'pairs': len(gap),
    'pairs_by_gap': dict(zip(names, counts.tolist())),
    'pairs_of_unknown_gap': int(np.isnan(gap).sum()),
    'pairs_out_of_bounds': int(
      (patient_index.outside(gap, *bounds.T) > 0).sum()
    ),
  }


def num_batches(
  index: patient_index.PatientIndex, options: PatientOptions, batch_size: int
) -> int:
  """Full batches per epoch.

  Raises:
    ValueError: if there is not one or patients cannot be split evenly.
  """
  size = options.ecgs_per_patient
  if batch_size % size:
    raise ValueError(
      f'config.batch_size is {batch_size}; it has to be a multiple of '
      f'config.{options.group}.ecgs_per_patient, {size}'
    )
  steps = len(index) // (batch_size // size)
  if not steps:
    raise ValueError(
      f'config.batch_size is {batch_size} and the training split has '
      f'{len(index)} patients; choose at most {len(index) * size}'
    )
  return steps


def train_rows(
  index: patient_index.PatientIndex,
  options: PatientOptions,
  order: shuffle.Order,
  start_step: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Rows of the training batches of this host, without end.

  Args:
    index: what `index_split` returned.
    options: what a batch holds.
    order: without repeats; there is no remainder to keep.
    start_step: first step.

  Yields:
    rows [B / P] and their weights as anchors [B / P] float32.

  Raises:
    ValueError: see `num_batches`; or if P does not divide the patients.
  """
  steps = num_batches(index, options, order.batch_size)
  num_patients = order.batch_size // options.ecgs_per_patient
  if num_patients % order.process_count:
    raise ValueError(
      f'config.batch_size is {order.batch_size}, {num_patients} patients; '
      f'they cannot be split over {order.process_count} processes'
    )
  mine = num_patients // order.process_count
  slots = slice(order.process_index * mine, (order.process_index + 1) * mine)
  alone = np.diff(index.start) == 1
  weight_alone = {'augment': options.singleton_weight}.get(
    options.singletons, 0.0
  )
  if options.ecgs_per_patient == 1:  # nobody has a partner
    weight_alone = 1.0

  def generate():
    first, skip = divmod(start_step, steps)
    for epoch in itertools.count(first):
      plan = plan_epoch(index, num_patients, options, order.seed, epoch)
      level = logging.INFO if epoch == first else logging.DEBUG
      logger.log(level, 'patients of epoch %d: %s', epoch, plan.report)
      weight = np.where(alone[plan.patients], weight_alone, 1.0)
      weight = np.repeat(weight, options.ecgs_per_patient).astype(np.float32)
      shape = (steps, num_patients, -1)
      for rows, weights in zip(
        plan.rows.reshape(shape)[skip:, slots],
        weight.reshape(shape)[skip:, slots],
      ):
        yield rows.ravel(), weights.ravel()
      skip = 0

  return generate()


def batches(
  split: Split, rows: Iterator[tuple[np.ndarray, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
  """Batches of `train_rows`.

  Yields:
    Those of `stream.batches`, with `time` [b] float32 (days since the patient's
    first ECG, -1 unknown) and `anchor_weight` [b] float32.
  """
  signals = None if split.kept else random_access.Signals(split)
  for chosen, weight in rows:
    if signals is None:
      (batch,) = stream.batches(split, [chosen[None]])
    else:
      batch = {name: column[chosen] for name, column in split.columns.items()}
      batch |= {
        'ecg': signals.read(chosen),
        'mask': np.ones(len(chosen), np.float32),
      }
    yield batch | {'time': split.times[chosen], 'anchor_weight': weight}


def steps_per_epoch(
  split: Split, options: PatientOptions, batch_size: int
) -> int:
  """Full training batches per epoch; errors as in `num_batches`."""
  return num_batches(index_split(split, options), options, batch_size)


def train_batches(
  split: Split,
  options: PatientOptions,
  order: shuffle.Order,
  start_step: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
  """Training batches of patients without end, see `train_rows`, `batches`."""
  index = index_split(split, options)
  return batches(split, train_rows(index, options, order, start_step))


def eval_batches(
  split: Split, options: PatientOptions, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
  """One epoch of a split, always the same; for the loss on validation.

  The batch is that of training, or smaller where there are fewer patients.
  """
  index, size = index_split(split, options), options.ecgs_per_patient
  batch_size = size * min(len(index), batch_size // size)
  rows = train_rows(index, options, shuffle.Order(batch_size, seed=0))
  steps = num_batches(index, options, batch_size)
  return batches(split, itertools.islice(rows, steps))
