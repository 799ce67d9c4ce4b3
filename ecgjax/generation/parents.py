"""Who may be a parent of a generated ECG, and of whom with whom.

Parents are labelled training records of one fold, of two patients, and share
their full label set. Classes of rhythm are never interpolated: neither the
irregularity of fibrillation nor an early beat survives the mean of two of them
(docs/methods.md, "Why parents are aligned").
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ecgjax.data.store.labels import LONGITUDINAL, NINGBO_AF_OR_AFL

MAX_RATIO = 5.0
PROBABLE = 0.5  # what the teacher has to exceed

# Stored statements of records that are not interpolated: of the simulator, SCP
# statements, SNOMED CT codes (arrhythmias, blocks between atria and ventricles,
# pacing), columns of CODE-15 %.
RHYTHM = frozenset(
  statement
  for name in ('AF', 'AFL', 'premature', '1AVB')
  for group in LONGITUDINAL[name]
  for statement in group
) | frozenset((
  'AF', 'AFL', 'PAC', 'PVC', 'MOBITZ1', 'MOBITZ2', '3AVB', 'VT', 'VF', 'PACE',
  '2AVB', 'SVARR', 'SVTAC', 'PSVT',
  NINGBO_AF_OR_AFL,
  '10370003', '713422000', '233917008', '50799005', '29320008', '251166008',
  '233897008', '27885002', '195042002', '426183003', '61277005', '426664006',
  '251268003', '13640000', '49260003', '426995002', '426648003', '67198005',
  '425856008', '17366009', '65778007', '5609005', '426761007', '75532003',
  '81898007', '164896001', '111288001', '251266004', '164895002', '195101003',
  '418818005',
))  # fmt: skip


class Pool(NamedTuple):
  """Labelled training records, in stored order.

  Attributes:
    ids: [N] record ids.
    patients: [N] patient ids.
    labels: [N, A] uint8 stored statements.
    label_mask: [N, A] uint8.
    groups: [N] number of the record's full label set.
  """

  ids: np.ndarray
  patients: np.ndarray
  labels: np.ndarray
  label_mask: np.ndarray
  groups: np.ndarray


def make_pool(table, records, task_labels, match: str) -> Pool:
  """The labelled training records.

  Args:
    table: record table of the training split.
    records: [N] ids of the labelled training records, in stored order.
    task_labels: [N, K] their classes.
    match: 'stored', a label set is all stored statements of a record; 'task',
      it is its classes.
  """
  rows = np.flatnonzero(np.isin(table['record_id'], records))
  labels = table['labels'][rows]
  sets = labels if match == 'stored' else task_labels
  _, groups = np.unique(sets > 0, axis=0, return_inverse=True)
  return Pool(
    table['record_id'][rows],
    table['patient_id'][rows],
    labels,
    table['label_mask'][rows],
    groups.reshape(-1),
  )


def has_rhythm(labels: np.ndarray, label_names) -> np.ndarray:
  """Which records have a statement of `RHYTHM`: [N, A] -> [N] bool."""
  columns = [k for k, name in enumerate(label_names) if name in RHYTHM]
  return (labels[:, columns] > 0).any(axis=1)


def has_partner(pool: Pool, usable: np.ndarray) -> np.ndarray:
  """Records whose label set another patient has too: [N] bool.

  Args:
    pool: the records.
    usable: [N] bool, who may be a parent.
  """
  _, patient = np.unique(pool.patients, return_inverse=True)
  rows = np.flatnonzero(usable)
  pairs = np.unique(np.stack([pool.groups, patient], axis=1)[rows], axis=0)
  patients = np.bincount(pairs[:, 0], minlength=pool.groups.max(initial=0) + 1)
  return usable & (patients[pool.groups] > 1)


def number_wanted(positives: int, ratio: float, target: int) -> int:
  """ECGs that a class gets: min(r n, target - n), or r n without a target.

  Raises:
    ValueError: if r is not in (0, 5].
  """
  if not 0 < ratio <= MAX_RATIO:
    raise ValueError(
      f'config.augment.ratio is {ratio:g}; choose above 0 to {MAX_RATIO:g}'
    )
  wanted = int(np.floor(ratio * positives + 0.5))
  return min(wanted, max(target - positives, 0)) if target else wanted


def cycle(rng, rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
  """Batches of `size` rows without end, every row as often as the others."""
  left = np.zeros(0, int)
  while True:
    while len(left) < size:
      left = np.concatenate([left, rng.permutation(rows)])
    yield left[:size]
    left = left[size:]


def draw_partners(
  rng,
  pool: Pool,
  first: np.ndarray,
  usable: np.ndarray,
  features: np.ndarray | None = None,
  neighbours: int = 0,
) -> np.ndarray:
  """A second parent for each first one: same label set, another patient.

  Args:
    rng: NumPy generator.
    pool: the records.
    first: [B] rows of the first parents, who have partners.
    usable: [N] bool, who may be a parent.
    features: [N, D], where partners are to be near; None for any partner.
    neighbours: k, the number of nearest ones among which is drawn.

  Returns:
    [B] rows.
  """
  partners = np.empty_like(first)
  unit = rng.uniform(size=len(first))
  for place, row in enumerate(first):
    others = np.flatnonzero(
      usable
      & (pool.groups == pool.groups[row])
      & (pool.patients != pool.patients[row])
    )
    if features is not None:
      distance = np.square(features[others] - features[row]).sum(axis=1)
      others = others[np.argsort(distance, kind='stable')[:neighbours]]
    partners[place] = others[int(unit[place] * len(others))]
  return partners


def child_labels(
  pool: Pool, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Statements of children: all of either parent; known where both are.

  Args:
    pool: the records.
    a, b: [B] rows.

  Returns:
    labels and label_mask, both [B, A] uint8.
  """
  labels = np.maximum(pool.labels[a], pool.labels[b])
  mask = np.minimum(pool.label_mask[a], pool.label_mask[b])
  return labels, np.maximum(mask, labels)


def check_parents(ids, held_out: dict[str, dict], table) -> None:
  """Refuses parents outside of the training fold.

  Args:
    ids: record ids of all that may become parents or neighbours.
    held_out: split name -> record table of validation and test.
    table: record table of the training split.

  Raises:
    ValueError: if a parent is no training record, or its patient is held out.
  """
  for split, other in held_out.items():
    patients = table['patient_id'][np.isin(table['record_id'], ids)]
    found = np.isin(other['record_id'], ids) | np.isin(
      other['patient_id'], patients
    )
    if found.any():
      raise ValueError(
        f'generate: record {str(other["record_id"][found][0])!r} of split '
        f'{split} or its patient would be a parent; nothing is generated from '
        'held-out patients'
      )
  foreign = np.setdiff1d(ids, table['record_id'])
  if len(foreign):
    raise ValueError(
      f'generate: {str(foreign[0])!r} is no training record of the data set'
    )
