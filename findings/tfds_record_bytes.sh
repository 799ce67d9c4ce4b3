#!/usr/bin/env bash
# tensorflow-datasets 4.9.10: the same record has other bytes in each process,
# so a checksum of a prepared ECG data set says nothing.
#
# Packages: tensorflow-datasets 4.9.10, protobuf 7.36.2 from PyPI without
#   TensorFlow, numpy 2.4.6; CPython 3.11.
# Behaviour: one record of six features (identifiers, labels, age) is serialised
#   in four processes. The four results have the same length and are read back
#   to the same values, and no two are equal. PYTHONHASHSEED=0 changes nothing.
#   With PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python the bytes are equal.
# Why: features are a map, protobuf does not promise the order of a map, and its
#   compiled form takes another one in each process.
# Who cares: who publishes a preparation of PTB-XL, MIMIC or CODE-15 with
#   SHA-256 sums, caches by content, or shows that a pipeline is reproducible by
#   comparing its TFRecords.
# Instead: hash the decoded arrays in a stated order; or serialise with
#   deterministic=True (SerializeToString of protobuf has it) before writing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile tensorflow-datasets==4.9.10 \
  protobuf==7.36.2 numpy==2.4.6
cat >"$work/record.py" <<'EOF'
import hashlib

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

NAMES = ('record', 'patient', 'age', 'sex', 'site', 'label')
scalars = {name: tfds.features.Scalar(np.int64) for name in NAMES}
features = tfds.features.FeaturesDict(scalars)
record = features.serialize_example({n: k for k, n in enumerate(NAMES)})
example = tf_example_pb2.Example.FromString(record)
values = [example.features.feature[n].int64_list.value[0] for n in NAMES]
print(hashlib.sha256(record).hexdigest()[:16], len(record), values)
EOF
run() {
  for _ in 1 2 3 4; do
    env "$@" "$work/venv/bin/python" "$work/record.py" 2>"$work/said"
  done
}
distinct() {
  sort -u | wc -l
}
run A=1 >"$work/plain"
run PYTHONHASHSEED=0 >"$work/seeded"
run PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python >"$work/pure"
echo 'sha256, bytes, values in four processes:'
cat "$work/plain"
echo 'with PYTHONHASHSEED=0:'
cat "$work/seeded"
echo 'with the pure Python form of protobuf:'
cat "$work/pure"
test "$(cut -d ' ' -f 2- "$work/plain" "$work/seeded" | distinct)" = 1
test "$(distinct <"$work/plain")" -ge 3
test "$(distinct <"$work/seeded")" -ge 3
test "$(distinct <"$work/pure")" = 1
