#!/usr/bin/env bash
# pyedflib 0.1.42: a record of 10.004 s is written as one of 11 s whose end is
# zeros, and samples are cut towards zero.
#
# Packages: pyedflib 0.1.42, edfio 0.4.18 from PyPI, with numpy 2.4.6; CPython
#   3.11.
# Behaviour: 5002 samples at 500 Hz around 1.5 mV go through
#   EdfWriter.writeSamples. Read back, there are 5500: the last second is filled
#   with 0 mV, a step of 1.5 mV, and neither header nor annotation tells where
#   the signal ended. Of the 5002 the mean error is half a count towards zero
#   (counts of .1 uV; the sign turns with the signal's), the worst a whole one,
#   where rounding would have 0 and a half. edfio raises ValueError for such a
#   length unless a fitting length of data records is given, and rounds.
# Who cares: exports of 10 s ECGs are rarely whole to the sample (CODE-15 has
#   7.3 s, many Holters stop anywhere): a flat second and a step look like a
#   lead that came off, and lengths, rates over the record and checksums change.
# Instead: edfio with a data_record_duration that divides the signal, as here;
#   or cut the signal to whole seconds; keep the number of samples beside the
#   file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile pyedflib==0.1.42 edfio==0.4.18 \
  numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import edfio
import numpy as np
import pyedflib

COUNT = 1e-4  # mV
LIMITS = {
  'physical_min': -3.2768,
  'physical_max': 3.2767,
  'digital_min': -32768,
  'digital_max': 32767,
}


def back(lead, name):
  with pyedflib.EdfWriter(name, 1, pyedflib.FILETYPE_EDFPLUS) as file:
    file.setSignalHeader(
      0,
      {
        'label': 'ECG II',
        'dimension': 'mV',
        'sample_frequency': 500,
        'transducer': '',
        'prefilter': '',
        **LIMITS,
      },
    )
    file.writeSamples([lead])
  with pyedflib.EdfReader(name) as file:
    return file.readSignal(0), len(file.readAnnotations()[0])


lead = 1.5 + 0.5 * np.sin(np.arange(5002) / 30)
for sign in (1, -1):
  read, notes = back(sign * lead, f'lead{sign}.edf')
  error = (read[:5002] - sign * lead) / COUNT
  print(
    f'5002 samples became {len(read)}, the rest from {read[5002:].min():.6f} to '
    f'{read[5002:].max():.6f} mV, {notes} annotations; mean error '
    f'{error.mean():+.2f} counts, {error.min():+.2f} to {error.max():+.2f}'
  )
  assert len(read) == 5500 and notes == 0
  assert abs(read[5002:]).max() < 1e-9
  assert abs(error.mean() + 0.5 * sign) < 0.05 and abs(error).max() > 0.95
try:
  edfio.Edf(
    [
      edfio.EdfSignal(
        lead, 500, label='ECG II', physical_range=(-3.2768, 3.2767)
      )
    ],
    data_record_duration=1,
  )
  raise SystemExit('edfio took it')
except ValueError as error:
  print('edfio:', error)
signal = edfio.EdfSignal(lead, 500, physical_range=(-3.2768, 3.2767))
edfio.Edf([signal], data_record_duration=0.004).write('other.edf')
other = edfio.read_edf('other.edf').signals[0].data
print(f'edfio with data records of 4 ms: {len(other)} samples')
assert len(other) == 5002 and abs(other - lead).max() < 0.51 * COUNT
EOF
