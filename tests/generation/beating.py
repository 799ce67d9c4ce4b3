"""A small data set of made-up ECGs with beats, and configs to add to it.

Everything follows from the number of a record: rhythm, a shape per patient,
labels. Four seconds at 100 Hz; two records per patient.
"""

import hashlib

import numpy as np
import pytest

from configs import augment as augment_config
from ecgjax.data.batches import run_data
from tests.data import tiny_dataset

LENGTH, RATE = 400, 100.0
NUM_TRAIN = 32
NAMES = ('NORM', 'LBBB', 'AF', 'LVH')
SETS = ((0,), (0,), (1,), (1, 3), (2,), (0,), (1,), (1, 2))  # by record


def make_example(number: int, **changes) -> dict:
  """Record `number` of patient `number // 2`."""
  rng = np.random.Generator(np.random.Philox(number))
  shape = np.random.Generator(np.random.Philox(1000 + number // 2))
  time = np.arange(LENGTH)[:, None]
  rr = rng.uniform(65, 85)
  ecg = np.zeros((LENGTH, 12))
  height = shape.uniform(0.5, 1.5, 12)
  for beat in np.arange(rng.uniform(20, 60), LENGTH, rr):
    ecg += height * np.exp(-(((time - beat) / 2) ** 2))
    ecg += 0.2 * height * np.exp(-(((time - beat - 25) / 8) ** 2))
  ecg += 0.005 * rng.normal(size=ecg.shape)
  stored = np.rint(1000 * ecg).astype(np.int16)
  labels = np.zeros(len(NAMES), np.uint8)
  labels[list(SETS[number % len(SETS)])] = 1
  return (
    tiny_dataset.make_example(number)
    | {
      'ecg': stored,
      'gain': np.full(12, 1000, np.float32),
      'baseline': np.zeros(12, np.float32),
      'valid_len': LENGTH,
      'labels': labels,
      'label_mask': np.ones(len(NAMES), np.uint8),
      'content_hash': hashlib.sha256(stored.tobytes()).hexdigest(),
    }
    | changes
  )


def write(directory, train, validation=range(200, 208), test=range(300, 308)):
  """The builder of a data set with these records."""
  splits = {'train': train, 'validation': validation, 'test': test}
  return tiny_dataset.write(
    directory / 'tiny' / '1.0.0',
    {
      name: [x if isinstance(x, dict) else make_example(x) for x in part]
      for name, part in splits.items()
    },
    num_shards=2,
    label_names=NAMES,
    length=LENGTH,
  )


def make_config(operator='input_smote', seed=0, **options):
  config = augment_config.get_config(f'operator={operator}')
  config = config.copy_and_resolve_references()
  config.seed = seed
  config.data.length = LENGTH
  options = {'ratio': 2.0, 'gallery': 1} | options
  config.augment.update(options)
  return config.lock()


def open_data(builder, records=None, data_config=None):
  """`run_data.open_data` of a data set that is no registered one."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(run_data.prepared, 'open_builder', lambda *_: builder)
    config = data_config or augment_config.get_config()
    config = config.copy_and_resolve_references().unlock()
    config.data.length = LENGTH
    config.data.allow_leak = True
    return run_data.open_data(config.data, records)
