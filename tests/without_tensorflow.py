"""Imports every module and trains a step where there is no TensorFlow.

`python without_tensorflow.py WORKDIR MODULE ...`; the modules named are left
out. Needs `configs` beside it or on the path, and `ecgjax` as it is installed.
"""

import importlib
import pathlib
import sys

sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None

import numpy as np  # noqa: E402

import ecgjax  # noqa: E402
from configs import lcd  # noqa: E402


def import_everything(skip: list[str]) -> int:
  """Returns the number of modules that were imported."""
  root = pathlib.Path(ecgjax.__file__).parent
  names = [
    '.'.join(path.relative_to(root.parent).with_suffix('').parts)
    for path in sorted(root.rglob('*.py'))
  ]
  names = [name.removesuffix('.__init__') for name in names]
  assert set(skip) < set(names), set(skip) - set(names)
  for name in set(names) - set(skip):
    importlib.import_module(name)
  for file in ('py.typed', 'report/page.html', 'data/snomed_codes.csv'):
    assert (root / file).is_file(), f'{file} is not installed'
  return len(set(names) - set(skip))


def train_a_step(workdir: str) -> None:
  from ecgjax import train
  from ecgjax.models import vgg1d

  vgg1d.STAGES = ((64, 1), (512, 1))  # compiles fast
  config = lcd.get_config('preset=smoke').copy_and_resolve_references()
  config.data.leads, config.data.length = ('II', 'V1'), 64
  config.batch_size, config.num_steps, config.best_metric = 4, 1, 'train_loss'

  def batches(start):
    del start
    while True:
      yield {'ecg': np.random.default_rng(0).normal(size=(4, 64, 2))}

  trained = train.train(config, workdir, batches)
  assert int(trained.state.step) == 1


if __name__ == '__main__':
  number = import_everything(sys.argv[2:])
  train_a_step(sys.argv[1])
  print(f'{number} modules of {ecgjax.__file__}: trained without TensorFlow')
