"""A process that does one thing whenever it is told to.

Sides of a comparison run in processes of their own: with another interpreter,
another allocator setting, or memory that is theirs alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable

from benchmarks import timing
from ecgjax.runtime import process


class Worker:
  """Runs `python -m MODULE --worker ARGUMENTS...` and asks it for parts."""

  def __init__(
    self,
    module: str,
    arguments: list,
    *,
    python: str = sys.executable,
    kept: bool = True,
    cache: str = '',
    environ: dict[str, str] | None = None,
  ):
    """Starts the process.

    Args:
      module: has a `main` that hands `--worker` to `serve`.
      arguments: of the worker.
      python: its interpreter.
      kept: whether glibc keeps freed memory, see `ecgjax.runtime.process`.
      cache: folder of compiled programs, unless the environment names one.
      environ: more of its environment.
    """
    inherited = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    if kept:
      inherited['GLIBC_TUNABLES'] = process.allocator_tunables('')
    inherited['JAX_PLATFORMS'] = 'cpu'
    if cache:
      inherited.setdefault('JAX_COMPILATION_CACHE_DIR', cache)
    self.process = subprocess.Popen(
      [python, '-m', module, '--worker', *map(str, arguments)],
      env=inherited | (environ or {}),
      cwd=timing.ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.process.stdin.close()
    self.process.wait()
    self.process.stdout.close()

  def ask(self, part: str) -> dict[str, float]:
    """Does `part` once; seconds, processor seconds and what it returns."""
    self.process.stdin.write(part + '\n')
    self.process.stdin.flush()
    answer = self.process.stdout.readline()
    if not answer:
      raise RuntimeError(f'a worker ended with exit code {self.process.wait()}')
    return json.loads(answer)

  def sample(self, part: str) -> timing.Sample:
    """Time of the second of two calls.

    While a process waits for its turn, it loses its place in the caches, and on
    some machines its memory; a run that trains on never does.
    """
    self.ask(part)
    answer = self.ask(part)
    return timing.Sample(answer['wall'], answer['cpu'])


def serve_jax(make_parts: Callable, *arguments) -> None:
  """`serve` with the settings under which `main.py` uses JAX."""
  process.compute_in_calling_thread()
  serve(make_parts(*arguments))


def serve(parts: dict[str, Callable]) -> None:
  """Answers every line of standard input by doing what it names."""
  for line in sys.stdin:
    part, returned = parts[line.strip()], {}
    taken = timing.sample(lambda p=part, r=returned: r.update(p() or {}))
    answer = {'wall': taken.wall, 'cpu': taken.cpu, **returned}
    print(json.dumps(answer), flush=True)
