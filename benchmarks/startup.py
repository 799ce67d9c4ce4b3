"""Time from the start of the process to the first step, warm compile cache.

  python -m benchmarks.startup [--raw_dir=DIR]

Starts `ecgjax.main` in new work folders and waits for the first line of its
metrics: batch 256 x 8 leads x 1000 on a prepared data set, PTB-XL if DIR is
given and simulated otherwise. The first start fills the compile cache.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import timing
from ecgjax.data.store import prepared


def seconds_to_first_step(
  folder: str, number: int, config: str, flags
) -> float:
  """Starts a run, waits for its first step, stops it."""
  workdir = os.path.join(folder, f'run{number}')
  environ = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  environ['JAX_COMPILATION_CACHE_DIR'] = os.path.join(folder, 'cache')
  environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  log = os.path.join(folder, 'log')
  metrics = os.path.join(workdir, 'metrics.jsonl')
  with open(log, 'w') as output:
    start = time.perf_counter()
    process = subprocess.Popen(
      [
        sys.executable,
        *('-m', 'ecgjax.main', f'--config={config}', f'--workdir={workdir}'),
        *('--config.log_every=1', '--config.num_steps=1000', *flags),
      ],
      env=environ,
      cwd=timing.ROOT,
      stdout=output,
      stderr=output,
    )
    try:
      while not (os.path.exists(metrics) and os.path.getsize(metrics)):
        if process.poll() is not None:
          with open(log) as file:
            raise RuntimeError(file.read())
        time.sleep(0.01)
      return time.perf_counter() - start
    finally:
      process.send_signal(signal.SIGTERM)
      process.wait()


def measure(options: timing.Options) -> list[timing.Row]:

  with tempfile.TemporaryDirectory() as folder:
    data_dir = os.path.join(folder, 'data')
    flags = [f'--config.data.dir={data_dir}']
    if options.raw_dir:
      prepared.build('ptbxl', data_dir, raw_dir=options.raw_dir)
      config = 'configs/lcd.py:dataset=ptbxl'
      flags.append(f'--config.data.raw_dir={options.raw_dir}')
    else:
      prepared.build('synthetic', data_dir, size='small')
      config = 'configs/lcd.py'
    taken = [
      seconds_to_first_step(folder, number, config, flags)
      for number in range(options.rounds + 1)
    ]
  return [
    timing.Row(
      f'seconds from process start to first step, warm compile cache (cold: '
      f'{taken[0]:.0f})',
      f'{statistics.median(taken[1:]):.1f}',
      '20',
      '12',
    )
  ]


if __name__ == '__main__':
  timing.run(measure, __doc__)
