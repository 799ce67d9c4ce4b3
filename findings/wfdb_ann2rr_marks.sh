#!/usr/bin/env bash
# wfdb 4.3.1: ann2rr makes RR intervals out of every annotation, beats or not,
# and its first value is no interval.
#
# Package: wfdb 4.3.1 from PyPI, with numpy 2.4.6, scipy 1.17.1 and pandas
#   3.0.3; CPython 3.11.
# Behaviour: four beats one second apart (at 1, 2, 3, 4 s of 250 Hz), between
#   them marks that annotation files hold: a rhythm (+), a change of signal
#   quality (~), an isolated artifact (|). ann2rr answers 40, 210, 50, 200, 100,
#   150, 250 samples instead of 250, 250, 250: rates of 60 per minute become 60
#   to 375. The first value is the time of the first mark from the start of the
#   record. The program of that name in the WFDB software of PhysioNet counts
#   beats only. Reported to the authors (wfdb-python issue 479), still so.
# Who cares: MIT-BIH records begin with a rhythm mark and have one at each
#   change, so HRV and RR-based AF features are wrong exactly where the rhythm
#   changes.
# Instead: rdann, keep the samples whose symbol is a beat
#   (wfdb.io.annotation.is_qrs), and take differences.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile wfdb==4.3.1 numpy==2.4.6 \
  scipy==1.17.1 pandas==3.0.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import numpy as np
import wfdb
from wfdb.processing import ann2rr

marks = [(40, '+'), (250, 'N'), (300, '~'), (500, 'N'), (600, '|'), (750, 'N')]
marks.append((1000, 'N'))
samples = np.array([sample for sample, _ in marks])
symbols = [symbol for _, symbol in marks]
notes = ['(N'] + [''] * 6
wfdb.wrann('lead', 'atr', samples, symbols, aux_note=notes, fs=250)
told = ann2rr('lead', 'atr').tolist()
read = wfdb.rdann('lead', 'atr')
beats = np.diff(read.sample[np.array(read.symbol) == 'N']).tolist()
print('ann2rr:', told)
print('beats: ', beats)
assert beats == [250, 250, 250]
assert told == [40, 210, 50, 200, 100, 150, 250]
EOF
