#!/usr/bin/env bash
# hrv-analysis 1.0.6: the LF power of a known rhythm of 200 ms^2 is 192 by its
# default method and 124 by method='lomb', under the same name and unit.
#
# Packages: hrv-analysis 1.0.6, neurokit2 0.3.0 from PyPI, numpy 2.4.6, scipy
#   1.17.1, pandas 3.0.3; CPython 3.11. hrv-analysis is installed without its
#   dependencies: it asks for nolds 0.6.3, which CPython 3.11 cannot import.
# Behaviour: five minutes of RR intervals of 800 ms that swing by 20 ms at 0.1
#   Hz. All of the power is in the LF band, and it is 20^2 / 2 = 200 ms^2.
#   get_frequency_domain_features gives 192 (Welch, what its windows cost) and
#   with method='lomb' 124. neurokit2's hrv_frequency(normalize=False) gives
#   201; its default divides by the largest density, as its page says, and
#   writes 0.0100 under the same column name.
# Who cares: LF in ms^2 is compared with published norms and pooled over
#   studies, and the Lomb form is what one takes for intervals with gaps: a
#   switch of method moves the figure by a third.
# Instead: the Welch form, or neurokit2 with normalize=False; not the Lomb form
#   of hrv-analysis for absolute power; run a known tachogram through whatever
#   is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile neurokit2==0.3.0 nolds==0.6.1 \
  astropy==7.2.0 matplotlib==3.10.8 numpy==2.4.6 scipy==1.17.1 pandas==3.0.3
"$work/venv/bin/pip" install -q --no-compile --no-deps hrv-analysis==1.0.6
"$work/venv/bin/python" - <<'EOF'
import warnings

warnings.filterwarnings('ignore')

import neurokit2
import numpy as np
from hrvanalysis import get_frequency_domain_features

rr, now = [], 0.0
while now < 300:
  rr.append(800 + 20 * np.sin(2 * np.pi * 0.1 * now))
  now += rr[-1] / 1000
beats = np.round(np.r_[0, np.cumsum(rr)]).astype(int)


def nk(**options):
  table = neurokit2.hrv_frequency(beats, sampling_rate=1000, **options)
  return float(table['HRV_LF'].iloc[0])


seen = {
  'hrv-analysis, default': get_frequency_domain_features(rr)['lf'],
  'hrv-analysis, lomb': get_frequency_domain_features(rr, method='lomb')['lf'],
  'neurokit2, default': nk(),
  'neurokit2, normalize=False': nk(normalize=False),
}
print('true: 200 ms^2')
for name, value in seen.items():
  print(f'{name}: LF = {value:.4g}')
assert 185 < seen['hrv-analysis, default'] < 200
assert 115 < seen['hrv-analysis, lomb'] < 135
assert 0.005 < seen['neurokit2, default'] < 0.02
assert 195 < seen['neurokit2, normalize=False'] < 207
EOF
