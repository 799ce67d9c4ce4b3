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
in RAW: AF, AFL, premature, 1AVB and MI, by the wording in `STATEMENTS`. Nobody
has confirmed them, and the wording was written from memory of the corpus, not
from its table: look at the counts before you use them. Doubtful statements
("possible", "cannot rule out") make a class unknown. For labels of your own,
such as the credentialed MIMIC-IV-ECG-Ext-ICD, give a table as for
`wfdb_folder`: a column `record` with study ids and one column for each label.
"""

import csv
import datetime
import json
import math
import os
import re

import numpy as np

from ecgjax.data import wfdb_folder
from ecgjax.data.raw import validate
from ecgjax.data.store import builder, splits

TABLE = 'record_list.csv'
REPORTS = 'machine_measurements.csv'
# Class -> what a statement of the recorder says where it is present.
STATEMENTS = {
  'AF': r'atrial fib|flutter\W*(or\W*)?fib',
  'AFL': r'flutter',
  'premature': r'premature|\bp[av]c(\(s\)|s)?(?!\w)|bigemin|trigemin',
  '1AVB': r'(1st|first)[ -]degree a-?v block',
  'MI': r'infarct',
}
# Words that leave it open whether what a statement names is there.
_DOUBT = re.compile(
  r'possible|probable|consider|cannot|suggest|may be|no longer|resolved|'
  r'replace|no evidence|compared|previous|'
  r'fib\w*\W*(or\W*)?flutter|flutter\W*(or\W*)?fib'
)
# Statements after which a class is neither a positive nor a clean negative.
_UNCLEAR = {
  'AF': r'(uncertain|undetermined|unknown) rhythm',
  'AFL': r'(uncertain|undetermined|unknown) rhythm',
  '1AVB': r'prolonged p-?r|p-?r prolong|borderline p-?r',
}
_RULES = validate.Rules(rate=500, seconds=10, gain=200)
_SECONDS_PER_DAY = 86400


def read_statements(
  statements: list[str],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Labels and mask of the classes of `STATEMENTS`.

  Args:
    statements: of one report; none at all means that nothing is known.
  """
  text = [statement.strip().lower() for statement in statements]
  text = [statement for statement in text if statement]
  if not text:
    return (0,) * len(STATEMENTS), (0,) * len(STATEMENTS)
  labels, mask = [], []
  for name, pattern in STATEMENTS.items():
    said = [statement for statement in text if re.search(pattern, statement)]
    certain = any(not _DOUBT.search(statement) for statement in said)
    unclear = bool(said) or any(
      name in _UNCLEAR and re.search(_UNCLEAR[name], statement)
      for statement in text
    )
    labels.append(int(certain))
    mask.append(int(certain or not unclear))
  return tuple(labels), tuple(mask)


def _read_csv(path: str, columns: list[str]):
  """Yields (line number, values of the columns) of a table.

  Raises:
    ValueError: if it cannot be read or lacks a column.
  """
  try:
    with open(path, newline='', encoding='utf-8-sig') as file:
      reader = csv.reader(file)
      titles = next(reader, [])
      absent = [name for name in columns if name not in titles]
      if absent:
        raise ValueError(f'{path}: no column {", ".join(absent)}')
      places = [titles.index(name) for name in columns]
      for row in reader:
        if len(row) < len(titles):
          raise ValueError(
            f'{path}, line {reader.line_num}: {len(row)} of {len(titles)} '
            'columns'
          )
        yield reader.line_num, [row[place] for place in places]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ValueError(f'{path}: cannot read the table: {error}') from None


def _days(text: str, where: str) -> float:
  """Days since some date; nan where there is none."""
  if not text.strip():
    return math.nan
  try:
    moment = datetime.datetime.fromisoformat(text.strip())
  except ValueError:
    raise ValueError(
      f'{where}: column ecg_time has the value {text!r}'
    ) from None
  moment = moment.replace(tzinfo=datetime.UTC)
  return moment.timestamp() / _SECONDS_PER_DAY


def _machine_labels(raw_dir: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Study id -> (labels, mask); equal ones share their arrays."""
  path = os.path.join(raw_dir, REPORTS)
  if not os.path.exists(path):
    return {}
  with open(path, encoding='utf-8-sig') as file:
    titles = file.readline().strip().split(',')
  reports = [name for name in titles if re.fullmatch(r'report_\d+', name)]
  shared, found = {}, {}
  for _, (study, *statements) in _read_csv(path, ['study_id', *reports]):
    bits = read_statements(statements)
    if bits not in shared:
      shared[bits] = tuple(np.array(part, np.uint8) for part in bits)
    found[study] = shared[bits]
  return found


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
    path = os.path.join(raw_dir, TABLE)
    if not os.path.exists(path):
      raise ValueError(
        f'{raw_dir} has no {TABLE}; raw_dir is the folder of MIMIC-IV-ECG'
      )
    if self.option('labels_csv'):
      names, known = self._own_labels()
    else:
      names, known = list(STATEMENTS), _machine_labels(raw_dir)
    columns = ['subject_id', 'study_id', 'ecg_time', 'path']
    rows = [
      (patient, study, _days(time, f'{path}, line {line}'), record)
      for line, (patient, study, time, record) in _read_csv(path, columns)
    ]
    first, split = {}, {}
    for patient, _, days, _ in rows:
      first[patient] = min(days, first.get(patient, math.inf))
      if patient not in split:
        split[patient] = splits.hash_split('mimic_iv_ecg', patient)
    nothing = (np.zeros(len(names), np.uint8),) * 2
    entries = [
      builder.Entry(
        record_id=study,
        path=record,
        split=split[patient],
        source='mimic_iv_ecg',
        patient_id=patient,
        rules=_RULES,
        time=-1.0 if math.isnan(days) else days - first[patient],
        labels=known.get(study, nothing),
      )
      for patient, study, days, record in rows
    ]
    return builder.Plan(entries, [], 'patient', names)
