"""The command line as a user meets it, mistakes included."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LCD = '--config=configs/lcd.py:preset=smoke'
SHORT = ['--config.data.length=256', '--config.num_steps=2']


def run(*arguments, timeout=900):
  return subprocess.run(
    [sys.executable, '-m', 'ecgjax.main', *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=timeout,
  )


@pytest.mark.parametrize(
  'arguments, words',
  [
    ([LCD, '--config.data.lenght=1000'], ['length', 'lenght']),
    ([LCD, '--config.data={"dir": "x"}'], ['group of fields']),
    ([LCD, '--config.seed=abc'], ['seed', 'abc']),
    (['--config=configs/nothing.py'], ['configs/nothing.py']),
    (['--config=configs/lcd.py:dataset=foo'], ['dataset', 'ptbxl']),
    (['--config=configs/lcd.py:presett=smoke'], ['key=value', 'preset']),
    ([LCD, '--mode=fly'], ['mode', 'train']),
    ([LCD, '--mode=study'], ['--mode=train']),
    ([LCD, '--config.optimizer.learning_rate=nan'], ['learning_rate', 'nan']),
    (['--config=configs/supervised.py:preset=probe'], ['init_from', 'frozen']),
    ([LCD, '--config.lcd.lead_pair=all'], ['lcd.lead_pair', 'per_step, per_']),
    ([LCD, 'surplus'], ['surplus']),
  ],
  ids=lambda a: a[-1] if isinstance(a, list) else '',
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path, arguments, words):
  workdir = tmp_path / 'run'
  done = run(*arguments, f'--workdir={workdir}')
  assert done.returncode == 2
  lines = done.stderr.strip().splitlines()
  assert len(lines) == 1 and lines[0].startswith('ecgjax: '), done.stderr
  assert all(word in lines[0] for word in words)
  assert not workdir.exists()


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module')
def finished(tmp_path_factory, data_dir):
  """A real run on the smallest synthetic data set, built on first use."""
  workdir = tmp_path_factory.mktemp('runs') / 'lcd'
  done = run(
    LCD, *SHORT, f'--config.data.dir={data_dir}', f'--workdir={workdir}'
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return workdir, done


def test_run_leaves_what_is_promised(finished):
  workdir, done = finished
  names = {path.name for path in workdir.iterdir()}
  assert names >= {
    'config.json', 'metrics.jsonl', 'checkpoints', 'results.json', 'report.html'
  }  # fmt: skip
  results = json.loads((workdir / 'results.json').read_text())
  assert set(results['arms']) == {'random_probe', 'probe'}
  assert results['synthetic'] is True
  assert set(results['hashes']) == {'split', 'manifest', 'checkpoint'}
  value, (low, high) = (
    results['metrics']['macro_auroc_all'][k] for k in ('value', 'ci95')
  )
  assert 0 <= low <= value <= high <= 1
  assert 'probe-random_probe' in results['differences']
  assert 'SYNTHETIC' in done.stderr
  html = (workdir / 'report.html').read_text()
  assert 'ynthetic' in html and 'src="http' not in html
  assert 'Traceback' not in done.stderr and 'Warning' not in done.stderr


def test_finished_run_says_so(finished, data_dir):
  workdir, _ = finished
  before = (workdir / 'results.json').read_bytes()
  done = run(
    LCD, *SHORT, f'--config.data.dir={data_dir}', f'--workdir={workdir}'
  )
  assert done.returncode == 0
  assert 'is finished' in done.stderr
  assert (workdir / 'results.json').read_bytes() == before


def test_foreign_workdir_is_refused(finished, data_dir, tmp_path):
  workdir, _ = finished
  done = run(
    LCD,
    *SHORT,
    f'--config.data.dir={data_dir}',
    '--config.seed=1',
    f'--workdir={workdir}',
  )
  assert done.returncode == 2
  assert 'seed is 0 there, 1 here' in done.stderr
  (tmp_path / 'thesis.txt').write_text('precious')
  done = run(LCD, f'--workdir={tmp_path}')
  assert done.returncode == 2
  assert 'not the work folder of a run' in done.stderr
