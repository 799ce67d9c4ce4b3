"""LUDB: its recordings, and where cardiologists marked the waves in them.

LUDB 1.0.1 has 200 recordings of 10 s with P, QRS and T delineated in every
lead (one annotation file per lead), and diagnoses in `ludb.csv`. The first and
the last beats are not marked, so that nothing is known outside the span from
the first mark to the last. Its headers give each lead's own span as gain; the
counts are microvolts, and are read as that (`formats.wfdb`).

Source: Kalyakulina et al., IEEE Access 8:186181 (2020).
"""

import csv
import pathlib

from ecgjax.data.raw import validate

RATE = 500.0  # Hz, of the marks
# Limb leads agree to half a unit.
RULES = validate.Rules(rate=RATE, seconds=10, gain=1000, limb_limit=5)
_KINDS = {'p': 'p', 'N': 'qrs', 't': 't'}
# Column -> beginning of a diagnosis -> class names that it stands for. What is
# undecided there ('undefined ischemia/scar/supp.nstemi') stands for nothing.
_DIAGNOSES = {
  'Rhythms': {
    'atrial fibrillation': ('AF', 'AFIB'),
    'atrial flutter': ('AFL', 'AFLT'),
  },
  'Conduction abnormalities': {
    'i degree av block': ('CD', '1AVB', 'IAVB', '1dAVb'),
    'iii degree av-block': ('CD',),
    'complete left bundle': ('CD', 'LBBB', 'CLBBB'),
    'complete right bundle': ('CD', 'RBBB', 'CRBBB'),
    'incomplete left bundle': ('CD', 'ILBBB'),
    'incomplete right bundle': ('CD', 'IRBBB'),
    'left anterior hemiblock': ('CD', 'LAFB'),
    'non-specific intravintricular': ('CD', 'IVCD'),
  },
  'Hypertrophies': {
    'left ventricular hypertrophy': ('HYP', 'LVH'),
    'right ventricular hypertrophy': ('HYP', 'RVH'),
    'left atrial': ('HYP', 'LAE', 'LAO/LAE'),
    'right atrial': ('HYP', 'RAE', 'RAO/RAE'),
  },
  'Ischemia': {
    'stemi': ('MI', 'STE'),
    'scar formation': ('MI',),
    'ischemia': ('STTC',),
  },
  'Non-specific repolarization abnormalities': {'non-specific': ('STTC',)},
}


def read_diagnoses(folder) -> dict[str, frozenset[str]]:
  """Reads diagnoses as class names, those of `ecg.delineation.DEFINING`.

  Args:
    folder: root of LUDB, with `ludb.csv` and `data/`.

  Returns:
    Record name -> class names.

  Raises:
    ValueError: if there is no such table.
  """
  path = pathlib.Path(folder) / 'ludb.csv'
  if not path.is_file():
    raise ValueError(f'{path} is missing; give the folder of LUDB 1.0.1')
  with open(path, newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  found = {}
  for row in rows:
    names = set()
    for column, meanings in _DIAGNOSES.items():
      for line in row[column].lower().splitlines():
        for beginning, classes in meanings.items():
          if line.strip().startswith(beginning):
            names.update(classes)
    found[row['ID'].strip()] = frozenset(names)
  return found


def read_events(path, lead: str) -> list[tuple[str, float, float]]:
  """Reads the waves that were marked in one lead of a recording.

  Args:
    path: path of the record without suffix.
    lead: canonical name.

  Returns:
    ('p', 'qrs' or 't', onset and end in seconds from the first sample). Empty
    where a wave has no onset, which is so in some leads of the published data:
    of such a lead it is not known what lies outside of waves.

  Raises:
    ValueError: if the annotation file is missing or none of LUDB; names it.
  """
  import wfdb

  suffix = lead.lower()
  try:
    marks = wfdb.rdann(str(path), suffix)
  except (OSError, ValueError, IndexError) as error:
    raise ValueError(f'{path}.{suffix}: no annotations ({error})') from None
  times = [float(sample) / RATE for sample in marks.sample]
  events = []
  for k, symbol in enumerate(marks.symbol):
    if symbol in _KINDS:
      if marks.symbol[k - 1 : k + 2 : 2] != ['(', ')']:
        return []
      events.append((_KINDS[symbol], times[k - 1], times[k + 1]))
    elif symbol not in '()':
      raise ValueError(f'{path}.{suffix}: mark {symbol!r} is none of p, N, t')
  return events
