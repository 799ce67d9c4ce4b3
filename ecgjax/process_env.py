"""Environment settings that must exist before the process starts.

Kept free of heavy imports: `main.py` calls `ensure_allocator` before it
imports JAX.
"""

import glob
import os
import sys
from collections.abc import Callable, Mapping

# A training step on CPU frees and allocates hundreds of megabytes of
# activations. glibc's defaults give them back to the kernel every time, which
# then clears every page anew: about 100,000 page faults a step. These settings
# keep freed memory in the process. Two arenas: in a single one, which compiling
# has left in pieces, the threads wait for each other, and steps take a third
# longer.
ALLOCATOR = {
  'glibc.malloc.mmap_max': '0',
  'glibc.malloc.trim_threshold': '17179869184',
  'glibc.malloc.arena_max': '2',
}
_MARKER = 'ECGJAX_RESTARTED'


def allocator_tunables(current: str) -> str:
  """`GLIBC_TUNABLES` completed by `ALLOCATOR`; what is there has precedence.

  Args:
    current: the variable's value, e.g. '' or 'glibc.malloc.arena_max=4'.
  """
  present = [item for item in current.split(':') if item]
  names = {item.split('=')[0] for item in present}
  missing = [f'{k}={v}' for k, v in ALLOCATOR.items() if k not in names]
  return ':'.join(present + missing)


def ensure_allocator(
  environ: Mapping[str, str] = os.environ, execute: Callable = os.execve
) -> None:
  """Restarts this process once with the allocator settings, if it lacks them.

  Does nothing unless the process runs on Linux with glibc and no accelerator
  is in use. Says so where the restart is not possible.

  Args:
    environ: the environment of this process.
    execute: replaces the process, like `os.execve`.
  """
  wanted = allocator_tunables(environ.get('GLIBC_TUNABLES', ''))
  if not (_has_glibc() and _computes_on_cpu(environ)):
    return
  if wanted == environ.get('GLIBC_TUNABLES'):
    return
  problem = 'it was restarted already' if _MARKER in environ else None
  if problem is None:
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, *sys.orig_argv[1:]]
    added = {'GLIBC_TUNABLES': wanted, _MARKER: '1'}
    try:
      execute(sys.executable, command, {**environ, **added})
      return
    except OSError as error:
      problem = str(error)
  print(
    f'Training on CPU is slower than it could be ({problem}). Set '
    f'GLIBC_TUNABLES={wanted} before starting Python.',
    file=sys.stderr,
  )


def _has_glibc() -> bool:
  try:
    version = os.confstr('CS_GNU_LIBC_VERSION')
  except (AttributeError, ValueError, OSError):  # another system or C library
    return False
  return bool(version and version.startswith('glibc'))


def _computes_on_cpu(environ: Mapping[str, str]) -> bool:
  platforms = environ.get('JAX_PLATFORMS', '')
  if platforms:
    return platforms.split(',')[0] == 'cpu'
  return not (glob.glob('/dev/nvidia[0-9]*') or glob.glob('/dev/accel*'))
