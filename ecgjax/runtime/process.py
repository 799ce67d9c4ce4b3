"""Settings of the process that must exist before JAX is used.

Kept free of heavy imports: `main.py` calls `ensure_allocator` before it
imports JAX, and `compute_in_calling_thread` before it uses JAX.
"""

import glob
import os
import signal
import sys
from collections.abc import Callable, Mapping

# A training step on CPU frees and allocates hundreds of megabytes of
# activations. glibc's defaults give them back to the kernel every time, which
# then clears every page anew: about 100,000 page faults a step. These settings
# keep freed memory in the process, on huge pages where the kernel has them
# (glibc 2.35 or newer; older ones ignore it). Only the main thread's arena can
# keep blocks of 64 MB and more: see `compute_in_calling_thread`. The other
# threads keep arenas of their own: compiling would otherwise fragment the main
# one, and all threads would wait for its lock.
ALLOCATOR = {
  'glibc.malloc.mmap_max': '0',
  'glibc.malloc.trim_threshold': '17179869184',
  'glibc.malloc.top_pad': '67108864',  # all that another arena takes at once
  'glibc.malloc.hugetlb': '1',
}
_MARKER = 'ECGJAX_RESTARTED'
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def allocator_tunables(current: str) -> str:
  """Returns `GLIBC_TUNABLES` with `ALLOCATOR` added; what is there stays.

  Args:
    current: the variable's value, e.g. '' or 'glibc.malloc.hugetlb=0'.
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


def stop_on_signals(code: int) -> None:
  """Makes SIGTERM and Ctrl-C end this process with one line and this code.

  At once, for an exception in the wrong place (a C++ library being imported)
  aborts the process; whatever is killed resumes, and the next data set build
  removes what one has left. Who can do better, as the training loop, takes the
  signals over meanwhile.
  """

  def stop(signum, frame):
    del signum, frame
    os.write(2, b'ecgjax: stopped by a signal; the same command resumes\n')
    os._exit(code)

  for number in _SIGNALS:
    signal.signal(number, stop)


def compute_in_calling_thread() -> None:
  """Lets the calling thread run what JAX computes on one CPU device.

  Otherwise a thread of JAX's own does, and allocates the step's temporary
  memory, one block of hundreds of megabytes that its arena can't keep. Programs
  for accelerators and for several devices are dispatched as before.
  """
  import jax

  jax.config.update('jax_cpu_enable_async_dispatch', False)


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
