#!/usr/bin/env bash
# tensorflow-datasets 4.9.10: an int16 ECG takes 2, 5.7 or 10 bytes a sample on
# disk, by the sign of its baseline.
#
# Package: tensorflow-datasets 4.9.10 from PyPI without TensorFlow, numpy 2.4.6;
#   CPython 3.11.
# Behaviour: features.Tensor(shape=(1000, 12), dtype=int16), the plain way to
#   declare counts. One serialised record of small values around zero has 5.7
#   bytes a sample; the same 1000 counts lower, all negative, 10.0; the same
#   1000 counts higher 2.0. encoding='bytes' has 2.0 and encoding='zlib' about
#   1.4 whatever the offset.
# Why: integers are stored as a list of varints of 64 bits, where a negative
#   number always has ten bytes and one from 128 to 16383 two.
# Who cares: half of the samples of a filtered ECG are negative, so prepared
#   corpora are near three times the size of the raw files, and so are reading
#   and caching; a corpus with an offset seems to be five times the size of
#   another with as many samples.
# Instead: encoding='bytes' (or 'zlib') for waveforms in integers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile tensorflow-datasets==4.9.10 \
  numpy==2.4.6
"$work/venv/bin/python" - <<'EOF'
import numpy as np
import tensorflow_datasets as tfds

rng = np.random.default_rng(0)
ecg = np.cumsum(rng.integers(-20, 21, (1000, 12)), axis=0) % 400 - 200
seen = {}
for offset in (0, -1000, 1000):
  for encoding in ('none', 'bytes', 'zlib'):
    tensor = tfds.features.Tensor(
      shape=(1000, 12), dtype=np.int16, encoding=encoding
    )
    features = tfds.features.FeaturesDict({'ecg': tensor})
    moved = (ecg + offset).astype(np.int16)
    record = features.serialize_example({'ecg': moved})
    seen[offset, encoding] = len(record) / ecg.size
    print(
      f'offset {offset:+5d}, encoding={encoding}: '
      f'{seen[offset, encoding]:.2f} bytes a sample'
    )
assert 5 < seen[0, 'none'] < 6.5
assert 9.9 < seen[-1000, 'none'] < 10.1
assert 1.9 < seen[1000, 'none'] < 2.1
for offset in (0, -1000, 1000):
  assert 1.9 < seen[offset, 'bytes'] < 2.1
  assert seen[offset, 'zlib'] < 1.6
EOF
