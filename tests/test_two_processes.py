"""Two processes on one machine are one process: `jax.distributed` on CPU."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]


def start(out, *modes, **variables):
  """Starts one process with one CPU device."""
  environment = os.environ | {
    'XLA_FLAGS': '--xla_force_host_platform_device_count=1',
    'PYTHONPATH': str(ROOT),
    **variables,
  }
  return subprocess.Popen(
    [
      sys.executable,
      str(ROOT / 'tests' / 'two_processes.py'),
      str(out),
      *modes,
    ],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def free_port() -> int:
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    return server.getsockname()[1]


def test_two_processes_are_one(tmp_path):
  """Loss, gradient, queue and the union of the sampler's rows."""
  address = f'127.0.0.1:{free_port()}'
  processes = [
    start(
      tmp_path / f'{number}.npz',
      'pmap',
      'jit',
      ECGJAX_COORDINATOR=address,
      ECGJAX_PROCESSES='2',
      ECGJAX_PROCESS=str(number),
    )
    for number in range(2)
  ]
  processes.append(start(tmp_path / 'alone.npz', 'pmap'))
  try:
    for process in processes:
      output, _ = process.communicate(timeout=300)
      assert process.returncode == 0, output
  finally:
    for process in processes:
      process.kill()
  alone, *two = (
    dict(np.load(tmp_path / f'{name}.npz')) for name in ('alone', 0, 1)
  )
  assert alone['pmap/0/gradient_norm'] > 0.01
  assert (alone['pmap/2/model_state/queue/patient'] >= 0).all()
  expected = alone.pop('pmap/rows')
  for mode in ('pmap', 'jit'):
    rows = [found.pop(f'{mode}/rows') for found in two]
    assert rows[0].shape == (3, 4)
    assert set(rows[0].ravel()) != set(rows[1].ravel())
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), expected)
  for found in two:
    assert len(found) == 2 * len(alone)
    for name, value in found.items():
      one = alone[name.replace('jit/', 'pmap/', 1)]
      np.testing.assert_allclose(value, one, atol=1e-5, rtol=1e-4, err_msg=name)
