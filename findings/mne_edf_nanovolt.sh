#!/usr/bin/env bash
# mne 1.13.2: an EDF lead whose dimension is nV is read as volts: 1 mV becomes a
# million volts.
#
# Packages: mne 1.13.2, edfio 0.4.18 from PyPI, with numpy 2.4.6; CPython 3.11.
# Behaviour: a valid EDF file with one lead of a peak of 1 mV, written four
#   times: in V, mV, uV and nV. read_raw_edf answers in volts and has .001 for
#   the first three and 999985 for nV, without a warning: a dimension that it
#   does not know is taken as volts. edfio reads back the numbers that were
#   written and gives the dimension beside them.
# Who cares: amplifiers of 24 bits export nV, and 1e9 does not show after a
#   z-score per record or per lead; it does in thresholds, in SNR of mixed
#   corpora, in features in mV and in a PCA over records.
# Instead: read the dimension (edfio: signal.physical_dimension) and scale by
#   it, refuse a dimension that is not in your own table, and refuse an ECG over
#   50 mV.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile mne==1.13.2 edfio==0.4.18 \
  numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W error - <<'EOF'
import edfio
import mne
import numpy as np

mne.set_log_level('WARNING')
millivolt = np.sin(np.arange(5000) / 30)
for dimension, scale in (('V', 1e-3), ('mV', 1), ('uV', 1e3), ('nV', 1e6)):
  lead = edfio.EdfSignal(
    millivolt * scale,
    500,
    label='ECG II',
    physical_dimension=dimension,
    physical_range=(-2 * scale, 2 * scale),
  )
  edfio.Edf([lead]).write('lead.edf')
  peak = mne.io.read_raw_edf('lead.edf', preload=True).get_data().max()
  again = edfio.read_edf('lead.edf').signals[0]
  print(
    f'{dimension}: mne {peak:.6g} V, edfio {again.data.max():.6g} '
    f'{again.physical_dimension}'
  )
  assert abs(again.data.max() / scale - 1) < 1e-3
  assert again.physical_dimension == dimension
  true = 1e-3 if dimension != 'nV' else 1e6
  assert abs(peak / true - 1) < 1e-3
EOF
