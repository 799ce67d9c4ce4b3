"""Every preset `smoke` from the command line to its results: `-m slow`."""

import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[1]


def run(workdir, data_dir, config, *fields, result='results.json'):
  """Runs a config unless its result is there; the mode is the config's."""
  if not (workdir / result).is_file():
    done = subprocess.run(
      [sys.executable, '-m', 'ecgjax.main', f'--config=configs/{config}']
      + [f'--config.data.dir={data_dir}', f'--workdir={workdir}', *fields],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'Traceback' not in done.stderr and 'Warning' not in done.stderr
  assert (workdir / result).is_file()
  return workdir


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  return tmp_path_factory.mktemp('runs')


@pytest.mark.parametrize(
  'config',
  [
    'lcd.py:preset=smoke',
    'longitudinal.py:preset=smoke',
    'supervised.py:preset=smoke',
    'supervised.py:model=xresnet1d,preset=smoke',
    'supervised.py:model=vit1d,preset=smoke',
    'vqvae.py:preset=smoke',
    'vqvae.py:modality=image,preset=smoke',
    'study_label_efficiency.py:preset=smoke',
    'study_small_samples.py:preset=smoke',
    'study_augmentation.py:preset=smoke',
  ],
)
def test_smoke_presets_run(runs, synthetic_dir, config):
  run(runs / config.replace(':', '-'), synthetic_dir, config)


def test_what_follows_another_run(runs, synthetic_dir):
  """Prior, generated ECGs, the probe, pretraining that goes on, evaluation."""
  first = {}
  for name in ('lcd', 'longitudinal', 'vqvae'):
    config = f'{name}.py:preset=smoke'
    folder = runs / config.replace(':', '-')
    first[name] = run(folder, synthetic_dir, config)
  codec = first['vqvae']
  run(
    runs / 'prior', synthetic_dir, 'prior.py:preset=smoke',
    f'--config.prior.codec={codec}',
  )  # fmt: skip
  run(
    runs / 'generated', synthetic_dir, 'ecg/augment.py:preset=smoke',
    f'--config.augment.codec={codec}', '--config.augment.least_changed=0.0',
    result='generated.json',
  )  # fmt: skip
  for name, folder in first.items():
    run(
      runs / f'{name}-goes-on', synthetic_dir, f'{name}.py:preset=smoke',
      f'--config.init_from={folder}',
    )  # fmt: skip
  lcd = f'--config.init_from={first["lcd"]}'
  small = ('--config.data.size=tiny', '--config.bootstrap_draws=1000')
  run(
    runs / 'probe', synthetic_dir, 'supervised.py:preset=probe', lcd,
    '--config.batch_size=16', '--config.num_steps=2', *small,
  )  # fmt: skip
  run(
    runs / 'evaluation', synthetic_dir, 'evaluate.py', lcd, *small,
    result='eval_synthetic.json',
  )  # fmt: skip
