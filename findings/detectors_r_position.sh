#!/usr/bin/env bash
# py-ecg-detectors 1.3.5 and neurokit2 0.3.0: what is called an R peak lies 30
# to 104 ms after it, and one detector moves it by 68 ms within a record.
#
# Packages: py-ecg-detectors 1.3.5, neurokit2 0.3.0 from PyPI, with numpy 2.4.6,
#   scipy 1.17.1 and pandas 3.0.3; CPython 3.11.
# Behaviour: one clean lead of 30 beats at 500 Hz (R of 1 mV, noise of 5 uV).
#   Every detector below finds every beat. Against the highest sample, the
#   median is +104 ms for Pan-Tompkins, +72 ms for two_average and +64 ms for
#   Hamilton of py-ecg-detectors, +62 ms for pantompkins1985, +34 ms for
#   kalidas2017 and +30 ms for hamilton2002 of neurokit2 (which calls them
#   ECG_R_Peaks), 0 for engzee and neurokit. Pan-Tompkins of py-ecg-detectors
#   ranges from +38 to +106 ms in this one regular record: RR intervals made of
#   it carry up to 68 ms that no heart made.
# Why: the delay of filters and of the moving window is not taken off, and the
#   mark is not moved back to the peak.
# Who cares: a QRS is about 90 ms wide, so a beat cut around such a mark centres
#   on the ST segment; benchmarks with a tolerance of 150 ms do not notice it;
#   HRV does.
# Instead: move every mark to the largest absolute deviation within -120 to +40
#   ms, or use a detector that is on the peak; test it on a drawn lead first, as
#   here.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile py-ecg-detectors==1.3.5 \
  neurokit2==0.3.0 numpy==2.4.6 scipy==1.17.1 pandas==3.0.3
"$work/venv/bin/python" - <<'EOF'
import warnings

warnings.filterwarnings('ignore')

import neurokit2
import numpy as np
from ecgdetectors import Detectors

RATE = 500
WAVES = [  # seconds after R, mV, seconds
  (-0.17, 0.12, 0.022),
  (-0.026, -0.1, 0.008),
  (0.0, 1.0, 0.010),
  (0.028, -0.2, 0.009),
  (0.26, 0.3, 0.045),
]
rng = np.random.default_rng(0)
r = 1 + np.cumsum(np.r_[0, 0.8 + 0.02 * rng.standard_normal(29)])
r = np.round(r * RATE)
t = np.arange(int(r[-1] + RATE)) / RATE
x = sum(
  a * np.exp(-0.5 * ((t - c - d) / s) ** 2)
  for c in r / RATE
  for d, a, s in WAVES
)
x = x + 0.005 * rng.standard_normal(len(t))

d = Detectors(RATE)
clean = neurokit2.ecg_clean(x, sampling_rate=RATE)
nk = lambda method: neurokit2.ecg_findpeaks(
  clean, sampling_rate=RATE, method=method
)['ECG_R_Peaks']
found = {
  'py-ecg-detectors pan_tompkins': d.pan_tompkins_detector(x.copy()),
  'py-ecg-detectors two_average': d.two_average_detector(x.copy()),
  'py-ecg-detectors hamilton': d.hamilton_detector(x.copy()),
  'py-ecg-detectors engzee': d.engzee_detector(x.copy()),
}
for method in ('pantompkins1985', 'kalidas2017', 'hamilton2002', 'neurokit'):
  found[f'neurokit2 {method}'] = nk(method)
seen = {}
for name, marks in found.items():
  marks = np.asarray(marks, float).ravel()
  near = marks[np.argmin(abs(marks[:, None] - r[2:-2]), axis=0)]
  ms = (near - r[2:-2]) * 1000 / RATE
  assert abs(ms).max() < 150, name
  seen[name] = np.median(ms), ms.min(), ms.max()
  print('%-31s median %+4.0f ms, %+.0f to %+.0f' % (name, *seen[name]))
for name, want in {
  'py-ecg-detectors pan_tompkins': 104,
  'py-ecg-detectors two_average': 72,
  'py-ecg-detectors hamilton': 64,
  'py-ecg-detectors engzee': 0,
  'neurokit2 pantompkins1985': 62,
  'neurokit2 kalidas2017': 34,
  'neurokit2 hamilton2002': 30,
  'neurokit2 neurokit': 0,
}.items():
  assert abs(seen[name][0] - want) <= 4, (name, seen[name])
_, low, high = seen['py-ecg-detectors pan_tompkins']
assert high - low >= 50
EOF
