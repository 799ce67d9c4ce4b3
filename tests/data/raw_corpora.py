"""Made-up raw corpora in their publishers' layouts, for tests without data."""

import csv
import os
import struct

import numpy as np

from ecgjax.ecg import leads

PTBXL_COLUMNS = (
  'ecg_id', 'patient_id', 'age', 'sex', 'recording_date', 'scp_codes',
  'strat_fold', 'filename_lr', 'filename_hr',
)  # fmt: skip


def ecg(number: int, rate: float, seconds: float = 10) -> np.ndarray:
  """[T, 12] millivolts that every check accepts; consistent limb leads."""
  rng = np.random.default_rng(number)
  time = np.arange(round(rate * seconds)) / rate
  phase = time % rng.uniform(0.7, 1.1)
  at, width = np.array([[0.2, 0.35, 0.6], [0.03, 0.012, 0.05]])
  waves = np.exp(-0.5 * ((phase[:, None] - at) / width) ** 2)  # [T, 3]
  size = rng.uniform(0.5, 1.2, (3, 8)) * [[0.1], [1.0], [0.25]]
  eight = waves @ size  # [T, 8]
  eight = eight + 0.01 * rng.standard_normal(eight.shape)
  return leads.from_independent(np, eight)


def write_record(
  path,
  millivolts: np.ndarray,
  rate: float,
  suffix: str = '.dat',
  gain: float = 1000,
  baseline: int = 0,
  names=leads.LEADS,
  comments=(),
):
  """Writes one WFDB record.

  Args:
    path: without suffix; folders are made.
    millivolts: [T, C].
    rate: Hz.
    suffix: '.dat', or '.mat' as CinC 2021 has it.
    gain: units per millivolt.
    baseline: units at zero millivolts.
    names: of the C leads.
    comments: of the header, without '#'.
  """
  path = os.fspath(path)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  samples = np.rint(millivolts * gain + baseline).astype('<i2')
  count, width = samples.shape
  name = os.path.basename(path)
  storage, head = '16', b''
  if suffix == '.mat':
    storage = '16+24'
    head = struct.pack('<5i4s', 30, width, count, 0, 4, b'val\0')
  with open(path + suffix, 'wb') as file:
    file.write(head + samples.tobytes())
  lines = [f'{name} {width} {rate:g} {count}']
  for lead, column in zip(names, samples.T):
    checksum = int(column.astype(np.int64).sum()) % 65536
    lines.append(
      f'{name}{suffix} {storage} {gain:g}({baseline})/mV 16 0 {column[0]} '
      f'{checksum} 0 {lead}'
    )
  lines += [f'#{comment}' for comment in comments]
  with open(path + '.hea', 'w') as file:
    file.write('\n'.join(lines) + '\n')


def ptbxl_row(number: int, **changes) -> dict:
  """A row of PTB-XL's table; two records a patient, ten folds."""
  patient = (number - 1) // 2
  return {
    'ecg_id': number,
    'patient_id': float(patient + 100),
    'age': 300.0 if number == 1 else 40.0 + number,
    'sex': number % 2,
    'recording_date': f'2000-01-{number:02d} 12:00:00',
    'scp_codes': str({'NORM': 100.0, 'SR': 0.0} if number % 3 else {'IMI': 0}),
    'strat_fold': patient % 10 + 1,
    'filename_lr': f'records100/00000/{number:05d}_lr',
    'filename_hr': f'records500/00000/{number:05d}_hr',
  } | changes


def write_ptbxl(folder, rows, rates=(100,), present=None):
  """Writes a folder like PTB-XL's.

  Args:
    folder: the raw folder.
    rows: of the table.
    rates: which of 100 and 500 Hz there are.
    present: numbers of the records whose files exist; None means all.
  """
  os.makedirs(folder, exist_ok=True)
  with open(os.path.join(folder, 'ptbxl_database.csv'), 'w') as file:
    writer = csv.DictWriter(file, PTBXL_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
  for row in rows:
    if present is not None and row['ecg_id'] not in present:
      continue
    for rate in rates:
      name = row['filename_lr' if rate == 100 else 'filename_hr']
      write_record(
        os.path.join(folder, name),
        ecg(row['ecg_id'], rate),
        rate,
        names=[lead.upper() for lead in leads.LEADS],
      )


def examples(builder) -> dict[str, tuple[str, dict]]:
  """Everything a builder stores: record id -> (split, example)."""
  found = {}
  for split in builder.info.splits:
    for example in builder.as_dataset(split).as_numpy_iterator():
      found[example['record_id'].decode()] = (split, example)
  return found
