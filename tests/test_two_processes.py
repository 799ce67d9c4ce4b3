"""Two processes on one machine are one process: `jax.distributed` on CPU."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import two_processes

from ecgjax import checkpoints
from ecgjax.models import resnet1d
from ecgjax.runtime import parallel

ROOT = pathlib.Path(__file__).parents[1]
LONG = '--config.num_steps=400', '--config.eval_every=40'


@pytest.fixture(scope='module')
def expected():
  """What one process (with four devices) plans and learns."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(resnet1d, 'UNITS', ())
    return two_processes.run('pmap')


def start(command, devices=1, **variables):
  """Starts one process with some devices."""
  flags = os.environ['XLA_FLAGS'].replace('count=4', f'count={devices}')
  return subprocess.Popen(
    [sys.executable, *map(str, command)],
    cwd=ROOT,
    env=os.environ
    | {'XLA_FLAGS': flags, 'PYTHONPATH': str(ROOT)}
    | {name: str(value) for name, value in variables.items()},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def start_two(commands):
  """Starts two processes with one device each, that know of each other."""
  address = f'127.0.0.1:{free_port()}'
  return [
    start(
      command,
      ECGJAX_COORDINATOR=address,
      ECGJAX_PROCESSES=2,
      ECGJAX_PROCESS=number,
    )
    for number, command in enumerate(commands)
  ]


def finish(processes, code=0):
  """Waits for all of them; returns what they have printed."""
  printed = []
  try:
    for process in processes:
      printed.append(process.communicate(timeout=900)[0])
  finally:
    for process in processes:
      process.kill()
      process.wait()
  codes = [process.returncode for process in processes]
  assert codes == [code] * len(codes), '\n'.join(printed)
  return printed


def free_port() -> int:
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    return server.getsockname()[1]


@pytest.mark.parametrize(
  'mode', ['pmap', pytest.param('jit', marks=pytest.mark.slow)]
)
def test_two_processes_are_one(mode, expected, tmp_path):
  """Loss, gradient, queue and the union of the sampler's rows."""
  outs = [tmp_path / f'{number}.npz' for number in range(2)]
  script = ROOT / 'tests' / 'two_processes.py'
  finish(start_two([(script, out, mode) for out in outs]))
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


def command(workdir, data_dir, *options):
  """The command of the README with a config of seconds."""
  return [
    '-m', 'ecgjax.main', '--config=tests/tiny_config.py',
    f'--workdir={workdir}', f'--config.data.dir={data_dir}', *options,
  ]  # fmt: skip


def run_two(workdir, data_dir, *options):
  options = '--config.distributed=True', *options
  return start_two([command(workdir, data_dir, *options)] * 2)


def left_behind(workdir) -> dict:
  """All that a run leaves, but for times and the field `distributed`."""
  arrays, metadata = checkpoints.load(workdir)
  results = json.loads((workdir / 'results.json').read_text())
  for name in ('wall_seconds', 'examples_per_second'):
    del results[name]
  for config in (results['config'], metadata['config']):
    del config['distributed']
  return {
    'arrays': checkpoints.digest(arrays),
    'metadata': metadata,
    'steps': checkpoints.Checkpointer(workdir / 'checkpoints').steps(),
    'metrics': (workdir / 'metrics.jsonl').read_bytes(),
    'results': results,
  }


def rows(workdir) -> int:
  path = workdir / 'metrics.jsonl'
  return path.read_text().count('\n') if path.is_file() else 0


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


def test_command_on_two_processes(tmp_path, data_dir):
  """Trains, saves and evaluates; the first says so."""
  printed = finish(run_two(tmp_path / 'run', data_dir))
  assert 'Report:' in printed[0] and 'Report:' not in printed[1]
  assert left_behind(tmp_path / 'run')['steps'][0] == 12


@pytest.mark.slow
@pytest.mark.parametrize('mode', parallel.MODES)
def test_two_processes_leave_the_bytes_of_one(mode, tmp_path, data_dir):
  """With early stopping, on which the first decides."""
  option = f'--config.parallel={mode}'
  finish(run_two(tmp_path / 'two', data_dir, option))
  finish([start(command(tmp_path / 'one', data_dir, option), devices=2)])
  assert left_behind(tmp_path / 'two') == left_behind(tmp_path / 'one')


@pytest.mark.slow
@pytest.mark.parametrize('mode', parallel.MODES)
@pytest.mark.parametrize(
  'number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
)
def test_killed_or_stopped_pair_resumes(mode, number, tmp_path, data_dir):
  """SIGKILL to both; SIGTERM or Ctrl-C to one stops both at the same step."""
  workdir = tmp_path / 'run'
  options = f'--config.parallel={mode}', '--config.patience=0', *LONG
  pair = run_two(workdir, data_dir, *options)
  while rows(workdir) < 45 and pair[0].poll() is None:
    time.sleep(0.01)
  for process in pair if number == signal.SIGKILL else pair[1:]:
    process.send_signal(number)
  if number == signal.SIGKILL:
    finish(pair, -signal.SIGKILL)
  else:
    lines = [text.strip().splitlines()[-1] for text in finish(pair, 75)]
    assert lines[0] == lines[1]
    assert 'stopped by a signal at step' in lines[0]
  printed = finish(run_two(workdir, data_dir, *options))
  assert 'Resumed' in printed[0]
  alone = tmp_path / 'alone'
  finish([start(command(alone, data_dir, *options), devices=2)])
  assert left_behind(workdir) == left_behind(alone)


@pytest.mark.slow
def test_mistake_of_one_process_ends_both(tmp_path, data_dir):
  """One line and exit code 2, though only the second finds it wrong."""
  stranger = tmp_path / 'stranger'
  stranger.mkdir()
  (stranger / 'thesis.txt').write_text('precious')
  commands = [
    command(folder, data_dir, '--config.distributed=True')
    for folder in (tmp_path / 'run', stranger)
  ]
  for printed in finish(start_two(commands), 2):
    last = printed.strip().splitlines()[-1]
    assert 'stranger exists and is not the work folder' in last


def test_other_modes_run_in_one_process(tmp_path):
  options = [
    '-m', 'ecgjax.main', '--config=configs/study_label_efficiency.py',
    f'--workdir={tmp_path / "run"}', '--config.distributed=True',
  ]  # fmt: skip
  (printed,) = finish([start(options)], 2)
  assert '--mode=study runs in one process' in printed
  assert len(printed.strip().splitlines()) == 1


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
