"""Which labels a cell of a label-efficiency study may use.

Subsets are nested and stratified by `data.store.splits`, for a seed the same in
every arm; of training, and of validation in the same share.
"""

import numpy as np

from ecgjax.data.store import records, splits


def subset_sizes(study, num_labelled: int) -> list[tuple[str, dict]]:
  """Name and `splits.label_subset` argument of every subset.

  Args:
    study: `config.study`.
    num_labelled: training records there are.

  Raises:
    ValueError: if fractions and numbers of records are both given, or neither,
      or a number is not below that of all records.
  """
  if bool(study.fractions) == bool(study.num_records):
    raise ValueError(
      'config.study: give either fractions or num_records, not both'
    )
  if study.num_records and max(study.num_records) >= num_labelled:
    raise ValueError(
      f'config.study.num_records has {max(study.num_records)}; the training '
      f'split has {num_labelled} labelled records; leave it out (0 means all)'
    )
  found = [
    (f'labels{100 * f:g}percent', {'fraction': f}) for f in study.fractions
  ]
  for n in study.num_records:
    size = {'num_records': n} if n else {'fraction': 1.0}
    found.append((f'labels{n or "all"}', size))
  return found


def arguments(data, name: str) -> tuple:
  """Of `splits.label_subset`: ids, patients, labels and their names."""
  split = data.labelled[name]
  table = records.read_table(data.builder, name)
  return (
    split.record_ids, table['patient_id'][split.position],
    split.columns['label'], split.class_names,
  )  # fmt: skip


def validation_manifest(study, data, seed: int, size: dict) -> dict:
  """Validation records whose labels a cell may use for its choices.

  With `study.validation='budget'` they are a nested, stratified subset of the
  same share as that of the training records; at least the smallest beginning of
  the order in which some label has both classes, as without one nothing can be
  chosen. With 'full' they are all.

  Args:
    study: `config.study`.
    data: `run_data.RunData`.
    seed: of the order.
    size: argument of `splits.label_subset` for the training records.

  Raises:
    ValueError: if no label has both classes on validation.
  """
  given = arguments(data, 'validation')
  if study.validation == 'full' or size.get('fraction') == 1:
    return splits.label_subset(*given, seed=seed, fraction=1.0)
  if 'num_records' in size:
    total, own = (len(data.labelled[x]) for x in ('train', 'validation'))
    share = max(1, int(size['num_records'] * own / total + 0.5))
    size = {'num_records': share}
  manifest = splits.label_subset(*given, seed=seed, **size)
  columns = data.labelled['validation'].columns
  order = splits.stratified_order(*given[:3], seed)
  known = columns['label_mask'][order] > 0
  positive = columns['label'][order] > 0
  sides = (positive & known, ~positive & known)
  both = np.logical_and(*(x.cumsum(axis=0) > 0 for x in sides))  # [N, K]
  if not both.any():
    raise ValueError(
      'study: no label has a positive and a negative on validation, so that '
      'nothing can be chosen there; use a larger data set'
    )
  least = int(both.any(axis=1).argmax()) + 1
  if least > manifest['num_records']:
    manifest = splits.label_subset(*given, seed=seed, num_records=least)
  return manifest
