"""Readers' labels next to a model's, on the same test records.

The readers' table is a CSV with the columns `record_id`, `reader`, `group`
(e.g. general, specialist) and one column per label that was asked for, with 1,
0 or an empty cell (not judged). A reader need not have read every record; every
comparison with the model is made on the records that the reader judged, on the
same bootstrap draws (docs/evaluation.md).
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.data.store import joins
from ecgjax.evaluators import arms
from ecgjax.formats import cells, csv_table
from ecgjax.metrics import bootstrap, metrics
from ecgjax.report import page, tables
from ecgjax.report.finding import Finding

OPTIONS = {'readers_csv': ''}  # columns record_id, reader, group and labels

METRICS = ('sensitivity', 'specificity', 'f1')
_INDICES = [metrics.METRICS.index(name) for name in METRICS]
_COLUMNS = ('record_id', 'reader', 'group')


class Reader(NamedTuple):
  """One reader's judgements, aligned with the test records.

  Attributes:
    name: reader, or the group's majority.
    group: what the CSV says, e.g. 'cardiologist'.
    calls: [N, K] int8: 1, 0 or -1 (not judged).
  """

  name: str
  group: str
  calls: np.ndarray


def check_data(options, data) -> None:
  """Raises a ValueError where the table does not fit the test split."""
  _read(options, data)


def evaluate(run) -> Finding:
  """Readers beside the classifier, or the probe where that lacks classes."""
  scores = arms.scores(run)
  chosen = next(
    x for x in ('finetune', 'scratch', 'linear', 'probe') if x in scores
  )
  splits = {name: split.columns for name, split in run.data.labelled.items()}
  validation, test = splits['validation'], splits['test']
  part = compare_readers(
    _read(run.options, run.data),
    scores[chosen][1],
    metrics.f1_thresholds(
      validation['label'], scores[chosen][0], validation['label_mask']
    ),
    test['label'],
    test['patient'],
    run.data.labelled['test'].class_names,
    label_mask=test['label_mask'],
    draws=run.draws,
  )
  return Finding(
    fields={'readers': {'arm': chosen, **part}}, sections=[section(part)]
  )


def section(part: Mapping) -> page.Section:
  """Tables of the report, see `compare_readers`."""
  return page.Section('Readers', tables.reader_tables(part))


def _read(options, data) -> list[Reader]:
  test = data.labelled['test']
  return read_readers(options['readers_csv'], test.record_ids, test.class_names)


def read_readers(
  path: str | os.PathLike,
  record_ids: Sequence[str],
  class_names: Sequence[str],
) -> list[Reader]:
  """Reads the CSV and aligns it with the test set.

  Args:
    path: the CSV.
    record_ids: [N] test records, in the order of the model's scores.
    class_names: K labels; at least one is a column, no other column is one.

  Returns:
    Readers in order of first appearance, then the majority vote of each group
    with three readers or more. A vote needs more than half of the readers who
    judged the record and label; a tie is a 0.

  Raises:
    ValueError: naming file and line, for a missing or unknown column, an
      unknown record (`joins.join`), a repeated judgement, another cell than 1,
      0 or nothing.
  """
  rows = {str(record): row for row, record in enumerate(record_ids)}
  lines = list(csv_table.read(os.fspath(path), _COLUMNS, _COLUMNS))
  columns = list(lines[0][1]) if lines else csv_table.titles(os.fspath(path))
  listed = dict.fromkeys(row['record_id'] for _, row in lines)
  asked = [name for name in columns if name not in _COLUMNS]
  unknown = [name for name in asked if name not in class_names]
  if unknown or not asked:
    found = f'column {unknown[0]!r} is none' if unknown else 'no column is one'
    raise ValueError(
      f'{path}: {found} of the labels of the task, which are '
      + ', '.join(class_names)
    )
  if not lines:
    raise ValueError(f'{path}: no reader')
  joined = joins.join(os.fspath(path), listed, rows)
  calls, groups, seen = {}, {}, set()
  for where, row in lines:
    reader, group = row['reader'], row['group']
    record = joined.records.get(row['record_id'])
    if record is None:
      raise ValueError(
        f'{where}: record {row["record_id"]!r} is not in the test set'
      )
    if not reader:
      raise ValueError(f'{where}: no name of a reader')
    if (record, reader) in seen:
      raise ValueError(f'{where}: {reader!r} has read {record!r} before')
    seen.add((record, reader))
    if groups.setdefault(reader, group) != group:
      raise ValueError(f'{where}: reader {reader!r} is in two groups')
    judged = calls.setdefault(
      reader, np.full((len(rows), len(class_names)), -1, np.int8)
    )
    for label in asked:
      try:
        call = cells.bit(row[label])
      except ValueError:
        raise ValueError(
          f'{where}: {label} is {row[label]!r}; use 1, 0 or nothing'
        ) from None
      judged[rows[record], class_names.index(label)] = call
  readers = [Reader(name, groups[name], calls[name]) for name in calls]
  for group in dict.fromkeys(groups.values()):
    members = [reader.calls for reader in readers if reader.group == group]
    if len(members) >= 3:
      vote = majority(np.stack(members))
      readers.append(Reader(f'{group}, majority', group, vote))
  return readers


def majority(calls: np.ndarray) -> np.ndarray:
  """Strict majority among those who judged; ties are 0.

  Args:
    calls: [R, N, K] in {1, 0, -1}.

  Returns:
    [N, K] in {1, 0, -1}; -1 where nobody judged.
  """
  yes, judged = (calls == 1).sum(axis=0), (calls >= 0).sum(axis=0)
  vote = np.where(2 * yes > judged, 1, 0)
  return np.where(judged == 0, -1, vote).astype(np.int8)


def compare_readers(
  readers: Sequence[Reader],
  scores: np.ndarray,
  thresholds: np.ndarray,
  labels: np.ndarray,
  patients: Sequence,
  class_names: Sequence[str],
  *,
  label_mask: np.ndarray | None = None,
  draws: int = bootstrap.DRAWS,
  seed: int = 0,
) -> dict:
  """Sensitivity, specificity and F1 of readers and model, with intervals.

  Only labels that some reader was asked for are looked at.

  Args:
    readers: what `read_readers` returned.
    scores: [N, K] the model's probabilities.
    thresholds: [K] chosen on validation.
    labels: [N, K] reference standard.
    patients: [N].
    class_names: K names.
    label_mask: [N, K], 0 where the reference standard says nothing.
    draws: number of bootstrap draws.
    seed: int; every draw follows from it.

  Returns:
    `rows`: list of {'name', 'group', 'num_records', 'per_class': {label:
    {metric: {'value', 'ci95'}}}, 'macro': {metric: ...} over the labels with
    both classes}, the model (on all records) first; and `differences`: reader
    -> the same two parts with p and p_holm, model minus reader, on the records
    that the reader judged.

  Raises:
    ValueError: if a label has no threshold or arrays disagree.
  """
  labels, scores, everything = metrics.check_inputs(
    labels, scores, patients, class_names, label_mask
  )
  asked = np.flatnonzero(
    np.any([(r.calls >= 0).any(axis=0) for r in readers], axis=0)
  )
  labels, everything = labels[:, asked], everything[:, asked]
  scores, thresholds = scores[..., asked], np.asarray(thresholds)[asked]
  class_names = [class_names[k] for k in asked]
  if np.isnan(thresholds).any():
    label = class_names[int(np.argmax(np.isnan(thresholds)))]
    raise ValueError(f'no threshold for {label}: no positive on validation')
  called = (scores[0] >= thresholds).astype(np.int8)
  counts = bootstrap.patient_counts(patients, draws, seed)

  def evaluate(calls: np.ndarray, keep: np.ndarray):
    points, resampled = bootstrap.label_draws(
      labels, (calls == 1)[None].astype(np.float64), keep, counts,
      np.full((1, labels.shape[1]), 0.5), bootstrap.seed_weights(1, draws),
    )  # fmt: skip
    return points[0, _INDICES], resampled[_INDICES]  # [3, K], [3, K, D]

  def row(name, group, keep, points, resampled):
    return {
      'name': name,
      'group': group,
      'num_records': int(keep.any(axis=1).sum()),
      **_summarise(points, resampled, class_names, with_p=False),
    }

  rows = [row('model', 'model', everything, *evaluate(called, everything))]
  differences = {}
  for reader in readers:
    calls = reader.calls[:, asked]
    keep = (calls >= 0) & everything
    points, resampled = evaluate(calls, keep)
    rows.append(row(reader.name, reader.group, keep, points, resampled))
    model_points, model_draws = evaluate(called, keep)
    differences[reader.name] = _summarise(
      model_points - points, model_draws - resampled, class_names, with_p=True
    )
  _correct(differences)
  return {'rows': rows, 'differences': differences}


def _summarise(
  points: np.ndarray, draws: np.ndarray, class_names, with_p: bool
) -> dict:
  """`per_class` and `macro` entries.

  Args:
    points: [3, K], NaN for a label that lacks a class among the records.
    draws: [3, K, D].
    class_names: K names.
    with_p: True for differences.

  Returns:
    {'per_class': {label: {metric: entry}}, 'macro': {metric: entry}}.
  """

  def entries(values, resampled):
    return {
      name: {'value': float(value), 'ci95': bootstrap.interval(draw)}
      | ({'p': bootstrap.p_value(draw)} if with_p else {})
      for name, value, draw in zip(METRICS, values, resampled)
    }

  defined = np.flatnonzero(~np.isnan(points[0]))
  per_class = {
    class_names[k]: entries(points[:, k], draws[:, k]) for k in defined
  }
  if not len(defined):
    return {'per_class': per_class, 'macro': {}}
  means = [
    bootstrap.macro_draws(values[defined], resampled[defined])
    for values, resampled in zip(points, draws)
  ]
  return {
    'per_class': per_class,
    'macro': entries(points[:, defined].mean(axis=1), means),
  }


def _correct(differences: Mapping) -> None:
  """Holm's p over all readers and labels, one family per metric."""
  for metric in METRICS:
    family = {}
    for reader, parts in differences.items():
      entries = {'macro': parts['macro'], **parts['per_class']}
      for label, entry in entries.items():
        if metric in entry:
          family[reader, label] = entry[metric]
    bootstrap.correct(family)
