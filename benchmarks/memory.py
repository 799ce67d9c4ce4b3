"""Peak memory of the LCD step, and the largest batch that follows from it.

  python -m benchmarks.memory [--torch_python=PYTHON]

Each figure is the peak of a process of its own that makes three steps. Memory
grows linearly with the batch, so the largest batch is extrapolated from two.
"""

import os
import resource
import sys
import tempfile

from benchmarks import timing, worker

LENGTH = 1000
BATCHES = (256, 512)


def peak_parts(step):
  """`peak`: bytes of this process after three steps."""

  def peak():
    for _ in range(3):
      step()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {'bytes': 1024 * kilobytes}

  return {'peak': peak}


def jax_parts(batch_size: int):
  import jax

  from benchmarks import lcd_step

  config = lcd_step.make_config(LENGTH)
  config.batch_size = batch_size
  batch = lcd_step.random_batch(config)
  _, state, compiled = lcd_step.make_step(config, batch)

  def step():
    nonlocal state
    state, _ = jax.block_until_ready(compiled(state, batch))

  return peak_parts(step)


def torch_parts(batch_size: int):
  import torch

  from benchmarks import torch_twin

  twin = torch_twin.Twin()
  views = torch.randn(3, batch_size, LENGTH)
  return peak_parts(lambda: twin.train(*views))


def measure(options: timing.Options) -> list[timing.Row]:
  sides = ['jax', 'torch'] if options.torch_version() else ['jax']
  peaks = {}
  with tempfile.TemporaryDirectory() as cache:
    for side in sides:
      for size in BATCHES:
        with worker.Worker(
          'benchmarks.memory',
          [side, size],
          python=options.torch_python if side == 'torch' else sys.executable,
          cache=cache,
        ) as process:
          peaks[side, size] = process.ask('peak')['bytes']
  rows = []
  memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  for side, name in zip(sides, ('ecgjax', 'PyTorch')):
    first, second = (peaks[side, size] for size in BATCHES)
    per_record = (second - first) / (BATCHES[1] - BATCHES[0])
    largest = BATCHES[0] + (memory - first) / per_record
    rows.append(
      timing.Row(
        f'{name}: peak memory of the LCD step, B = {BATCHES[0]}, L = {LENGTH}; '
        f'per record; largest batch in {memory / 2**30:.0f} GiB, extrapolated',
        f'{first / 2**30:.2f} GiB; {per_record / 2**20:.2f} MiB; '
        f'{largest:,.0f}',
      )
    )
  return rows


if __name__ == '__main__':
  if sys.argv[1:2] == ['--worker']:
    side, size = sys.argv[2], int(sys.argv[3])
    if side == 'torch':
      worker.serve(torch_parts(size))
    else:
      worker.serve_jax(jax_parts, size)
  else:
    timing.run(measure, __doc__)
