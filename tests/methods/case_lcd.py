"""LCD, for `test_every_method.py`."""

from test_lcd import make_config as _make_config
from test_lcd import random_batch


def make_config(folder):
  del folder
  config = _make_config(gamma=0.05, tau=0.9)
  config.batch_size = 12  # a batch has eight rows, as the last of an epoch may
  return config


def make_batch(seed):
  return random_batch(seed=seed)


CHANGES = {
  'parity': {'parity': True},
  'lead_pair': {'lead_pair': 'per_sample'},
  'resample': {'resample': 'linear'},
  'cov_divisor': {'cov_divisor': 'nominal'},
  'cov_on_diagonal': {'cov_divisor': 'nominal', 'cov_on_diagonal': True},
  'tau_schedule': {'tau_schedule': 'cosine'},
}
NO_EFFECT = {}
TOLERANCE = {'rtol': 1e-3, 'atol': 1e-4}  # three steps of float32 parts
