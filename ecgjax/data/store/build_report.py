"""Counting while a data set is built: what was stored, what was not and why."""

import collections
import csv
import os
from typing import NamedTuple

import numpy as np

from ecgjax.data.store.labels import title
from ecgjax.formats import cells

MISSING_FILE = 'missing_file'  # the one reason that is nobody's fault
LEFT_OUT = {
  'leakage_test_fold': 'a validation or test record of PTB-XL (folds 9, 10)',
  'leakage_unknown_fold': 'a PTB-XL record whose fold is not known',
  'known_defect': 'on the list of unusable records of its corpus',
}


class TooManyRejected(ValueError):
  """More records are rejected than allowed, or none is left."""


class Rejection(NamedTuple):
  """One row of the rejections CSV."""

  record: str
  file: str
  reason: str
  detail: str


_LISTED = 20  # words that a report keeps of those that nobody understood
_NAMED = 5  # records that a summary names for a remark
HEADER = ','.join(Rejection._fields) + '\n'


class Tally:
  """Counts of one build.

  Args:
    label_names: the A stored statements.
    joins: counts of the tables that were joined to records.
    notes: further counts, fact -> number.
  """

  def __init__(self, label_names: list[str], joins=(), notes=None):
    self._joins, self._notes = list(joins), dict(notes or {})
    self._unread = collections.Counter()
    self.rejections: list[Rejection] = []
    self._label_names = label_names
    self._labels = np.zeros(len(label_names), np.int64)
    self._counts = collections.Counter()
    self._splits = collections.Counter()
    self._sources = collections.Counter()
    self._patients = collections.defaultdict(set)  # split -> ids
    self._hashes = collections.defaultdict(list)  # content -> splits
    self._remarks = collections.defaultdict(list)  # remark -> record ids

  def reject(self, record: str, file: str, reason: str, detail: str):
    """Notes a record that is not stored."""
    self.rejections.append(Rejection(record, file, reason, detail))

  def add(self, entry, converted):
    """Notes a stored record: `builder.Entry` and `convert.Converted`."""
    self._splits[entry.split] += 1
    self._sources[entry.source] += 1
    self._patients[entry.split].add(entry.patient)
    self._hashes[converted.content_hash].append(entry.split)
    self._labels += entry.labels[0]
    self._counts['not_annotated'] += not entry.labels[1].any()
    self._unread.update(entry.unread)
    self._counts['cut'] += converted.cut
    end = converted.valid_start + converted.valid_len
    self._counts['padded'] += end < len(converted.ecg)
    for remark in converted.remarks:
      self._remarks[remark].append(entry.record_id)
    self._counts['without_checksum'] += not converted.checksum_checked

  def check(self, max_rejected: float, name: str, csv_path: str):
    """Refuses a data set with too many rejections, or without any record.

    Raises:
      TooManyRejected: naming the list of rejections.
    """
    report = self.report()
    rejected, read = sum(report['rejected'].values()), report['read']
    if rejected > max_rejected * read:
      raise TooManyRejected(
        f'{name}: {rejected} of {read} records ({rejected / read:.1%}) are '
        f'rejected, more than --max_rejected={max_rejected:g}; see {csv_path}'
      )
    if not report['records']:
      raise TooManyRejected(f'{name}: no record can be used; see {csv_path}')

  def write_csv(self, path: str):
    """Writes the list of rejections; the file appears complete or not."""
    part = path + '.part'
    with open(
      part, 'w', newline='', encoding='utf-8', errors='backslashreplace'
    ) as file:
      writer = csv.writer(file, lineterminator='\n')
      file.write(HEADER)
      for row in sorted(self.rejections):
        writer.writerow(map(cells.to_csv, row))
    os.replace(part, path)

  def report(self) -> dict:
    """The counts as JSON-able values; kept in the data set's metadata."""
    reasons = collections.Counter(row.reason for row in self.rejections)
    missing = reasons.pop(MISSING_FILE, 0)
    left_out = {k: reasons.pop(k) for k in LEFT_OUT if k in reasons}
    records = sum(self._splits.values())
    twice = [splits for splits in self._hashes.values() if len(splits) > 1]
    present = np.flatnonzero(self._labels)
    return {
      'records': records,
      'patients': len(set().union(*self._patients.values())),
      'read': records + sum(reasons.values()),
      'splits': dict(self._splits),
      'patients_per_split': {k: len(v) for k, v in self._patients.items()},
      'sources': dict(sorted(self._sources.items())),
      'rejected': dict(sorted(reasons.items())),
      MISSING_FILE: missing,
      'left_out': left_out,
      'joins': self._joins,
      'notes': self._notes,
      'not_annotated': self._counts['not_annotated'] * bool(self._labels.size),
      'not_understood': dict(self._unread.most_common(_LISTED)),
      'labels': {self._label_names[i]: int(self._labels[i]) for i in present},
      'cut': self._counts['cut'],
      'padded': self._counts['padded'],
      'without_checksum': self._counts['without_checksum'],
      'remarks': {k: sorted(v) for k, v in sorted(self._remarks.items())},
      # Equal signals: how many groups of records, and groups over splits.
      'duplicates': len(twice),
      'duplicates_across_splits': sum(len(set(x)) > 1 for x in twice),
    }


