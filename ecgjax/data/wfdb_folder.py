"""TFDS builder `wfdb_folder`: your own folder of 12-lead WFDB recordings.

  python -m ecgjax.data.prepare --dataset=wfdb_folder --raw_dir=FOLDER \\
    --data_dir=DIR [--labels_csv=TABLE]

Every header (`.hea`) below the folder is a record; its id is the path below
the folder, without suffix. Sampling rate, length, gain, unit, order and
spelling of the leads are free; all twelve leads must be there. Age and sex come
from header comments such as `#Age: 51`. Gains that are the leads' own spans, as
in LUDB, are none (`formats.wfdb`); records read without them are counted.

The table of labels is a CSV file, plain or gzipped, with the columns

  record    id as above, or what tells it from all others: the file name alone,
            a longer path, without leading zeros, with '.0' (`store.joins`)
  patient   optional: whose ECG; decides the split and who is whose positive;
            nothing, 'nan' or 'None' is no patient
  time      optional: days, e.g. since the patient's first ECG; where a patient
            has negative days, all of that patient's are counted from the first
  age, sex  optional: years; male or female, M or F (`formats.cells`)
  labels    names separated by ';', '|' or ',', or a list as text: '[]' is none
            of them, an empty cell or 'nan' is not annotated
            OR any number of columns with 1, 0 or nothing (not annotated), whose
            titles are the labels; True, no and 1.0 are read too

Records without a row have no labels (mask 0); rows without a record are counted
and listed as `missing_file`; a table of which no row fits is refused. The split
is a hash of the patient, or of the record where there is none: 70 % train, 10 %
validation, 20 % test.
"""

import collections
import json
import math
import re

import numpy as np
import tensorflow_datasets as tfds

from ecgjax.data.store import builder, joins, splits
from ecgjax.formats import cells, csv_table, wfdb_folder

_OTHER_COLUMNS = ('record', 'patient', 'time', 'age', 'sex', 'labels')
_SEPARATORS = ';|,'


def read_labels(path: str) -> tuple[list[str], dict[str, dict]]:
  """Reads a table of labels, see the module.

  Args:
    path: where the CSV file is.

  Returns:
    The label names, A of them, and record -> dict with patient, time, age, sex,
    `labels`, a pair of [A] uint8 (labels, mask), and `unread`, what of age and
    sex could not be understood.

  Raises:
    ValueError: naming file, line and column.
  """
  rows = list(csv_table.read(path, ['record'], _OTHER_COLUMNS))
  columns = list(rows[0][1]) if rows else csv_table.titles(path)
  names = [name for name in columns if name not in _OTHER_COLUMNS]
  if 'labels' in columns and names:
    raise ValueError(
      f'{path}: column labels excludes label columns such as {names[0]}'
    )
  if 'labels' in columns:
    names = _listed_names(rows)
  _check_alike(path, names)
  table = {}
  for where, row in rows:
    record = row['record']
    if not record or record in table:
      raise ValueError(f'{where}: record {record!r} is empty or occurs twice')
    age, sex = row.get('age', ''), row.get('sex', '')
    if age.isalpha() and age.lower() != 'inf' and not cells.is_nothing(age):
      raise ValueError(
        f'{where}: column age has the value {age!r}, not a number'
      )
    table[record] = {
      'patient': cells.identifier(row.get('patient', '')),
      'time': _days(row.get('time', ''), where),
      'age': cells.age(age),
      'sex': cells.sex(sex),
      'labels': _labels(row, names, where),
      'unread': cells.not_understood(age, sex),
    }
  words = {row.get('sex', '').lower() for _, row in rows}
  if {'h', 'm'} <= words:
    raise ValueError(
      f'{path}: column sex has H and M, so M may be mujer or male; write male '
      'and female'
    )
  joins.one_form(path, 'patient', (r['patient'] for r in table.values()))
  return names, _count_from_first(table)


def _listed_names(rows) -> list[str]:
  """All names of the column `labels`, sorted.

  Raises:
    ValueError: if some cells separate them otherwise than others.
  """
  first, found = {}, set()
  for where, row in rows:
    if not re.fullmatch(r'[\[({].*[\])}]', row['labels'], re.DOTALL):
      for separator in _SEPARATORS:
        if separator in row['labels']:
          first.setdefault(separator, where)
    found.update(cells.names(row['labels'])[0])
  if len(first) > 1:
    (one, where), (other, there) = list(first.items())[:2]
    raise ValueError(
      f'{where}: column labels has {one!r}, and {other!r} in {there}; separate '
      'all labels by one of them'
    )
  return sorted(found)


def _check_alike(path, names):
  joined = collections.defaultdict(list)
  for name in names:
    joined[name.casefold()].append(name)
  for alike in joined.values():
    if len(alike) > 1:
      raise ValueError(
        f'{path}: the labels {alike[0]!r} and {alike[1]!r} differ by case '
        'only; write them alike'
      )


def _days(text: str, where: str) -> float:
  if cells.is_nothing(text):
    return math.nan
  try:
    days = float(text)
  except ValueError:
    days = math.inf
  if math.isinf(days):
    raise ValueError(
      f'{where}: column time has the value {text!r}, not a number'
    )
  return days


def _count_from_first(table: dict[str, dict]) -> dict[str, dict]:
  """The rows, with the days of patients who have negative ones from 0 on."""
  first = {}
  for record, row in table.items():
    who = row['patient'] or (record,)
    first[who] = min(first.get(who, 0.0), row['time'])
  return {
    record: row | {'time': row['time'] - first[row['patient'] or (record,)]}
    for record, row in table.items()
  }


def _labels(row, names, where) -> tuple[np.ndarray, np.ndarray]:
  found = np.zeros(len(names), np.uint8)
  if 'labels' in row:
    listed, everything = cells.names(row['labels'])
    found[[names.index(name) for name in listed]] = 1
    return found, found | np.uint8(everything)
  mask = np.ones(len(names), np.uint8)
  for i, name in enumerate(names):
    try:
      value = cells.bit(row[name])
    except ValueError:
      raise ValueError(
        f'{where}: column {name} has the value {row[name]!r}; labels are 1, 0 '
        'or empty'
      ) from None
    found[i], mask[i] = value == 1, value >= 0
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
    joined = [joins.join(path, table, records)] if path else []
    rows = {
      (joined[0].records.get(row) or joins.normal(row)): found
      for row, found in table.items()
    }
    patients = {row['patient'] for row in rows.values()} - {''}
    width = max(1, len(names))
    nothing = (np.zeros(width, np.uint8), np.zeros(width, np.uint8))
    entries = []
    for record in sorted({*records, *rows}):
      row = rows.get(record, {})
      patient = row.get('patient', '')
      if not patient and record in patients:
        patient = f'record {record}'  # somebody else has this number
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
          unread=row.get('unread', ()),
        )
      )
    level = 'patient' if patients else 'record'
    return builder.Plan(entries, [], level, names, tuple(joined))

  def annotate(self, entry, comments):
    fields = wfdb_folder.header_fields(comments)
    age, sex = fields.get('age', ''), fields.get('sex', '')
    # The table comes first, the header fills what it leaves open.
    age = age if math.isnan(entry.age) else ''
    sex = sex if entry.sex < 0 else ''
    return entry._replace(
      age=cells.age(age) if age else entry.age,
      sex=cells.sex(sex) if sex else entry.sex,
      unread=entry.unread + cells.not_understood(age, sex),
    )
