#!/usr/bin/env bash
# wfdb 4.3.1: digital values of a record in segments come with the gain of the
# first segment for all.
#
# Package: wfdb 4.3.1 from PyPI, with numpy 2.4.6, scipy 1.17.1 and pandas
#   3.0.3; CPython 3.11.
# Behaviour: a valid record of two segments that hold a constant 1 mV: 1000
#   counts at 1000 per mV, then 200 counts at 200 per mV.
#   rdrecord(physical=True) is right: 1 mV throughout. rdrecord(physical=False)
#   joins the counts, 1000 then 200, in one Record that has one gain, 1000:
#   divided by it, the second segment is .2 mV. Nothing is raised or warned of.
# Who cares: whoever reads counts to keep int16 (training sets, MIMIC and other
#   monitor waveforms, whose gain is set anew for each segment) gets steps of
#   amplitude within a patient.
# Instead: rdrecord(physical=True), or m2s=False and the gain of each entry of
#   .segments.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile wfdb==4.3.1 numpy==2.4.6 \
  scipy==1.17.1 pandas==3.0.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import pathlib

import numpy as np
import wfdb

for name, gain in (('first', 1000), ('second', 200)):
  counts = np.full(500, gain, '<i2')
  counts.tofile(f'{name}.dat')
  checksum = int(counts.sum(dtype=np.int64).astype(np.int16))
  pathlib.Path(f'{name}.hea').write_text(
    f'{name} 1 250 500\n'
    f'{name}.dat 16 {gain}/mV 16 0 {counts[0]} {checksum} 0 II\n'
  )
pathlib.Path('both.hea').write_text(
  'both/2 1 250 1000\nfirst 500\nsecond 500\n'
)
physical = wfdb.rdrecord('both').p_signal[[0, -1], 0]
joined = wfdb.rdrecord('both', physical=False)
counts = joined.d_signal[[0, -1], 0]
parts = wfdb.rdrecord('both', physical=False, m2s=False).segments
print('physical:', physical)
print('digital:', counts, 'with gain', joined.adc_gain)
print('segments with gain', [part.adc_gain for part in parts])
assert (physical == 1).all()
assert counts.tolist() == [1000, 200] and joined.adc_gain == [1000]
assert [part.adc_gain for part in parts] == [[1000], [200]]
EOF
