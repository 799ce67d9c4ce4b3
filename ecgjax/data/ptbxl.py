"""TFDS builder `ptbxl`: PTB-XL 1.0.3 at 100 Hz, 500 Hz or any other rate.

  import ecgjax.data.ptbxl
  tfds.load('ptbxl', data_dir=DIR)                # 100 Hz
  tfds.builder('ptbxl/204.8hz', data_dir=DIR)     # any rate
  tfds.builder('ptbxl/100hz+records500', data_dir=DIR)

Two signals are published, and neither can be had from the other (1.0.3, see
docs/data.md): the 100 Hz files lie 1.25 ms later than the 500 Hz files and were
filtered otherwise. Rates up to 100 Hz are made from `records100`, others from
`records500`, unless `sources` names one of `ptbxl_signals.SIGNALS`. The 500 Hz
files are a cubic spline through 400 Hz samples of 5 uV, so that nothing above
200 Hz is signal, and all of them end in about 0.1 s of one held value; of
`records500-unheld` that end is padding (`valid_len`). A model that is judged on
another of the signals than it was trained on is warned about in its results.

Splits are the official folds: 1-8, 9, 10. All 71 statements are stored
(presence, not likelihood); the label task is chosen when reading. SBRAD begins
at about 50/min, not at 60. Ages coded 300 ("over 89") are stored as 90.
`time` counts from the patient's
first ECG in the table.
"""

import ast
import datetime
import math

from ecgjax.data.raw import download, ptbxl_signals, signal_rules, validate
from ecgjax.data.store import builder, convert, labels
from ecgjax.ecg.recording import BadRecord, Recording
from ecgjax.formats import cells, csv_table, wfdb

TABLE = 'ptbxl_database.csv'
_SECONDS = 10
_COLUMNS = (
  'ecg_id', 'patient_id', 'age', 'sex', 'recording_date', 'scp_codes',
  'strat_fold', 'filename_lr', 'filename_hr',
)  # fmt: skip
_SECONDS_PER_DAY = 86400
_SEX = {'0': 0, '0.0': 0, '1': 1, '1.0': 1}


def fold_split(fold: int) -> str:
  """'train' for folds 1-8, 'validation' for 9, 'test' for 10."""
  return {9: 'validation', 10: 'test'}.get(fold, 'train')


def read_unheld(path: str, root: str) -> Recording:
  """Reads a recording without the value that all leads keep at its end.

  Raises:
    BadRecord: see there; `wrong_length` before anything is cut.
  """
  found = wfdb.read_wfdb(path, root)
  if len(found.samples) != _SECONDS * found.rate:
    raise BadRecord(
      'wrong_length', f'{len(found.samples) / found.rate:g} s, not 10', path
    )
  # The first sample of the held value is signal.
  held = signal_rules.held_samples(found.samples) - 1
  return found._replace(samples=found.samples[: len(found.samples) - held])


def read_table(path: str) -> list[dict]:
  """Rows of PTB-XL's table, typed.

  Args:
    path: where `ptbxl_database.csv` is.

  Returns:
    Dicts with record_id, patient_id (strings), fold, age, sex, time (days
    since the patient's first ECG, -1 unknown), codes (SCP), filename_lr and
    filename_hr.

  Raises:
    ValueError: naming file, row and column, if a value cannot be understood.
  """
  rows = [_row(row, where) for where, row in csv_table.read(path, _COLUMNS)]
  first = {}
  for row in rows:
    known = first.get(row['patient_id'], math.inf)
    first[row['patient_id']] = min(row['time'], known)
  for row in rows:
    # Dates are shifted for privacy; only intervals mean something.
    days = row['time'] - first[row['patient_id']]
    row['time'] = days if math.isfinite(days) else -1.0
  return rows


