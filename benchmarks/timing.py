"""What every benchmark needs: rounds taken in turn, medians, the machine.

A shared machine changes its speed from minute to minute. Tasks are therefore
timed in turn, round after round, and compared by the medians of one run.
"""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


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
