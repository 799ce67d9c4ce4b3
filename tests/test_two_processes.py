"""Two processes on one machine are one process: `jax.distributed` on CPU."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import two_processes

from ecgjax.models import resnet1d
from ecgjax.training import parallel

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def expected():
  """What one process (with four devices) plans and learns."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(resnet1d, 'UNITS', ())
    return two_processes.run('pmap')


def start(out, mode, number, address):
  """Starts one of two processes, with one device each."""
  script = str(ROOT / 'tests' / 'two_processes.py')
  return subprocess.Popen(
    [sys.executable, script, str(out), mode],
    env=os.environ
    | {
      'XLA_FLAGS': os.environ['XLA_FLAGS'].replace('count=4', 'count=1'),
      'PYTHONPATH': str(ROOT),
      'ECGJAX_COORDINATOR': address,
      'ECGJAX_PROCESSES': '2',
      'ECGJAX_PROCESS': str(number),
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def free_port() -> int:
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    return server.getsockname()[1]


@pytest.mark.parametrize(
  'mode', ['pmap', pytest.param('jit', marks=pytest.mark.slow)]
)
def test_two_processes_are_one(mode, expected, tmp_path):
  """Loss, gradient, queue and the union of the sampler's rows."""
  address = f'127.0.0.1:{free_port()}'
  outs = [tmp_path / f'{number}.npz' for number in range(2)]
  processes = [
    start(out, mode, number, address) for number, out in enumerate(outs)
  ]
  try:
    for process in processes:
      output, _ = process.communicate(timeout=900)
      assert process.returncode == 0, output
  finally:
    for process in processes:
      process.kill()
      process.wait()
  two = [dict(np.load(out)) for out in outs]
  assert expected['0/gradient_norm'] > 0.01
  assert (expected['2/model_state/queue/patient'] >= 0).all()
  rows = [found.pop('rows') for found in two]
  assert rows[0].shape == (3, 4)
  assert set(rows[0].ravel()) != set(rows[1].ravel())
  np.testing.assert_array_equal(np.concatenate(rows, axis=1), expected['rows'])
  for found in two:
    assert {*found, 'rows'} == expected.keys()
    for name, value in found.items():
      np.testing.assert_allclose(
        value, expected[name], atol=1e-5, rtol=1e-4, err_msg=name
      )


@pytest.mark.parametrize(
  ('count', 'index', 'message'),
  [
    ('2', '', "ECGJAX_PROCESS is ''"),
    ('two', '0', "ECGJAX_PROCESSES is 'two'"),
    ('2', '2', 'ECGJAX_PROCESS is 2; the 2 processes'),
  ],
)
def test_wrong_variables_are_named(count, index, message, monkeypatch):
  monkeypatch.setenv('ECGJAX_COORDINATOR', '127.0.0.1:1')
  monkeypatch.setenv('ECGJAX_PROCESSES', count)
  monkeypatch.setenv('ECGJAX_PROCESS', index)
  with pytest.raises(ValueError, match=message):
    parallel.initialise_distributed()