def _row(row: dict, where: str) -> dict:
  def value(column, convert):
    text = row[column]
    try:
      return convert(text)
    except (LookupError, ValueError, SyntaxError, TypeError, OverflowError):
      raise ValueError(
        f'{where}: column {column} has the value {text!r}'
      ) from None

  fold = value('strat_fold', lambda x: int(float(x)))
  if not 1 <= fold <= 10:
    raise ValueError(f'{where}: column strat_fold is {fold}, not in 1 to 10')
  codes = value('scp_codes', ast.literal_eval)
  known = labels.scp_names()
  if not isinstance(codes, dict) or not set(codes) <= set(known):
    raise ValueError(
      f'{where}: column scp_codes is no dict of the 71 statements: {codes}'
    )
  # The date of the subset that this project tests with is estimated where the
  # original is not public.
  date = row['recording_date'] or row.get('recording_date_est') or ''
  if date:
    row = row | {'recording_date': date}
    date = value('recording_date', _days)
  return {
    'record_id': str(value('ecg_id', lambda x: int(float(x)))),
    # Stored as floats: '15709.0'.
    'patient_id': str(value('patient_id', lambda x: int(float(x)))),
    'fold': fold,
    'age': cells.age(row['age']),
    'sex': value('sex', _sex),
    'unread': cells.not_understood(row['age'], ''),
    'time': math.inf if date == '' else date,
    'codes': list(codes),
    'filename_lr': row['filename_lr'],
    'filename_hr': row['filename_hr'],
  }


def _sex(text: str) -> int:
  word = cells.sex(text)
  return word if word >= 0 or cells.is_nothing(text) else _SEX[text]


def _days(text: str) -> float:
  moment = datetime.datetime.fromisoformat(text)
  moment = moment.replace(tzinfo=datetime.UTC)
  return moment.timestamp() / _SECONDS_PER_DAY


class Ptbxl(builder.EcgBuilder):
  """PTB-XL, see the module."""

  DESCRIPTION = (
    'PTB-XL 1.0.3: 21,799 clinical 12-lead ECGs of 18,869 patients, 10 s, with '
    '71 SCP-ECG statements.'
  )
  HOMEPAGE = 'https://physionet.org/content/ptb-xl/1.0.3/'
  LICENSE = 'CC BY 4.0'
  CITATION = """@article{wagner2020ptbxl,
  title={{PTB-XL}, a large publicly available electrocardiography dataset},
  author={Wagner, Patrick and others}, journal={Scientific Data}, volume={7},
  pages={154}, year={2020}, doi={10.1038/s41597-020-0495-6}}"""
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Give the folder of PTB-XL 1.0.3 that holds ptbxl_database.csv, or nothing '
    'to download it from PhysioNet.'
  )

  DEFAULTS = {'task': 'superclass'}
  OPTIONS = {
    'sources': ((), 'records100, records500 or records500-unheld'),
  }

  @classmethod
  def make_config(cls, rate, sources=(), **options):
    sources = tuple(sources)
    if len(sources) > 1 or set(sources) - set(ptbxl_signals.SIGNALS):
      raise ValueError(
        f'ptbxl: sources is {", ".join(sources)}; choose one of '
        + ', '.join(ptbxl_signals.SIGNALS)
      )
    # One name for one thing.
    if sources == (
      ptbxl_signals.default_signal(float(convert.parse_rate(rate))),
    ):
      sources = ()
    return super().make_config(rate, sources=sources, **options)

  @property
  def signal(self) -> str:
    """Which of `ptbxl_signals.SIGNALS` this data set holds."""
    config = self.builder_config
    return ptbxl_signals.signal_of('ptbxl', config.rate, config.sources)

  @property
  def READ(self):
    unheld = self.signal == 'records500-unheld'
    return read_unheld if unheld else wfdb.read_wfdb

  def _info(self):
    info = super()._info()
    info.metadata['signal'] = self.signal
    return info

  def fetch(self, download_dir):
    return download.fetch(download.PTBXL, download_dir)

  def label_names(self):
    return labels.scp_names()

  def plan(self, raw_dir):
    path = csv_table.find(raw_dir, TABLE)
    if not path:
      raise ValueError(
        f'{raw_dir} has no {TABLE}; raw_dir is the folder of PTB-XL'
      )
    rows = read_table(path)
    low = self.signal == 'records100'
    whole = self.signal != 'records500-unheld'
    rules = validate.Rules(
      rate=100 if low else 500,
      seconds=_SECONDS if whole else None,
      gain=1000,
      limb_limit=20,
    )
    entries = [
      builder.Entry(
        record_id=row['record_id'],
        path=row['filename_lr' if low else 'filename_hr'],
        split=fold_split(row['fold']),
        source='ptbxl',
        patient_id=row['patient_id'],
        rules=rules,
        fold=row['fold'],
        time=row['time'],
        age=row['age'],
        sex=row['sex'],
        labels=labels.encode_scp(row['codes']),
        unread=row['unread'],
      )
      for row in rows
    ]
    return builder.Plan(entries, [], 'patient', self.label_names())
