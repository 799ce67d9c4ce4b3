"""TFDS builder `code15`: CODE-15 %, 345,779 ECGs of 233,770 patients.

  python -m ecgjax.data.prepare --dataset=code15 --raw_dir=RAW --data_dir=DIR

RAW is the folder of the publisher (Zenodo 4916206, CC BY) with `exams.csv` and
the HDF5 parts `exams_part0.hdf5` to `exams_part17.hdf5`, as many of them as you
have: exams of absent parts are counted as `missing_file`. Rows are joined by
exam id, since the parts are not in the order of the table and each ends with a
row that is none. The zeros that fill every tracing up to 4096 samples on both
sides are cut off, so the recording begins at `valid_start` 0 and ends at
`valid_len`, 7 s or 10 s later; where the recorder settles, with a jump of some
10 mV, `valid_start` is half a second later (`validate.REMARKS`). The corpus has
no usable dates: `time` is unknown. The split is a hash of the patient.

Some recordings begin with a transient, or have one lead far from zero, that
holds most of their variance, which `record` normalisation divides by; the
7 s recordings were sampled at 300 Hz (docs/data.md).

Labels are the publisher's six and `normal_ecg`; an empty value is not
annotated. `1dAVb` is the task `1AVB` of `labels`. Death and follow-up, which
are given for the first exam of a patient only, are not stored.
"""

import collections
import functools
import math

import numpy as np
import tensorflow_datasets as tfds

from ecgjax.data.raw import arrays, validate
from ecgjax.data.store import builder, joins, splits
from ecgjax.ecg.recording import BadRecord
from ecgjax.formats import cells, csv_table

TABLE = 'exams.csv'
LABELS = ('1dAVb', 'RBBB', 'LBBB', 'SB', 'ST', 'AF', 'normal_ecg')
RATE = 400.0
_COLUMNS = ('exam_id', 'age', 'is_male', 'patient_id', *LABELS, 'trace_file')
# "CODE < 6": leads follow from two of them; rounding is the rest.
_RULES = validate.Rules(rate=RATE, limb_limit=20)


def read_exam(path: str, root: str):
  """Reads one exam, `<part>/<exam id>`.

  Raises:
    BadRecord: see there.
  """
  part, _, exam = path.rpartition('/')
  file, rows = _open_part(part, root)
  if int(exam) not in rows:
    raise BadRecord('missing_file', f'no exam {exam} in {part}', path)
  try:
    recording = arrays.read_tracing(file, rows[int(exam)], RATE)
  except BadRecord as error:
    raise BadRecord(error.reason, error.detail, path) from None
  return recording._replace(file=path)


# Exams of a part follow each other, so one open file is enough.
@functools.lru_cache(maxsize=1)
def _open_part(part: str, root: str):
  file = arrays.open_tracings(part, root)
  return file, arrays.tracing_rows(file)


def read_table(path: str) -> list[dict]:
  """Rows of `exams.csv`, typed.

  Returns:
    Dicts with exam_id (int), patient_id, trace_file, age, sex and labels, a
    pair of [7] uint8 (labels, mask).

  Raises:
    ValueError: naming file, line and column, if a value cannot be understood.
  """
  return [_row(row, where) for where, row in csv_table.read(path, _COLUMNS)]


def _row(row: dict, where: str) -> dict:
  def known(column, convert):
    try:
      return convert(row[column])
    except ValueError:
      raise ValueError(
        f'{where}: column {column} has the value {row[column]!r}'
      ) from None

  male = known('is_male', cells.bit)
  bits = np.array([known(name, cells.bit) for name in LABELS])
  age = cells.age(row['age'])
  return {
    'exam_id': known('exam_id', lambda text: int(cells.identifier(text))),
    'patient_id': str(
      known('patient_id', lambda text: int(cells.identifier(text)))
    ),
    'trace_file': row['trace_file'],
    'age': age,
    'sex': 1 - male if male >= 0 else -1,
    'labels': ((bits == 1).astype(np.uint8), (bits >= 0).astype(np.uint8)),
    'unread': cells.not_understood(row['age'], ''),
  }


class Code15(builder.EcgBuilder):
  """CODE-15 %, see the module."""

  DESCRIPTION = (
    'CODE-15 %: 345,779 12-lead ECGs of 233,770 patients of a telehealth '
    'network, 7 or 10 s, with six abnormalities.'
  )
  HOMEPAGE = 'https://zenodo.org/records/4916206'
  LICENSE = 'CC BY 4.0'
  CITATION = """@misc{ribeiro2021code15,
  title={{CODE-15\\%}: a large scale annotated dataset of 12-lead ECGs},
  author={Ribeiro, Ant{\\^o}nio H. and others}, publisher={Zenodo}, year={2021},
  doi={10.5281/zenodo.4916206}}"""
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Give the folder of CODE-15 % that holds exams.csv and the HDF5 parts.'
  )
  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES = {
    '1.0.0': 'First version.',
    '1.1.0': 'Start transients are left out by valid_start.',
  }
  READ = staticmethod(read_exam)

  def label_names(self):
    return list(LABELS)

  def plan(self, raw_dir):
    path = csv_table.find(raw_dir, TABLE)
    if not path:
      raise ValueError(
        f'{raw_dir} has no {TABLE}; raw_dir is the folder of CODE-15 %'
      )
    parts = collections.defaultdict(list)
    for row in read_table(path):
      parts[row['trace_file']].append(row)
    entries, exams = [], set()
    for part, rows in sorted(parts.items()):
      place = self._places(part, raw_dir)
      exams |= {str(exam) for exam in place}
      # In the order of the file, which is read once from its beginning.
      rows.sort(key=lambda row: place.get(row['exam_id'], math.inf))
      entries += [
        builder.Entry(
          record_id=str(row['exam_id']),
          path=f'{part}/{row["exam_id"]}',
          split=splits.hash_split('code15', row['patient_id']),
          source='code15',
          patient_id=row['patient_id'],
          rules=_RULES,
          age=row['age'],
          sex=row['sex'],
          labels=row['labels'],
          unread=row['unread'],
        )
        for row in rows
      ]
    joined = joins.join(path, [e.record_id for e in entries], exams)
    return builder.Plan(entries, [], 'patient', list(LABELS), (joined,))

  def _places(self, part: str, raw_dir: str) -> dict[int, int]:
    """Exam id -> row of a part; empty where it cannot be read."""
    try:
      with arrays.open_tracings(part, raw_dir) as file:
        return arrays.tracing_rows(file)
    except BadRecord:
      return {}  # its exams will be rejected one by one
