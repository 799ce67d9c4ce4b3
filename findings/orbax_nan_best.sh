#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: one metric that is NaN makes the manager delete the
# best checkpoint and keep the one of the NaN.
#
# Packages: orbax-checkpoint 0.12.8, jax and jaxlib 0.10.2, numpy 2.4.6 from
#   PyPI; CPython 3.11; on CPU.
# Behaviour: CheckpointManager(best_fn=..., best_mode='max', max_to_keep=2). The
#   validation AUROC of four evaluations is .5, .8, NaN, .6. Kept are the NaN
#   and the .6; the .8 is deleted, and best_step() names the .6. With NaN first,
#   .8 and .6 are kept, as they should. With best_mode='min' and .5, NaN, .8, .6
#   the .5 is deleted. Nothing is raised or logged as an error.
# Why: the steps are sorted by a number that does not compare.
# Who cares: AUROC or average precision is NaN whenever a validation subset has
#   no case of a class, which is common with rare ECG statements and with label
#   budgets of 1 %; the run ends with a worse model that is called the best.
# Instead: give best_fn a finite number (nan_to_num to -inf or +inf by mode), or
#   average metrics over the classes that are present before they are reported.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile orbax-checkpoint==0.12.8 \
  jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'EOF'
import logging
import os
import tempfile

logging.disable(logging.WARNING)

import numpy as np
import orbax.checkpoint as ocp

NAN = float('nan')


def kept(metrics, mode):
  options = ocp.CheckpointManagerOptions(
    max_to_keep=2,
    best_fn=lambda metric: metric['auroc'],
    best_mode=mode,
    enable_async_checkpointing=False,
  )
  folder = tempfile.mkdtemp(dir=os.getcwd())
  with ocp.CheckpointManager(folder, options=options) as manager:
    for step, value in enumerate(metrics):
      state = ocp.args.StandardSave({'w': np.full(3, step, np.float32)})
      manager.save(step, args=state, metrics={'auroc': value})
    values = [metrics[step] for step in sorted(manager.all_steps())]
    best = metrics[manager.best_step()]
  print(f'{mode} of {metrics}: kept {values}, best {best}')
  return values, best


values, best = kept([0.5, 0.8, 0.7, 0.6], 'max')
assert values == [0.8, 0.7] and best == 0.8
values, best = kept([0.5, 0.8, NAN, 0.6], 'max')
assert 0.8 not in values and np.isnan(values[0]) and best == 0.6
values, best = kept([NAN, 0.5, 0.8, 0.6], 'max')
assert values == [0.8, 0.6] and best == 0.8
values, best = kept([0.5, NAN, 0.8, 0.6], 'min')
assert 0.5 not in values and best == 0.6
EOF
