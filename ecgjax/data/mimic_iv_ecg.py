"""TFDS builder `mimic_iv_ecg`: MIMIC-IV-ECG 1.0, about 800,000 ECGs.

  python -m ecgjax.data.prepare --dataset=mimic_iv_ecg --raw_dir=RAW \\
    --data_dir=DIR [--labels_csv=TABLE]

RAW is the folder of the publisher (ODbL, open) that holds `record_list.csv`
and `files/`; 90 GB are not downloaded for you. Leads are read by name: the
files have aVF before aVL. The record id is `study_id`, the patient
`subject_id`, and `time` counts days from the patient's first ECG (dates are
shifted per patient, intervals are right). The split is a hash of the patient.
Age and sex are in MIMIC-IV itself, which is credentialed; they are unknown
here.

Labels are what the recorder's program said, where `machine_measurements.csv` is
in RAW: AF, AFL, premature, 1AVB and MI, by the wording in `raw.machine_report`.
Nobody has confirmed them, and the wording was written from memory of the
corpus, not from its table: look at the counts before you use them. Doubtful
statements ("possible", "cannot rule out") make a class unknown, a report of
which the recorder analysed nothing all of them; denied ones are negative. For
labels of your own, such as the credentialed MIMIC-IV-ECG-Ext-ICD, give a table
as for `wfdb_folder`: a column `record` with study ids and one column for each
label.
"""

import collections
import datetime
import json
import math
import re
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from ecgjax.data import wfdb_folder
from ecgjax.data.raw import machine_report, validate
from ecgjax.data.store import builder, joins, splits
from ecgjax.formats import cells, csv_table

TABLE = 'record_list.csv'
REPORTS = 'machine_measurements.csv'
STATEMENTS = machine_report.STATEMENTS
_NOTES = {
  'known': 'reports with a statement about a class',
  'other': 'reports with other statements only',
  'paced': 'reports of a paced rhythm',
  'nothing': 'reports of which nothing is known: empty, not analysed or in '
  'other words',
}
_RULES = validate.Rules(rate=500, seconds=10, gain=200)
_SECONDS_PER_DAY = 86400


def read_statements(
  statements: Sequence[str],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Labels and mask of the classes of `STATEMENTS`, of one report."""
  report = machine_report.read(statements)
  return report.labels, report.mask


def _days(text: str, where: str) -> float:
  """Days since some date; nan where there is none."""
  if cells.is_nothing(text):
    return math.nan
  try:
    moment = datetime.datetime.fromisoformat(text.strip())
  except ValueError:
    raise ValueError(
      f'{where}: column ecg_time has the value {text!r}'
    ) from None
  moment = moment.replace(tzinfo=datetime.UTC)
  return moment.timestamp() / _SECONDS_PER_DAY


def _machine_labels(raw_dir: str) -> tuple[dict, dict[str, int]]:
  """Study id -> (labels, mask), equal ones share their arrays; and counts.

  Raises:
    ValueError: naming the file, if the table has no statements.
  """
  path = csv_table.find(raw_dir, REPORTS)
  if not path:
    return {}, {}
  reports = [
    x for x in csv_table.titles(path) if re.fullmatch(r'report_\d+', x)
  ]
  if not reports:
    raise ValueError(
      f'{path}: no column report_0; without the file, or with labels_csv, no '
      'statement is read'
    )
  shared, found, notes = {}, {}, collections.Counter()
  for where, row in csv_table.read(path, ['study_id', *reports[:1]]):
    report = machine_report.read([row[name] for name in reports])
    if report not in shared:
      shared[report] = tuple(np.array(bits, np.uint8) for bits in report[:2])
    if row['study_id'] in found:
      raise ValueError(f'{where}: study {row["study_id"]!r} occurs twice')
    found[row['study_id']] = shared[report]
    notes[_NOTES[report.kind]] += 1
  return found, dict(sorted(notes.items()))


class MimicIvEcg(builder.EcgBuilder):
  """MIMIC-IV-ECG, see the module."""

  DESCRIPTION = (
    'MIMIC-IV-ECG 1.0: about 800,000 diagnostic 12-lead ECGs of 160,000 '
    'patients over the years, 10 s.'
  )
  HOMEPAGE = 'https://physionet.org/content/mimic-iv-ecg/1.0/'
  LICENSE = 'ODbL 1.0'
  CITATION = """@misc{gow2023mimicivecg,
  title={{MIMIC-IV-ECG}: Diagnostic Electrocardiogram Matched Subset},
  author={Gow, Brian and others}, publisher={PhysioNet}, year={2023},
  doi={10.13026/4nqg-sb35}}"""
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Give the folder of MIMIC-IV-ECG 1.0 that holds record_list.csv.'
  )
  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES = {
    '1.0.0': 'First version.',
    '1.1.0': 'Denials, doubt and reports without an analysis are read.',
  }
  OPTIONS = {'labels_csv': ('', 'labels of your own')}

  def label_names(self):
    # A prepared data set knows its labels; the table may be gone.
    stored = self.data_path / 'metadata.json'
    if stored.exists():
      return json.loads(stored.read_text())['label_names']
    if self.option('labels_csv'):
      return self._own_labels()[0]
    return list(STATEMENTS)

  def _own_labels(self):
    path = self.option('labels_csv')
    names, rows = wfdb_folder.read_labels(path)
    if not names:
      raise ValueError(f'{path}: no column of labels')
    return names, {study: row['labels'] for study, row in rows.items()}

  def plan(self, raw_dir):
    path = csv_table.find(raw_dir, TABLE)
    if not path:
      raise ValueError(
        f'{raw_dir} has no {TABLE}; raw_dir is the folder of MIMIC-IV-ECG'
      )
    notes = {}
    if self.option('labels_csv'):
      source = self.option('labels_csv')
      names, known = self._own_labels()
    else:
      source, names = REPORTS, list(STATEMENTS)
      known, notes = _machine_labels(raw_dir)
    columns = ['subject_id', 'study_id', 'ecg_time', 'path']
    rows = []
    for where, row in csv_table.read(path, columns):
      patient, study, time, record = (row[name] for name in columns)
      days = _days(time, where)
      rows.append((cells.identifier(patient), study, days, record))
    joined = []
    if known:
      joined = [joins.join(source, known, (row[1] for row in rows))]
      known = {study: known[row] for row, study in joined[0].records.items()}
    first, split = {}, {}
    for patient, study, days, _ in rows:
      patient = patient or study
      first[patient] = min(days, first.get(patient, math.inf))
      if patient not in split:
        split[patient] = splits.hash_split('mimic_iv_ecg', patient)
    nothing = (np.zeros(len(names), np.uint8),) * 2
    entries = [
      builder.Entry(
        record_id=study,
        path=record,
        split=split[patient or study],
        source='mimic_iv_ecg',
        patient_id=patient,
        rules=_RULES,
        time=-1.0 if math.isnan(days) else days - first[patient or study],
        labels=known.get(study, nothing),
      )
      for patient, study, days, record in rows
    ]
    return builder.Plan(entries, [], 'patient', names, tuple(joined), notes)
