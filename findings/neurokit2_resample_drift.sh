#!/usr/bin/env bash
# neurokit2 0.3.0: signal_resample from 500 to 100 Hz stretches time, so that
# the end lies 8 ms off, and folds 120 Hz onto 20 Hz at full height.
#
# Package: neurokit2 0.3.0 from PyPI, with numpy 2.4.6, scipy 1.17.1 and pandas
#   3.0.3; CPython 3.11.
# Behaviour: a ramp whose value is its own sample number shows where each output
#   sample was taken. By default (method='interpolation') 5000 samples become
#   1000 whose first is sample 0 and whose last is sample 4999, not 4995: the
#   step is 5.004 input samples, and the last is 8 ms late (the same 8 ms at the
#   end of a record of 60 s). To 250 Hz it is 2 ms. method='numpy' and 'pandas'
#   give 4995. A sine of 120 Hz comes out with its full amplitude at 20 Hz,
#   since nothing filters before the rate is cut.
# Who cares: annotations are carried over by dividing sample numbers by 5, which
#   is right at the start of a record and 8 ms off at its end; muscle noise and
#   mains harmonics land in the QRS band.
# Instead: scipy.signal.resample_poly(x - offset, 1, 5), whose filter is
#   symmetric and whose sample k is input sample 5 k.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile neurokit2==0.3.0 numpy==2.4.6 \
  scipy==1.17.1 pandas==3.0.3
"$work/venv/bin/python" - <<'EOF'
import warnings

warnings.filterwarnings('ignore')

import neurokit2
import numpy as np
from scipy.signal import resample_poly


def resampled(x, rate, **method):
  y = neurokit2.signal_resample(
    x, sampling_rate=500, desired_sampling_rate=rate, **method
  )
  return np.asarray(y, float)


for seconds, rate, drift in ((10, 100, 8), (60, 100, 8), (10, 250, 2)):
  ramp = np.arange(500.0 * seconds)
  true = ramp[:: 500 // rate]
  late = (resampled(ramp, rate) - true) * 1000 / 500
  other = (resampled(ramp, rate, method='numpy') - true) * 1000 / 500
  print(
    f'{seconds} s to {rate} Hz: first {late[0]:+.2f} ms, last {late[-1]:+.2f} '
    f'ms; method=numpy {other[0]:+.2f}, {other[-1]:+.2f}'
  )
  assert abs(late[0]) < 0.01 and abs(late[-1] - drift) < 0.05
  assert abs(other).max() < 0.01

t = np.arange(5000) / 500
high = np.sin(2 * np.pi * 120 * t)
for name, y in (
  ('neurokit2', resampled(high, 100)),
  ('resample_poly', resample_poly(high, 1, 5)),
):
  power = abs(np.fft.rfft(y * np.hanning(len(y))))
  size = np.sqrt(2) * y[100:-100].std()
  peak = power.argmax() / 10
  print(f'120 Hz by {name}: amplitude {size:.2f} at {peak:.0f} Hz')
  assert size < 0.05 if name == 'resample_poly' else size > 0.8
  assert name == 'resample_poly' or abs(peak - 20) < 0.5
EOF
