"""All benchmarks, one table: `python -m benchmarks [--raw_dir=DIR] ...`.

Writes `benchmarks/RESULTS.md`; see `timing.Options` for the flags. Every
benchmark runs in a process of its own.
"""

import concurrent.futures
import importlib
import multiprocessing
import os
import time

from benchmarks import timing
from ecgjax import process_env

MODULES = (
  'lcd_step', 'end_to_end', 'input', 'prepare', 'startup', 'codebook',
  'simulator', 'raster', 'pairs', 'memory', 'scaling',
)  # fmt: skip
NOT_HERE = timing.Row(
  'one H100/H200: LCD paper preset, and the largest sensible batch, ECG/s',
  'not measured: this machine has no GPU',
  '21,000',
  '100,000',
)


def measure(name: str, options: timing.Options) -> list[timing.Row]:
  print(f'\n## {name}\n', flush=True)
  return importlib.import_module(f'benchmarks.{name}').measure(options)


def main() -> None:
  process_env.ensure_allocator()
  options = timing.parse_options(__doc__)
  torch = options.torch_version()
  machine = timing.machine('jax', 'flax', 'tensorflow-cpu', 'wfdb')
  machine += f', torch {torch}' if torch else ''
  print(machine)
  rows, start = [], time.monotonic()
  context = multiprocessing.get_context('spawn')
  for name in MODULES:
    with concurrent.futures.ProcessPoolExecutor(1, context) as process:
      found = process.submit(measure, name, options).result()
    print('\n' + timing.table(found), flush=True)
    rows += found
  text = f"""# Benchmarks

`python -m benchmarks`: medians of {options.rounds} rounds taken in turn, in
{(time.monotonic() - start) / 60:.0f} minutes. A ratio above 1 means that ecgjax
is faster. Ratios of one run travel to other machines, milliseconds do not.

{machine}, load at the end {os.getloadavg()[0]:.1f}

{timing.table([*rows, NOT_HERE])}
"""
  with open(os.path.join(timing.ROOT, 'benchmarks', 'RESULTS.md'), 'w') as file:
    file.write(text)


if __name__ == '__main__':
  main()
