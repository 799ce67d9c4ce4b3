#!/usr/bin/env bash
# h5py 3.16.0 with HDF5 2.0.0: the scale-offset filter turns missing ECG samples
# (NaN) into the smallest voltage of the chunk, without a word.
#
# Package: h5py 3.16.0 from PyPI (HDF5 2.0.0 in its wheel), numpy 2.4.6; CPython
#   3.11.
# Behaviour: a lead in mV, float32, with ten samples NaN, stored with
#   scaleoffset=3 (three decimals, the usual way to pack millivolts). Read back,
#   none of the ten is NaN: each is the minimum of the chunk (-2.000 mV here),
#   an ordinary voltage. A fill value of NaN does not help. Infinities come back
#   as infinities, and a mark below all voltages (-32.768) comes back as itself.
# Who cares: NaN is how wfdb and others hand out missing samples, and packed
#   floats are how large ECG sets are shared: the mask is gone and a flat
#   stretch at the lowest voltage is in its place.
# Instead: store int16 counts with gzip and shuffle (or scaleoffset=0, which was
#   exact on integers) and a mark or a mask of their own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile h5py==3.16.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import h5py
import numpy as np

whole = (2 * np.sin(np.arange(5000) / 30)).astype(np.float32)


def back(mark, **options):
  lead = whole.copy()
  lead[100:110] = mark
  with h5py.File('lead.h5', 'w') as file:
    file.create_dataset('lead', data=lead, chunks=(5000,), **options)
  with h5py.File('lead.h5') as file:
    return file['lead'][100:110]


plain = back(np.nan, compression='gzip')
packed = back(np.nan, scaleoffset=3)
filled = back(np.nan, scaleoffset=3, fillvalue=np.nan)
infinite = back(np.inf, scaleoffset=3)
marked = back(-32.768, scaleoffset=3)
print('gzip:', np.isnan(plain).sum(), 'of 10 are NaN')
print('scaleoffset=3:', np.isnan(packed).sum(), 'of 10 are NaN:', packed[:3])
print('the same, fill value NaN:', np.isnan(filled).sum(), filled[:3])
print('infinity:', infinite[:3], ' -32.768:', marked[:3])
assert np.isnan(plain).all()
assert not np.isnan(packed).any() and abs(packed + 2).max() < 1e-3
assert not np.isnan(filled).any() and abs(filled + 2).max() < 1e-3
assert np.isinf(infinite).all() and abs(marked + 32.768).max() < 1e-3
EOF
