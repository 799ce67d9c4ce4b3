#!/usr/bin/env bash
# wfdb 4.3.1: csv_to_wfdb rounds to steps of 5 uV, and read_edf is one step low
# throughout.
#
# Packages: wfdb 4.3.1, edfio 0.4.18 from PyPI, with numpy 2.4.6, scipy 1.17.1
#   and pandas 3.0.3; CPython 3.11.
# Behaviour: a CSV of a lead within 1 mV and three decimals goes through
#   csv_to_wfdb: 16 bits, and yet a gain of 200 per mV, so the error is up to 2
#   uV and of its 653 levels 344 are left. The same array through wrsamp has a
#   gain of 32767 per mV and an error below .02 uV. An EDF file of -3.2768 to
#   3.2767 mV over -32768 to 32767, so that a count is .1 uV and 0 is 0, comes
#   out of read_edf with a baseline of 1: every sample is one count low, and 0
#   is -.1 uV. edfio reads what was written.
# Who cares: who brings own ECGs into the WFDB tools: a recorder of 1 uV becomes
#   one of 5 uV, the limb leads no longer add up to the microvolt, and comparing
#   a converted file with its source sample by sample fails everywhere.
# Instead: numpy.loadtxt and wrsamp; edfio or pyedflib for EDF.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile wfdb==4.3.1 edfio==0.4.18 \
  numpy==2.4.6 scipy==1.17.1 pandas==3.0.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import edfio
import numpy as np
import wfdb
from wfdb.io.convert import csv_to_wfdb
from wfdb.io.convert.edf import read_edf

lead = np.round(np.sin(np.arange(2000) / 30), 3)
np.savetxt(
  'lead.csv', np.c_[lead, lead], '%.3f', ',', header='I,II', comments=''
)
csv_to_wfdb('lead.csv', fs=500, units='mV')
wfdb.wrsamp(
  'plain', 500, ['mV'], ['I'], p_signal=lead[:, None], fmt=['16']
)
error = {}
for name in ('lead', 'plain'):
  record = wfdb.rdrecord(name)
  back = record.p_signal[:, 0]
  error[name] = 1000 * abs(back - lead).max()
  print(
    f'{name}: gain {record.adc_gain[0]:g} per mV, error up to '
    f'{error[name]:.3f} uV, {len(np.unique(back))} of '
    f'{len(np.unique(lead))} levels'
  )
assert 1.5 < error['lead'] < 2.6 and error['plain'] < 0.02

signal = edfio.EdfSignal(
  lead, 500, label='II', physical_dimension='mV',
  physical_range=(-3.2768, 3.2767),
)
edfio.Edf([signal]).write('lead.edf')
true = edfio.read_edf('lead.edf').signals[0].data
record = read_edf('lead.edf')
counts = (record.p_signal[:, 0] - true) / 1e-4
print(f'read_edf: baseline {record.baseline}, off by {counts.mean():.4f}')
assert abs(true - lead).max() < 1e-9 and record.baseline == [1]
assert abs(counts + 1).max() < 1e-6
EOF
