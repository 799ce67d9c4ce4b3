#!/usr/bin/env bash
# flax 0.12.8, jax 0.10.2: normalising a lead that carries an electrode offset
# leaves a deviation of up to 44 (batch) or 65 (layer norm) instead of 1.
#
# Packages: flax 0.12.8, jax and jaxlib 0.10.2, numpy 2.4.6 from PyPI; CPython
#   3.11; float32 on CPU.
# Behaviour: 64 leads of 1000 samples with a deviation of 0.14 mV, once around 0
#   and once around 300 mV, the offset that IEC 60601-2-25 asks a recorder to
#   bear. Around 0 the deviation after each layer is 1.000. Around 300 mV it is
#   0.8 to 44 after flax.linen.BatchNorm and 0.9 to 44 after jax.nn.standardize,
#   by the draw of the noise (what is left of the variance is chance), and 55 to
#   65 after LayerNorm over time. Nothing becomes NaN. With
#   use_fast_variance=False: 1.000.
# Why: the variance is mean(x^2) - mean(x)^2 in float32: 90000 - 89999.98, of
#   which 7 digits are kept.
# Who cares: float32 holds 300.14 mV to .00003 mV, so one expects three good
#   digits; raw counts of DC-coupled recorders (24-bit Holters, exercise,
#   wearables) and any data with an offset two thousand times its signal meet
#   this. A batch norm as the first layer is common in ECG networks.
# Instead: subtract each lead's median before the network, and
#   use_fast_variance=False in layers that see raw leads.
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

key = jax.random.key(0)


def spread(offset, fast, seed):
  noise = 0.14 * np.random.default_rng(seed).standard_normal((64, 1000, 1))
  x = jnp.asarray((offset + noise).astype(np.float32))
  batch = nn.BatchNorm(use_running_average=False, use_fast_variance=fast)
  layer = nn.LayerNorm(
    reduction_axes=(1,), feature_axes=-1, use_fast_variance=fast
  )
  outputs = {
    'BatchNorm': batch.init_with_output(key, x)[0],
    'LayerNorm': layer.init_with_output(key, x)[0],
  }
  if fast:
    outputs['jax.nn.standardize'] = jax.nn.standardize(x, axis=(0, 1))
  return {k: np.std(np.asarray(v, np.float64)) for k, v in outputs.items()}


for offset, fast in ((0, True), (0, False), (300, False), (300, True)):
  draws = [spread(offset, fast, seed) for seed in range(5)]
  for layer in draws[0]:
    seen = np.array([draw[layer] for draw in draws])
    print(
      f'offset {offset} mV, use_fast_variance={fast}, {layer}: '
      f'deviation {seen.min():.3f} to {seen.max():.3f}'
    )
    off = (abs(seen - 1) > 0.05).sum()
    assert off >= 3 if offset and fast else not off
EOF
