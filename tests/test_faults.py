"""Long fault runs: `pytest -m slow`."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from ecgjax import checkpoints

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[1]
KILLS = 15
STEPS = 80
OPTIONS = [
  '--config=configs/lcd.py:preset=smoke',
  f'--config.num_steps={STEPS}',
  '--config.eval_every=4',
]


def start(workdir, data_dir):
  return subprocess.Popen(
    [sys.executable, '-m', 'ecgjax.main', *OPTIONS]
    + [f'--config.data.dir={data_dir}', f'--workdir={workdir}'],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process, code=0):
  _, errors = process.communicate(timeout=600)
  assert process.returncode == code, errors[-3000:]
  return errors


def summary(workdir):
  arrays, _ = checkpoints.load(workdir)
  results = json.loads((workdir / 'results.json').read_text())
  return (
    checkpoints.digest(arrays),
    (workdir / 'metrics.jsonl').read_text(),
    results['arms'],
    results['hashes'],
  )


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, data_dir):
  workdir = tmp_path_factory.mktemp('runs') / 'undisturbed'
  finish(start(workdir, data_dir))
  return workdir


def steps_done(workdir) -> int:
  path = workdir / 'metrics.jsonl'
  return path.read_text().count('\n') if path.is_file() else 0


def test_sigkill_at_random_moments(undisturbed, tmp_path, data_dir):
  rng = random.Random(0)
  workdir = tmp_path / 'killed'
  killed = 0
  for kill in range(KILLS):
    process = start(workdir, data_dir)
    goal = (kill + rng.random()) * STEPS / (KILLS + 1)
    while process.poll() is None and steps_done(workdir) < goal:
      time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed += process.returncode == -signal.SIGKILL
  finish(start(workdir, data_dir))
  assert killed == KILLS
  assert summary(workdir) == summary(undisturbed)


def test_sigterm_exits_resumable(undisturbed, tmp_path, data_dir):
  workdir = tmp_path / 'stopped'
  process = start(workdir, data_dir)
  while steps_done(workdir) < 10:
    time.sleep(0.01)
  process.terminate()
  assert 'resumes' in finish(process, 75)
  finish(start(workdir, data_dir))
  assert summary(workdir) == summary(undisturbed)


def test_damaged_checkpoint_falls_back(undisturbed, tmp_path, data_dir):
  """The newest step is damaged: training continues from the one before."""
  workdir = tmp_path / 'damaged'
  process = start(workdir, data_dir)
  while steps_done(workdir) < 30:
    time.sleep(0.01)
  process.kill()
  process.communicate()
  checkpointer = checkpoints.Checkpointer(workdir / 'checkpoints')
  newest, previous = checkpointer.valid_steps()[:2]
  files = [
    p
    for p in (workdir / 'checkpoints' / str(newest) / 'state').rglob('*')
    if p.is_file() and p.stat().st_size > 1000
  ]
  data = bytearray(files[0].read_bytes())
  data[500] ^= 4
  files[0].write_bytes(data)
  errors = finish(start(workdir, data_dir))
  assert files[0].name in errors and f'at step {previous}' in errors
  assert summary(workdir) == summary(undisturbed)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signal_in_the_evaluation(number, tmp_path, data_dir):
  """One line, 75, and the same command ends the run."""
  workdir = tmp_path / 'run'
  command = [
    sys.executable, '-m', 'ecgjax.main', '--config=tests/tiny_config.py',
    f'--config.data.dir={data_dir}', f'--workdir={workdir}',
  ]  # fmt: skip
  begin = lambda: subprocess.Popen(
    command, cwd=ROOT, stderr=subprocess.PIPE, text=True
  )
  process = begin()
  while not (workdir / 'predictions.npz').exists() and process.poll() is None:
    time.sleep(0.01)
  process.send_signal(number)
  errors = finish(process, 75)
  assert 'Traceback' not in errors
  assert errors.strip().splitlines()[-1].startswith('ecgjax: stopped by a sign')
  assert not (workdir / 'results.json').exists()
  finish(begin())
  assert (workdir / 'results.json').exists()
