"""Which records train, validate and test (docs/evaluation.md).

Label subsets. For a seed the training patients get ONE order, and every subset
is a beginning of it, so subsets are nested. The order starts from a hash of
(seed, patient id) and is then stratified: the next patient is, among the next
few of the hash order, the one who brings the label counts closest to their
share, rare labels weighing most. Hashes and whole numbers only: the same seed
gives the same manifest on every machine.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from ecgjax.data.store.records import read_table

# Shares of the hash split: test below the first bound, validation below the
# second, training above.
_TEST_BELOW = 0.2
_VALIDATION_BELOW = 0.3


def hash_split(corpus: str, patient_id: str) -> str:
  """Split of a patient in a corpus without official folds.

  A pure function of two names: no generator state and no file order, so a
  patient stays where he is when records are added.

  Args:
    corpus: name of the corpus, e.g. 'georgia'.
    patient_id: the patient, or the record where the corpus has no patients.

  Returns:
    'train', 'validation' or 'test'; 70, 10 and 20 % of all patients.
  """
  text = f'ecgjax-split-v1|{corpus}|{patient_id}'
  head = hashlib.sha256(text.encode()).digest()[:8]
  u = int.from_bytes(head, 'big') / 2**64
  if u < _TEST_BELOW:
    return 'test'
  return 'validation' if u < _VALIDATION_BELOW else 'train'


def stratified_order(
  record_ids: np.ndarray,
  patient_ids: np.ndarray,
  labels: np.ndarray,
  seed: int,
) -> np.ndarray:
  """Order of records of which every beginning is a stratified subset.

  Patients stay together. Every label with two or more positive patients occurs
  among the first 2 K records, where the numbers of records per patient allow.

  Args:
    record_ids: [N] unique strings.
    patient_ids: [N] strings.
    labels: [N, K], nonzero where positive.
    seed: another seed gives another order.

  Returns:
    [N] row numbers.
  """
  names, patient = np.unique(patient_ids, return_inverse=True)
  hashes = [
    hashlib.sha256(f'ecgjax-subset-v1|{seed}|{name}'.encode()).digest()
    for name in names
  ]
  hash_order = sorted(range(len(names)), key=hashes.__getitem__)
  positive = np.zeros((len(names), labels.shape[1]), bool)
  np.logical_or.at(positive, patient, labels != 0)
  num_records = np.bincount(patient, minlength=len(names))
  order = _stratify(positive[hash_order], num_records[hash_order])
  rank = np.empty(len(names), int)
  rank[np.array(hash_order)[order]] = np.arange(len(names))
  return np.lexsort((np.argsort(np.argsort(record_ids)), rank[patient]))


def _stratify(positive: np.ndarray, num_records: np.ndarray) -> np.ndarray:
  """Order of patients; `positive` [P, K] bool comes in hash order."""
  num_patients, num_labels = positive.shape
  x = positive.astype(float)  # whole numbers far below 2**53: exact
  total = x.sum(axis=0)
  weight = np.floor(num_patients / np.maximum(total, 1))
  # The patient with the fewest records of each label, for late coverage.
  cost = np.where(positive, num_records[:, None], num_records.max() + 1)
  cheapest = cost.argmin(axis=0)  # [K]
  uncovered = total >= 2
  count = np.zeros(num_labels)
  placed = np.zeros(num_patients, bool)
  order, records, following = [], 0, 0
  candidates = []
  while len(order) < num_patients:
    while following < num_patients and len(candidates) < 50 + 2 * num_labels:
      if not placed[following]:
        candidates.append(following)
      following += 1
    # Deviation from the share after this patient, times the number of
    # patients: sum of w (d + x)**2 - w d**2 = x . w (2 d + 1) for x in {0, 1}.
    deviation = count * num_patients - total * (len(order) + 1)
    gain = x[candidates] @ (weight * (2 * deviation + num_patients))
    chosen = candidates[int(gain.argmin())]
    if uncovered.any():
      missing = uncovered & ~positive[chosen]
      reserve = num_records[cheapest[missing]].sum()
      if records + num_records[chosen] + reserve > 2 * num_labels:
        rarest = np.where(uncovered, total, np.inf).argmin()
        chosen = int(cheapest[rarest])
      uncovered &= ~positive[chosen]
    if chosen in candidates:
      candidates.remove(chosen)
    placed[chosen] = True
    order.append(chosen)
    records += num_records[chosen]
    count += x[chosen]
  return np.array(order)


def label_subset(
  record_ids: np.ndarray,
  patient_ids: np.ndarray,
  labels: np.ndarray,
  label_names: Sequence[str],
  *,
  seed: int,
  fraction: float | None = None,
  num_records: int | None = None,
) -> dict:
  """Manifest of a nested, stratified subset of the training records.

  Args:
    record_ids: [N] unique strings.
    patient_ids: [N] strings.
    labels: [N, K], nonzero where positive.
    label_names: [K] names.
    seed: seed of the order.
    fraction: share of the training PATIENTS in (0, 1], with all their
      records; or
    num_records: an exact number of records (the last patient may be cut).

  Returns:
    {'seed', 'fraction', 'num_records', 'num_patients', 'record_ids' (sorted),
    'missing_labels' (positive in training, not in the subset), 'sha256'}.

  Raises:
    ValueError: if not exactly one size is given or it is out of range.
  """
  if (fraction is None) == (num_records is None):
    raise ValueError('label subset: give either fraction or num_records')
  order = stratified_order(record_ids, patient_ids, labels, seed)
  if fraction is not None:
    if not 0 < fraction <= 1:
      raise ValueError(f'label fraction is {fraction:g}; choose 0 < f <= 1')
    first = dict.fromkeys(patient_ids[order].tolist())  # keeps the order
    size = max(1, int(fraction * len(first) + 0.5))
    chosen = order[np.isin(patient_ids[order], list(first)[:size])]
  else:
    if not 0 < num_records <= len(order):
      raise ValueError(
        f'label subset of {num_records} records: the training split has '
        f'{len(order)} that can be used'
      )
    chosen = order[:num_records]
  absent = (labels != 0).any(axis=0) & ~(labels[chosen] != 0).any(axis=0)
  return manifest(
    record_ids[chosen],
    seed=seed,
    fraction=fraction,
    num_records=len(chosen),
    num_patients=len(np.unique(patient_ids[chosen])),
    missing_labels=[str(label_names[k]) for k in np.flatnonzero(absent)],
  )


def rare_subset(
  record_ids: np.ndarray,
  patient_ids: np.ndarray,
  labels: np.ndarray,
  label_names: Sequence[str],
  *,
  seed: int,
  positives: int,
) -> dict:
  """Manifest of the training records with few positives of every class.

  Patients are put in the order of a hash of (seed, patient id). A record stays
  if, for each of its classes, fewer than `positives` records of that class come
  before it; records of none stay all. Subsets of a seed are nested, and hold at
  most `positives` of a class: fewer where classes go together.

  Args:
    record_ids: [N] unique strings.
    patient_ids: [N] strings.
    labels: [N, K], nonzero where positive, of the classes that become rare.
    label_names: [K] names.
    seed: seed of the order.
    positives: n.

  Returns:
    {'seed', 'positives', 'num_records', 'num_patients', 'num_positives' (class
    -> records), 'record_ids' (sorted), 'sha256'}.

  Raises:
    ValueError: if `positives` is below one, or a class keeps no record.
  """
  if positives < 1:
    raise ValueError(f'rare subset: positives is {positives}; choose 1 or more')
  hashes = {
    name: hashlib.sha256(f'ecgjax-rare-v1|{seed}|{name}'.encode()).digest()
    for name in np.unique(patient_ids).tolist()
  }
  order = sorted(
    range(len(record_ids)),
    key=lambda row: (hashes[str(patient_ids[row])], str(record_ids[row])),
  )
  positive = labels[order] != 0
  before = np.cumsum(positive, axis=0) - positive
  keep = (~positive | (before < positives)).all(axis=1)
  chosen = np.array(order)[keep]
  counts = positive[keep].sum(axis=0)
  if not counts.all():
    name = label_names[int(np.argmin(counts))]
    raise ValueError(
      f'rare subset: no record of {name} is left with {positives} positives; '
      'choose more'
    )
  return manifest(
    record_ids[chosen],
    seed=seed,
    positives=positives,
    num_records=len(chosen),
    num_patients=len(np.unique(patient_ids[chosen])),
    num_positives={str(n): int(c) for n, c in zip(label_names, counts)},
  )


def manifest(record_ids: Iterable[str], **facts) -> dict:
  """{'record_ids' (sorted), the facts given, 'sha256' of all that}."""
  content = {'record_ids': sorted(map(str, record_ids)), **facts}
  return content | {'sha256': _sha256(content)}


def split_manifest(builder) -> dict:
  """Which record and patient of a prepared data set is in which split.

  Returns:
    {'rows': sorted [record_id, patient_id, split], 'sha256'}.
  """
  rows = []
  for split in builder.info.splits:
    table = read_table(builder, split)
    for record, patient in zip(table['record_id'], table['patient_id']):
      rows.append([str(record), str(patient), split])
  content = {'rows': sorted(rows)}
  return content | {'sha256': _sha256(content)}


def write_manifest(content: dict, path) -> None:
  """Writes a manifest as JSON, at once or not at all."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix('.tmp')
  temporary.write_text(json.dumps(content, indent=1) + '\n')
  os.replace(temporary, path)


def read_manifest(path) -> dict:
  """Reads a manifest back.

  Raises:
    ValueError: if it was changed since it was written.
  """
  content = json.loads(pathlib.Path(path).read_text())
  sha256 = content.pop('sha256', None)
  if sha256 != _sha256(content):
    raise ValueError(
      f'manifest {path} does not match its sha256; delete it to make it again'
    )
  return content | {'sha256': sha256}


def _sha256(content: dict) -> str:
  text = json.dumps(content, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()