def _joined(report: dict) -> list[str]:
  """Lines about tables and annotations; older reports have none."""
  lines = []
  for join in report.get('joins', ()):
    rows = join['matched'] + join['rows_without_record']
    line = f'joined     {join["table"]}: {join["matched"]} of {rows} rows'
    if join['rows_without_record']:
      line += (
        f', {join["rows_without_record"]} without a record (first: '
        f'{join["first_row_without_record"]})'
      )
    lines.append(
      line + f'; {join["records_without_row"]} records without a row'
    )
  if report.get('not_annotated'):
    lines.append(
      f'unlabelled {report["not_annotated"]} records are annotated for no label'
    )
  for note, number in report.get('notes', {}).items():
    lines.append(f'note       {note}: {number}')
  if report.get('not_understood'):
    words = [f'{k} {n}x' for k, n in report['not_understood'].items()]
    more = ', ...' * (len(words) > _NAMED)
    lines.append(f'not read   {", ".join(words[:_NAMED])}{more}')
  return lines


def read_csv(path: str) -> list[Rejection]:
  """The rows of a list of rejections, as they were noted."""
  with open(path, newline='', encoding='utf-8') as file:
    rows = list(csv.reader(file))[1:]
  return [Rejection(*map(cells.from_csv, row)) for row in rows]


def summary(report: dict, split_level: str) -> str:
  """The report for people, one fact a line."""

  def listing(counts):
    return ', '.join(f'{name} {number}' for name, number in counts.items())

  rejected = sum(report['rejected'].values())
  share = f' ({rejected / report["read"]:.1%})' if rejected else ''
  unit = '' if split_level == 'patient' else ' (record-level: no patient ids)'
  labels = sorted(report['labels'].items(), key=lambda item: -item[1])
  most = listing({title(name): n for name, n in labels[:12]})
  more = f', {len(labels) - 12} more' if len(labels) > 12 else ''
  lines = [
    f'records    {report["records"]} of {report["patients"]} patients',
    f'rejected   {rejected} of {report["read"]} read{share}'
    + (': ' if rejected else '')
    + listing(report['rejected']),
    f'splits     {listing(report["splits"])}{unit}',
    f'labels     {most or "none"}{more}',
  ]
  lines += _joined(report)
  if len(report['sources']) > 1:
    lines.append(f'sources    {listing(report["sources"])}')
  if report[MISSING_FILE]:
    lines.append(
      f'missing    {report[MISSING_FILE]} named by a table, without a record'
    )
  if report['left_out']:
    lines.append(f'left out   {listing(report["left_out"])}')
  notes = {
    'cut': 'longer than stored, cut',
    'padded': 'shorter than stored, padded',
    'without_checksum': 'without checksums',
    'duplicates': 'groups of equal signals',
    'duplicates_across_splits': 'groups of equal signals in several splits',
  }
  notes = [f'{report[k]} {text}' for k, text in notes.items() if report[k]]
  for remark, records in report.get('remarks', {}).items():
    some = ', '.join(records[:_NAMED]) + (', ...' * (len(records) > _NAMED))
    lines.append(f'remark     {remark} {len(records)}: {some}')
  if notes:
    lines.append(f'notes      {", ".join(notes)}')
  return '\n'.join(lines)
