#!/usr/bin/env bash
# jax 0.10.2, flax 0.12.8: on int16 ECG counts jnp.sum is right and jnp.cumsum
# wraps around; so do segment_sum, avg_pool and jax.nn.standardize.
#
# Packages: jax and jaxlib 0.10.2, flax 0.12.8, numpy 2.4.6 from PyPI; CPython
#   3.11; on CPU.
# Behaviour: 20 s of a lead at 500 Hz that stands at 3000 counts. jnp.sum
#   promotes to int32 and is right, as is jnp.cumulative_sum, which differs from
#   jnp.cumsum by its name; jnp.cumsum keeps int16 and ends at -15488 for 30
#   million (NumPy's cumsum promotes to int64). jax.ops.segment_sum wraps too,
#   so does flax.linen.avg_pool (mean of four times 30000 is -2768), and
#   jax.nn.standardize squares before it converts: +-30000 become +-9.5 million.
#   jnp.mean, var, std and flax's LayerNorm convert first and are right.
# Who cares: WFDB, TFRecords and memory maps hold int16, and leaving the
#   conversion to the accelerator saves half of the transfer. Moving averages by
#   cumsum (baseline removal, QRS windows), sums per beat and pooling then go
#   wrong quietly.
# Instead: x.astype(float32) as the first line of whatever is jitted, or
#   dtype=int32 given to cumsum.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile jax==0.10.2 jaxlib==0.10.2 \
  flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'EOF'
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

counts = np.full(10000, 3000, np.int16)
x = jnp.asarray(counts)
beat = jnp.zeros(10000, int)
high = jnp.full((1, 8, 1), 30000, jnp.int16)
swing = jnp.asarray([30000, -30000, 0] * 1000, jnp.int16)
seen = {
  'numpy.cumsum': np.cumsum(counts)[-1],
  'jnp.sum': jnp.sum(x),
  'jnp.cumulative_sum': jnp.cumulative_sum(x)[-1],
  'jnp.cumsum': jnp.cumsum(x)[-1],
  'jax.ops.segment_sum': jax.ops.segment_sum(x, beat, 1)[0],
  'jnp.cumsum, dtype=int32': jnp.cumsum(x, dtype=jnp.int32)[-1],
  'flax avg_pool of 30000': nn.avg_pool(high, (4,), (4,))[0, 0, 0],
  'jax.nn.standardize of 30000, -30000, 0': jax.nn.standardize(swing)[0],
  'the same as float32': jax.nn.standardize(swing.astype(jnp.float32))[0],
}
for name, value in seen.items():
  print(f'{name}: {value} ({value.dtype})')
true = 30_000_000
assert seen['numpy.cumsum'] == seen['jnp.sum'] == true
assert seen['jnp.cumulative_sum'] == seen['jnp.cumsum, dtype=int32'] == true
wrapped = np.int32(true).astype(np.int16)
assert seen['jnp.cumsum'] == seen['jax.ops.segment_sum'] == wrapped
assert seen['flax avg_pool of 30000'] == -2768
assert seen['jax.nn.standardize of 30000, -30000, 0'] > 1e6
assert abs(seen['the same as float32'] - 1.5**0.5) < 1e-3
EOF
