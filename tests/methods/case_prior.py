"""The prior over codes, for `test_every_method.py`."""

import numpy as np
from test_prior_wiring import LENGTH

from configs import prior as prior_config
from tests import tiny_runs


def make_config(folder):
  codec = folder / 'codec'
  if not codec.exists():
    tiny_runs.write_codec(codec, 'data', LENGTH)
  config = prior_config.get_config('preset=smoke').copy_and_resolve_references()
  config.data.length = LENGTH
  config.prior.update(
    codec=str(codec), width=8, depth=2, heads=2, class_dropout=0.4
  )
  return config


def make_batch(seed):
  rng = np.random.default_rng(seed)
  return {
    'ecg': np.float32(0.2 * rng.normal(size=(8, LENGTH, 8)).cumsum(axis=1)),
    'label': np.float32(rng.random((8, 3)) < 0.5),
    'mask': np.float32([1, 1, 1, 1, 1, 1, 1, 0]),
  }


CHANGES = {'class_dropout': {'class_dropout': 0.9}}
NO_EFFECT = {'codec': 'the run of the frozen codec, not a setting'}
