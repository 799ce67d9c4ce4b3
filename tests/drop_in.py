"""`python drop_in.py FOLDER`: a run of nothing but what was dropped in.

The rooms of the package get the folders of `tests/dropped` as well: one file
each of a method, an encoder, a data set and an evaluator, and no other edit.
"""

import importlib
import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
for room in (HERE / 'dropped').iterdir():
  if room.is_dir() and room.name != '__pycache__':
    package = importlib.import_module(f'ecgjax.{room.name}')
    package.__path__.append(str(room))

from ecgjax import config as config_lib  # noqa: E402
from ecgjax import evaluate, train  # noqa: E402
from ecgjax.config import check  # noqa: E402
from ecgjax.data import prepare  # noqa: E402
from tests.simulator import simulated  # noqa: E402

PATIENTS = 48


def write_recordings(folder: pathlib.Path) -> None:
  names = np.tile(['NORM', 'NORM', 'NORM', 'AF', 'AF', 'AF'], PATIENTS // 6)
  ecg = simulated.simulate(names, np.arange(PATIENTS), 0, rate=100, noise=1.0)[
    0
  ]
  folder.mkdir()
  for patient, (name, one) in enumerate(zip(names, np.asarray(ecg))):
    np.save(folder / f'{patient}-{name}.npy', one)


def make_config(folder: pathlib.Path, mode: str):
  config = config_lib.common('synthetic', 'leadwise_energy')
  config.mode = mode
  config.data.update(
    name='npy_folder', dir=str(folder / 'data'), size='', length=1000
  )
  config.model = {'name': 'patch_mean', 'kwargs': {'width': 4}}
  config.leadwise_energy.scale = 2.0
  config.evaluators = ('feature_norm',)
  config.update(batch_size=8, num_steps=3, bootstrap_draws=100)
  if mode == 'eval':
    config.init_from = str(folder / 'run')
    config.evaluation = config_lib.options('evaluation')
  check.check(config, mode)
  return config


def main(folder: pathlib.Path) -> None:
  write_recordings(folder / 'raw')
  flags = ['--dataset=npy_folder', f'--raw_dir={folder / "raw"}']
  assert prepare.main([*flags, f'--data_dir={folder / "data"}']) == 0
  train.train_and_evaluate(make_config(folder, 'train'), folder / 'run')
  results = json.loads((folder / 'run' / 'results.json').read_text())
  evaluate.evaluate_checkpoint(make_config(folder, 'eval'), folder / 'again')
  again = json.loads((folder / 'again' / 'eval_npy_folder.json').read_text())
  norms = [r['metrics']['feature_norm']['value'] for r in (results, again)]
  assert norms[0] == norms[1] > 0, norms
  print('4 dropped in, 0 other edits')


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
