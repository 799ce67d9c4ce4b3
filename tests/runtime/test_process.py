import os
import signal
import subprocess
import sys

import pytest

from ecgjax.runtime import process as process_lib

SCRIPT = """
import os, sys
from ecgjax.runtime import process as process_env
print('start', os.getpid())
process_env.ensure_allocator()
print('run', os.getpid(), os.environ['GLIBC_TUNABLES'], *sys.argv[1:])
"""

needs_glibc = pytest.mark.skipif(
  not process_lib._has_glibc(), reason='needs glibc'
)


def test_tunables_are_completed_and_never_overridden():
  ours = process_lib.allocator_tunables('')
  assert ours.split(':') == [
    'glibc.malloc.mmap_max=0',
    'glibc.malloc.trim_threshold=17179869184',
    'glibc.malloc.top_pad=67108864',
    'glibc.malloc.hugetlb=1',
  ]
  assert process_lib.allocator_tunables(ours) == ours
  mixed = process_lib.allocator_tunables(
    'glibc.malloc.hugetlb=0:glibc.rtld.nns=5'
  )
  assert mixed.split(':') == [
    'glibc.malloc.hugetlb=0',
    'glibc.rtld.nns=5',
    'glibc.malloc.mmap_max=0',
    'glibc.malloc.trim_threshold=17179869184',
    'glibc.malloc.top_pad=67108864',
  ]


@needs_glibc
def test_restarts_once_with_the_same_process_id_and_arguments(tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(SCRIPT)
  root = os.path.dirname(os.path.dirname(process_lib.__file__))
  environ = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  done = subprocess.run(
    [sys.executable, '-W', 'error', script, '--flag=a b', '-x'],
    env=environ | {'PYTHONPATH': root, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  first, again, last = done.stdout.splitlines()
  assert first == again  # exec keeps the process id
  expected = process_lib.allocator_tunables('')
  assert last == f'run {first.split()[1]} {expected} --flag=a b -x'
  assert not done.stderr


@needs_glibc
def test_says_so_when_it_cannot_restart(capsys):
  def refuse(*_):
    raise PermissionError('not allowed here')

  process_lib.ensure_allocator({'JAX_PLATFORMS': 'cpu'}, refuse)
  assert 'not allowed here' in (message := capsys.readouterr().err)
  assert f'GLIBC_TUNABLES={process_lib.allocator_tunables("")}' in message

  def unreachable(*_):
    raise AssertionError('restarted twice')

  marked = {'JAX_PLATFORMS': 'cpu', 'ECGJAX_RESTARTED': '1'}
  process_lib.ensure_allocator(marked, unreachable)
  assert 'restarted already' in capsys.readouterr().err


def test_leaves_accelerators_and_prepared_processes_alone(capsys):
  def unreachable(*_):
    raise AssertionError('restarted')

  done = process_lib.allocator_tunables('')
  for environ in (
    {'JAX_PLATFORMS': 'cuda,cpu'},
    {'JAX_PLATFORMS': 'cpu', 'GLIBC_TUNABLES': done},
  ):
    process_lib.ensure_allocator(environ, unreachable)
  assert not capsys.readouterr().err


READY = """
import sys
import jax
from ecgjax.runtime import process as process_env

if sys.argv[1:] == ['asked']:
  process_env.compute_in_calling_thread()
x = jax.numpy.ones((2000, 2000)).block_until_ready()
print(jax.jit(lambda x: x @ x @ x @ x)(x).is_ready())
"""


@pytest.mark.parametrize(
  'arguments, expected', [(['asked'], 'True'), ([], 'False')]
)
def test_the_calling_thread_computes_if_asked(arguments, expected):
  done = subprocess.run(
    [sys.executable, '-c', READY, *arguments],
    env=os.environ | {'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == expected


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_importing_is_one_line(number, tmp_path):
  """The command has imported next to nothing when it can be stopped."""
  with subprocess.Popen(
    [
      sys.executable, '-X', 'importtime', '-m', 'ecgjax.main',
      '--config=configs/lcd.py:preset=smoke', f'--workdir={tmp_path / "run"}',
    ],
    env={**os.environ, 'PYTHONPATH': os.getcwd(), 'JAX_PLATFORMS': 'cpu'},
    stderr=subprocess.PIPE,
    text=True,
  ) as process:  # fmt: skip
    for line in process.stderr:
      if line.rstrip().endswith(' numpy'):
        break
    process.send_signal(number)
    lines = [x for x in process.stderr if not x.startswith('import time:')]
  assert process.wait() == 75, lines
  assert lines == ['ecgjax: stopped by a signal; the same command resumes\n']
  assert not (tmp_path / 'run').exists()
