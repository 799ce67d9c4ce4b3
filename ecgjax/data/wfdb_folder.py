"""TFDS builder `wfdb_folder`: your own folder of 12-lead WFDB recordings.

  python -m ecgjax.data.prepare --dataset=wfdb_folder --raw_dir=FOLDER \\
    --data_dir=DIR [--labels_csv=TABLE]

Every header (`.hea`) below the folder is a record; its id is the path below
the folder, without suffix. Sampling rate, length, gain, unit, order and
spelling of the leads are free; all twelve leads must be there. Age and sex come
from header comments such as `#Age: 51`. Gains that are the leads' own spans, as
in LUDB, are none (`formats.wfdb`); records read without them are counted.

The table of labels is a CSV file with the columns

  record    id as above, or the file name alone where that is unique
  patient   optional: whose ECG; decides the split and who is whose positive
  time      optional: days, e.g. since the patient's first ECG
  age, sex  optional: years; M or F
  labels    names separated by ';'   OR   any number of columns with 1, 0 or
            nothing (not annotated), whose titles are the labels

Records without a row have no labels (mask 0); rows without a record are listed
as `missing_file`. The split is a hash of the patient, or of the record where
there is no column `patient`: 70 % train, 10 % validation, 20 % test.
"""

import collections
import csv
import json
import math
import os

import numpy as np
import tensorflow_datasets as tfds

from ecgjax.data.store import builder, splits
from ecgjax.formats import wfdb_folder

_OTHER_COLUMNS = ('record', 'patient', 'time', 'age', 'sex', 'labels')


def read_labels(path: str) -> tuple[list[str], dict[str, dict]]:
  """Reads a table of labels, see the module.

  Args:
    path: where the CSV file is.

  Returns:
    The label names, A of them, and record -> dict with patient, time, age, sex
    and `labels`, a pair of [A] uint8 (labels, mask).

  Raises:
    ValueError: naming file, line and column.
  """
  try:
    with open(path, newline='', encoding='utf-8-sig') as file:
      reader = csv.DictReader(file, restkey='', restval='', strict=True)
      columns = reader.fieldnames or []
      rows = [(f'{path}, line {reader.line_num}', row) for row in reader]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ValueError(f'{path}: cannot read the table: {error}') from None
  titles = [name for name in columns if name not in _OTHER_COLUMNS]
  if 'record' not in columns:
    raise ValueError(f'{path}: no column record among {", ".join(columns)}')
  if len(set(columns)) < len(columns) or '' in columns:
    raise ValueError(f'{path}: a column title is empty or occurs twice')
  if 'labels' in columns and titles:
    raise ValueError(
      f'{path}: column labels excludes label columns such as {titles[0]}'
    )
  names = titles
  if 'labels' in columns:
    names = sorted({name for _, row in rows for name in _listed(row['labels'])})
  table = {}
  for where, row in rows:
    if '' in row:
      raise ValueError(f'{where}: more fields than column titles')
    record = os.path.normpath(row['record'].strip()).replace(os.sep, '/')
    record = record.removesuffix('.hea')
    if not row['record'].strip() or record in table:
      raise ValueError(f'{where}: record {record!r} is empty or occurs twice')
    table[record] = {
      'patient': row.get('patient', '').strip(),
      'time': _number(row, 'time', where),
      'age': _number(row, 'age', where),
      'sex': wfdb_folder.parse_sex(row.get('sex', '').strip()),
      'labels': _labels(row, names, where),
    }
  return names, table


def _listed(text: str) -> list[str]:
  return [name.strip() for name in text.split(';') if name.strip()]


def _number(row, column, where) -> float:
  text = row.get(column, '').strip()
  try:
    return float(text) if text else math.nan
  except ValueError:
    raise ValueError(
      f'{where}: column {column} has the value {text!r}, not a number'
    ) from None


def _labels(row, names, where) -> tuple[np.ndarray, np.ndarray]:
  found = np.zeros(len(names), np.uint8)
  mask = np.ones(len(names), np.uint8)
  if 'labels' in row:
    found[[names.index(name) for name in _listed(row['labels'])]] = 1
    return found, mask
  for i, name in enumerate(names):
    text = row[name].strip()
    if text not in ('', '0', '1'):
      raise ValueError(
        f'{where}: column {name} has the value {text!r}; labels are 1, 0 or '
        'empty'
      )
    found[i], mask[i] = text == '1', text != ''
  return found, mask


class WfdbFolder(builder.EcgBuilder):
  """A folder of recordings, see the module."""

  DESCRIPTION = 'A folder of 12-lead WFDB recordings of your own.'
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Give the folder of your recordings.'
  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES = {
    '1.0.0': 'First version.',
    '1.1.0': "LUDB in microvolts by its counts, not by its leads' spans.",
  }
  OPTIONS = {'labels_csv': ('', 'table with labels')}

  def label_names(self):
    # A prepared data set knows its labels; the table may be gone.
    stored = self.data_path / 'metadata.json'
    if stored.exists():
      return json.loads(stored.read_text())['label_names']
    path = self.option('labels_csv')
    return read_labels(path)[0] if path else []

  def plan(self, raw_dir):
    path = self.option('labels_csv')
    names, table = read_labels(path) if path else ([], {})
    records = wfdb_folder.find_records(raw_dir)
    if not records:
      raise ValueError(f'{raw_dir} has no WFDB records (.hea files)')
    rows = _match(table, records, path)
    width = max(1, len(names))
    nothing = (np.zeros(width, np.uint8), np.zeros(width, np.uint8))
    entries = []
    for record in sorted({*records, *rows}):
      row = rows.get(record, {})
      patient = row.get('patient', '')
      time = row.get('time', math.nan)
      entries.append(
        builder.Entry(
          record_id=record,
          path=record,
          split=splits.hash_split('wfdb_folder', patient or record),
          source='wfdb_folder',
          patient_id=patient,
          time=-1.0 if math.isnan(time) else time,
          age=row.get('age', math.nan),
          sex=row.get('sex', -1),
          labels=row['labels'] if row and names else nothing,
        )
      )
    known = any(row['patient'] for row in rows.values())
    level = 'patient' if known else 'record'
    return builder.Plan(entries, [], level, names)

  def annotate(self, entry, comments):
    fields = wfdb_folder.header_fields(comments)
    if math.isnan(entry.age):
      age = wfdb_folder.parse_age(fields.get('age', ''))
      entry = entry._replace(age=age)
    if entry.sex < 0:
      sex = wfdb_folder.parse_sex(fields.get('sex', ''))
      entry = entry._replace(sex=sex)
    return entry


def _match(table, records, path) -> dict[str, dict]:
  """Rows by record id; a bare file name stands for its only record."""
  records = set(records)
  by_name = collections.defaultdict(list)
  for record in records:
    by_name[os.path.basename(record)].append(record)
  rows = {}
  for name, row in table.items():
    matches = [name] if name in records else by_name.get(name, [name])
    if len(matches) > 1:
      raise ValueError(
        f'{path}: record {name!r} may be {" or ".join(sorted(matches)[:2])}'
      )
    if matches[0] in rows:
      raise ValueError(f'{path}: two rows for record {matches[0]!r}')
    rows[matches[0]] = row
  return rows
