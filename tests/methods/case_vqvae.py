"""The codec, for `test_every_method.py`."""

from test_vqvae import make_batch as _make_batch
from test_vqvae import make_config as _make_config


def make_config(folder):
  del folder
  config = _make_config('rvq', stages=2, restart_threshold=0.5)
  return config


def make_batch(seed):
  return _make_batch(seed)


CHANGES = {
  'quantiser': {'levels': (3, 3, 3, 3), 'quantiser': 'fsq'},
  'levels': {'quantiser': 'fsq', 'levels': (3, 3, 3, 3)},
  'restart_until': {'restart_until': 0.0},
}
NO_EFFECT = {
  'judge': 'an encoder that judges reconstructions after training',
}
ROUNDS = 3  # start from data, a plain step, a restart
