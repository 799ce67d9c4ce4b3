#!/usr/bin/env bash
# jax 0.10.2 on CPU under glibc: each step takes all of its scratch memory anew
# from the kernel, whatever malloc is told; and the switch that changes this has
# no environment variable.
#
# Packages: jax and jaxlib 0.10.2, numpy 2.4.6 from PyPI; CPython 3.11; Linux
#   with glibc, pages of 4096 bytes. Page faults are counted, nothing is timed.
# Behaviour: a jitted function over a batch of 64 leads, whose memory_analysis()
#   tells 24640 pages of scratch. Each call, warm, has 24641 page faults: all of
#   it is given back and taken again. malloc's tunables that should keep it
#   (mmap_threshold, trim_threshold) change nothing: 24641. So does
#   jax_cpu_enable_async_dispatch=False alone: 24641. Both together: 0 or 1.
#   JAX_CPU_ENABLE_ASYNC_DISPATCH=0 in the environment, where other switches of
#   JAX can be set, is not read: the config stays True and the answer is not
#   ready when the call returns; jax.config.update works.
# Why: the program runs in a thread of JAX's own, and glibc's arenas of other
#   threads cannot hold a block of this size, whatever the tunables say; only
#   the main thread's can.
# Who cares: ECG networks on CPU (long leads, small kernels) have hundreds of
#   megabytes of scratch a step, and each fault has the kernel clear a page: the
#   cores clear memory instead of computing, most of all in virtual machines.
# Instead: jax.config.update('jax_cpu_enable_async_dispatch', False) before the
#   first computation, and GLIBC_TUNABLES set before the process starts.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile jax==0.10.2 jaxlib==0.10.2 \
  numpy==2.4.6
cat >"$work/step.py" <<'EOF'
import resource
import sys

import jax
import jax.numpy as jnp

if sys.argv[1] == 'update':
  jax.config.update('jax_cpu_enable_async_dispatch', False)


@jax.jit
def step(x):
  a = jnp.sin(x)
  b = jnp.cumsum(a, axis=1)
  return jnp.sum(jnp.cumsum(jnp.flip(b, axis=1) * a, axis=1) * b)


@jax.jit
def long_step(x):
  for _ in range(6):
    x = jnp.tanh(x @ x / 1500)
  return x


def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  step(leads).block_until_ready()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


leads = jnp.ones((64, 1000, 128))
pages = step.lower(leads).compile().memory_analysis().temp_size_in_bytes / 4096
faults(), faults()
share = sorted(faults() for _ in range(9))[4] / pages
square = jnp.ones((1500, 1500))
long_step(square).block_until_ready()
ready = 0
for _ in range(9):
  answer = long_step(square)
  ready += answer.is_ready()
  answer.block_until_ready()
print(f'{share:.3f} {ready}')
EOF
python="$work/venv/bin/python"
export JAX_PLATFORMS=cpu
unset GLIBC_TUNABLES
keep=glibc.malloc.mmap_threshold=4294967296
keep=$keep:glibc.malloc.trim_threshold=4294967296
{
  "$python" "$work/step.py" default
  JAX_CPU_ENABLE_ASYNC_DISPATCH=0 "$python" "$work/step.py" default
  "$python" "$work/step.py" update
  GLIBC_TUNABLES=$keep "$python" "$work/step.py" default
  GLIBC_TUNABLES=$keep "$python" "$work/step.py" update
} >"$work/seen"
paste -d ' ' - "$work/seen" <<'EOF'
default, faults per page of scratch and ready at return of 9:
environment variable:
config.update:
malloc tunables:
malloc tunables and config.update:
EOF
"$python" - "$work/seen" <<'EOF'
import sys

rows = [line.split() for line in open(sys.argv[1])]
share = [float(row[0]) for row in rows]
ready = [int(row[1]) for row in rows]
assert all(0.9 < s < 1.2 for s in share[:4]), share
assert share[4] < 0.05, share
assert max(ready[0], ready[1], ready[3]) <= 2 and min(ready[2], ready[4]) >= 7
EOF
