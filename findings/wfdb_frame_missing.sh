#!/usr/bin/env bash
# wfdb 4.3.1: a missing sample in a frame of two becomes -16.382 mV instead of
# NaN.
#
# Package: wfdb 4.3.1 from PyPI, with numpy 2.4.6, scipy 1.17.1 and pandas
#   3.0.3; CPython 3.11.
# Behaviour: a valid record of format 16 with two samples per frame ("16x2"), a
#   gain of 1000 per mV and a right checksum. One frame holds 3 and -32768, the
#   format's mark of a missing sample. rdrecord by default averages the samples
#   of a frame before it looks for the mark, so the frame is (3 - 32768) / 2
#   rounded up, -16.382 mV, and no sample of it is NaN. With smooth_frames=False
#   they are .003 mV and NaN. A frame whose samples are all missing is NaN both
#   ways.
# Who cares: multi-rate records (MIMIC waveforms, Holters, sleep studies, where
#   ECG has 2 or 4 samples per frame) lose signal with a loose electrode: a
#   spike taken for a beat or a pace pulse, which no NaN check can find.
# Instead: rdrecord(..., smooth_frames=False) and e_p_signal; average afterwards
#   with nanmean. It also gives the full rate, frame rate times samples per
#   frame.
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

frames = np.arange(200).reshape(-1, 2).astype('<i2')
frames[5] = 3, -32768
frames[7] = -32768, -32768
frames.tofile('lead.dat')
checksum = int(frames.sum(dtype=np.int64).astype(np.int16))
pathlib.Path('lead.hea').write_text(
  f'lead 1 250 100\nlead.dat 16x2 1000/mV 16 0 0 {checksum} 0 II\n'
)
smooth = wfdb.rdrecord('lead').p_signal[:, 0]
full = wfdb.rdrecord('lead', smooth_frames=False).e_p_signal[0]
print('default:            ', smooth[4:8])
print('smooth_frames=False:', full[8:16])
assert abs(smooth[5] + 16.382) < 0.001 and not np.isnan(smooth[5])
assert np.isnan(smooth[7])
assert full[10] == 0.003 and np.isnan(full[[11, 14, 15]]).all()
EOF
