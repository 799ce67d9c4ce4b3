#!/usr/bin/env bash
# neurokit2 0.3.0, sleepecg 0.6.0, physio 0.3.3: turned upside down, as in lead
# aVR, the same beats are marked 28 to 34 ms elsewhere.
#
# Packages: neurokit2 0.3.0, sleepecg 0.6.0, physio 0.3.3, wfdb 4.3.1 from PyPI,
#   with numpy 2.4.6, scipy 1.17.1 and pandas 3.0.3; CPython 3.11.
# Behaviour: one clean lead of 40 beats at 500 Hz and the same lead times -1. As
#   it is, all four mark the highest sample of every QRS. Upside down, each
#   still finds the 40 beats, but neurokit2 (ecg_clean, ecg_peaks) marks them 34
#   ms later, physio 28 ms later, sleepecg 30 ms earlier, on the small wave that
#   points upwards; wfdb's xqrs_detect stays on the sample.
# Who cares: a beat count hides it. Beats cut lead by lead, RR intervals pooled
#   over leads, delays between leads (10 to 30 ms are physiology) and
#   augmentation by a change of sign meet it; aVR, and V1 in most hearts, are
#   mainly negative.
# Instead: detect once, on a lead with an upright QRS or on the root of the sum
#   of squares of all leads, and use these marks for every lead; neurokit2 has
#   ecg_invert.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile neurokit2==0.3.0 sleepecg==0.6.0 \
  physio==0.3.3 wfdb==4.3.1 numpy==2.4.6 scipy==1.17.1 pandas==3.0.3
"$work/venv/bin/python" - <<'EOF'
import warnings

warnings.filterwarnings('ignore')

import neurokit2
import numpy as np
import physio
import sleepecg
from wfdb import processing

RATE = 500
WAVES = [  # seconds after R, mV, seconds
  (-0.17, 0.12, 0.022),
  (-0.026, -0.1, 0.008),
  (0.0, 1.0, 0.010),
  (0.028, -0.2, 0.009),
  (0.26, 0.3, 0.045),
]
rng = np.random.default_rng(0)
r = 1 + np.cumsum(np.r_[0, 0.8 + 0.02 * rng.standard_normal(39)])
r = np.round(r * RATE)
t = np.arange(int(r[-1] + RATE)) / RATE
lead = sum(
  a * np.exp(-0.5 * ((t - c - d) / s) ** 2)
  for c in r / RATE
  for d, a, s in WAVES
)
lead = lead + 0.005 * rng.standard_normal(len(t))


def neurokit(x):
  clean = neurokit2.ecg_clean(x, sampling_rate=RATE)
  return neurokit2.ecg_peaks(clean, sampling_rate=RATE)[1]['ECG_R_Peaks']


detectors = {
  'neurokit2': (neurokit, 34),
  'physio': (lambda x: physio.compute_ecg(x, RATE)[1]['peak_index'], 28),
  'sleepecg': (lambda x: sleepecg.detect_heartbeats(x, RATE), -30),
  'wfdb xqrs': (
    lambda x: processing.xqrs_detect(x, RATE, verbose=False), 0
  ),
}
for name, (detect, want) in detectors.items():
  late = []
  for x in (lead, -lead):
    marks = np.asarray(detect(x), float)
    near = marks[np.argmin(abs(marks[:, None] - r[2:-2]), axis=0)]
    late.append((near - r[2:-2]) * 1000 / RATE)
    assert 39 <= len(marks) <= 41
  print(
    f'{name}: upright {np.median(late[0]):+.0f} ms, '
    f'upside down {np.median(late[1]):+.0f} ms'
  )
  assert (late[0] == 0).all() and abs(np.median(late[1]) - want) <= 4
EOF
