"""What every benchmark needs: rounds taken in turn, medians, the machine.

A shared machine changes its speed from minute to minute. Tasks are therefore
timed in turn, round after round, and compared by the medians of one run.

Every benchmark is a module with `measure(options) -> list[Row]`; `run` makes a
command of it, and `python -m benchmarks` a table of all.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from ecgjax.runtime import process

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Options(NamedTuple):
  """Of every benchmark.

  Attributes:
    rounds: samples of every task; medians count.
    raw_dir: folder of PTB-XL, or '': what needs it is not measured.
    torch_python: an interpreter that has PyTorch and SciPy.
  """

  rounds: int = 5
  raw_dir: str = ''
  torch_python: str = sys.executable

  def torch_version(self) -> str:
    """Of `torch_python`; '' if it has no PyTorch."""
    command = 'import torch, scipy; print(torch.__version__)'
    found = subprocess.run(
      [self.torch_python, '-c', command],
      capture_output=True,
      text=True,
      check=False,
    )
    return found.stdout.strip()


class Row(NamedTuple):
  """One line of the table; ratios above 1 mean that ecgjax is faster."""

  measure: str
  found: str
  must: str = ''
  aim: str = ''


def measure(name: str, options: Options) -> list[Row]:
  """Runs one benchmark; here, for a new process cannot import `__main__`."""
  process.compute_in_calling_thread()
  print(f'\n## {name}\n', flush=True)
  return importlib.import_module(f'benchmarks.{name}').measure(options)


def table(rows: list[Row]) -> str:
  lines = ['| measure | must | aim | found |', '|---|---|---|---|']
  lines += [f'| {r.measure} | {r.must} | {r.aim} | {r.found} |' for r in rows]
  return '\n'.join(lines)


def parse_options(description: str) -> Options:
  default = Options()
  parser = argparse.ArgumentParser(description=description.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=default.rounds)
  parser.add_argument('--raw_dir', default='', help='folder of PTB-XL')
  parser.add_argument(
    '--torch_python',
    default=default.torch_python,
    help='interpreter with PyTorch and SciPy (pip install -e .[bench])',
  )
  return Options(**vars(parser.parse_args()))


def run(measure: Callable, description: str) -> None:
  """The command of a benchmark: the machine, and the rows of `measure`."""
  process.ensure_allocator()
  process.compute_in_calling_thread()
  options = parse_options(description)
  print(machine('jax', 'flax') + '\n', flush=True)
  print('\n' + table(measure(options)))


class Sample(NamedTuple):
  """Seconds of one call."""

  wall: float
  cpu: float  # of all threads of this process


def sample(function: Callable) -> Sample:
  """Times one call; `function` returns when its work is done."""
  cpu, wall = time.process_time(), time.perf_counter()
  function()
  return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(
  tasks: dict[str, Callable[[], Sample]], rounds: int
) -> dict[str, list[Sample]]:
  """Takes `rounds` samples of every task, one of each in turn.

  Args:
    tasks: name -> function that runs the task once and returns its time.
    rounds: how often; the first, unrecorded round is a warm-up.
  """
  samples = {name: [] for name in tasks}
  for i in range(rounds + 1):
    for name, task in tasks.items():
      taken = task()
      if i > 0:
        samples[name].append(taken)
  return samples


def median(samples: list[Sample]) -> Sample:
  return Sample(*(statistics.median(column) for column in zip(*samples)))


def medians(tasks: dict[str, Callable], rounds: int) -> dict[str, Sample]:
  """Name -> median time of a call, rounds taken in turn in this process."""
  timed = {name: lambda t=task: sample(t) for name, task in tasks.items()}
  return {
    name: median(taken) for name, taken in interleaved(timed, rounds).items()
  }


def machine(*packages: str) -> str:
  """One line that says what ran: processor, cores, memory, versions."""
  model = platform.processor() or platform.machine()
  if os.path.exists('/proc/cpuinfo'):
    with open('/proc/cpuinfo') as f:
      names = [line for line in f if line.startswith('model name')]
    if names:
      model = names[0].split(':')[1].strip()
  memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30
  versions = [f'{name} {importlib.metadata.version(name)}' for name in packages]
  return ', '.join(
    [
      f'{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB',
      f'load {os.getloadavg()[0]:.1f}',
      f'Python {platform.python_version()}',
      *versions,
    ]
  )
