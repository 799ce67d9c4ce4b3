#!/usr/bin/env bash
# neurokit2 0.3.0: the twelve leads of ecg_simulate break Einthoven's law by
# more than half of their own height.
#
# Package: neurokit2 0.3.0 from PyPI, with numpy 2.4.6, scipy 1.17.1 and pandas
#   3.0.3; CPython 3.11.
# Behaviour: ecg_simulate(method='multileads', noise=0) returns columns I, II,
#   III, aVR, ... V6. Without noise I + III - II reaches about 1 where II spans
#   about 1.6, and aVR + (I + II) / 2 reaches about 1.4. On a real recorder both
#   are 0 but for rounding, since III, aVR, aVL and aVF are computed from I and
#   II; public corpora keep it within a few microvolts.
# Who cares: lead-aware models, augmentation that derives leads, checks for
#   swapped electrodes and generators learned from such data: a model tells real
#   from simulated by one subtraction, and a quality check that uses the law
#   refuses every record.
# Instead: take I, II and V1-V6 only and compute the other four leads, or use a
#   generator that starts from a dipole.
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

for seed in (1, 2, 3):
  x = neurokit2.ecg_simulate(
    duration=10, sampling_rate=500, noise=0, method='multileads',
    random_state=seed,
  )
  span = np.ptp(x['II'])
  einthoven = abs(x['I'] + x['III'] - x['II']).max() / span
  goldberger = abs(x['aVR'] + (x['I'] + x['II']) / 2).max() / span
  print(
    f'seed {seed}: largest |I + III - II| is {einthoven:.2f} of the span of II,'
    f' |aVR + (I + II) / 2| {goldberger:.2f}'
  )
  assert einthoven > 0.5 and goldberger > 0.5
EOF
