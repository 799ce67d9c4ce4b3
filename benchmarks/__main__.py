"""All benchmarks, one table: `python -m benchmarks [--raw_dir=DIR] ...`.

Writes `benchmarks/RESULTS.md` after every benchmark; see `timing.Options` for
the flags. Every benchmark runs in a process of its own. Where
JAX_COMPILATION_CACHE_DIR is set, a second run need not compile.
"""

import concurrent.futures
import multiprocessing
import os

from benchmarks import timing
from ecgjax.runtime import process as process_lib

MODULES = (
  'lcd_step', 'end_to_end', 'input', 'prepare', 'startup', 'codebook',
  'simulator', 'raster', 'pairs', 'memory', 'scaling',
)  # fmt: skip
NOT_HERE = timing.Row(
  'one H100/H200: LCD paper preset, and the largest sensible batch, ECG/s',
  'not measured',
  '21,000',
  '100,000',
)


def write(machine: str, rounds: int, rows: list[timing.Row], left) -> None:
  """Writes what is known so far; `left` are the modules still to run."""
  missing = f'Not run yet: {", ".join(left)}.\n\n' if left else ''
  text = f"""# Benchmarks

`python -m benchmarks`: medians of {rounds} rounds taken in turn. A ratio above
1 means that ecgjax is faster. Ratios of one run travel to other machines,
milliseconds do not.

{machine}; load at the end {os.getloadavg()[0]:.1f}

{missing}{timing.table([*rows, NOT_HERE])}
"""
  with open(os.path.join(timing.ROOT, 'benchmarks', 'RESULTS.md'), 'w') as file:
    file.write(text)


def main() -> None:
  process_lib.ensure_allocator()
  options = timing.parse_options(__doc__)
  torch = options.torch_version()
  machine = timing.machine('jax', 'flax', 'wfdb')
  machine += f', torch {torch}' if torch else ''
  print(machine)
  rows = []
  context = multiprocessing.get_context('spawn')
  for k, name in enumerate(MODULES):
    with concurrent.futures.ProcessPoolExecutor(1, context) as process:
      found = process.submit(timing.measure, name, options).result()
    print('\n' + timing.table(found), flush=True)
    rows += found
    write(machine, options.rounds, rows, MODULES[k + 1 :])


if __name__ == '__main__':
  main()
