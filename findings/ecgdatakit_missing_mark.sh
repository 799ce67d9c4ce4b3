#!/usr/bin/env bash
# ecgdatakit 2.0.3: missing samples of a WFDB record come out as -32.768 mV;
# only a count in the metadata tells.
#
# Packages: ecgdatakit 2.0.3, wfdb 4.3.1 from PyPI, with numpy 2.4.6; CPython
#   3.11.
# Behaviour: a valid record of format 16 at 1000 per mV, with a right checksum,
#   ten of whose 500 samples are -32768, the format's mark of a missing sample.
#   FileParser().parse gives Lead.samples in mV with -32.768 for the ten: no
#   NaN, no warning, though the same package turns the padding of DICOM and the
#   null of Kardia files into NaN. raw_metadata has their number per signal.
#   wfdb gives NaN.
# Who cares: whoever reads many formats through this one door and trusts NaN for
#   missing: deviation, z-score and clipping of such a lead follow the mark.
# Instead: read WFDB with wfdb, or set samples equal to the mark divided by the
#   gain to NaN whenever the count in raw_metadata is not 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile ecgdatakit==2.0.3 wfdb==4.3.1 \
  numpy==2.4.6 scipy==1.17.1 pandas==3.0.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import pathlib
import warnings

import ecgdatakit
import numpy as np
import wfdb

counts = (np.arange(500) % 100).astype('<i2')
counts[100:110] = -32768
counts.tofile('lead.dat')
checksum = int(counts.sum(dtype=np.int64).astype(np.int16))
pathlib.Path('lead.hea').write_text(
  f'lead 1 250 500\nlead.dat 16 1000/mV 16 0 0 {checksum} 0 II\n'
)
with warnings.catch_warnings():
  warnings.simplefilter('error')
  record = ecgdatakit.FileParser().parse('lead.hea')
samples = np.asarray(record.leads[0].samples)
other = wfdb.rdrecord('lead').p_signal[:, 0]
told = {k: v for k, v in record.raw_metadata.items() if 'invalid' in k}
print('ecgdatakit:', samples[98:102], 'NaN:', np.isnan(samples).sum(), told)
print('wfdb:      ', other[98:102], 'NaN:', np.isnan(other).sum())
assert not np.isnan(samples).any()
assert (abs(samples[100:110] + 32.768) < 1e-6).all()
assert np.isnan(other[100:110]).all() and np.isnan(other).sum() == 10
assert '10' in str(told)
EOF
