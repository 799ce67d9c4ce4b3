"""Classifiers, for `test_every_method.py`."""

import numpy as np

from configs import supervised as supervised_config
from ecgjax.ecg import leads


def make_config(folder):
  del folder
  config = supervised_config.get_config('model=vgg1d,dataset=ptbxl')
  config = config.copy_and_resolve_references()
  config.data.leads = leads.INDEPENDENT_LEADS
  config.data.length = 64
  config.supervised.update(branches='untied', mixup=0.4, label_smoothing=0.1)
  return config


def make_batch(seed):
  rng = np.random.default_rng(seed)
  mask = np.ones((8, 3), np.float32)
  mask[1, 0] = 0
  return {
    'ecg': rng.normal(size=(8, 64, 8)).astype(np.float32),
    'label': np.eye(3, dtype=np.float32)[rng.integers(0, 3, 8)],
    'label_mask': mask,
  }


CHANGES = {
  'task': {'task': 'single_label'},
  'branches': {'branches': 'tied'},
  'pool': {'pool': 'mean'},
  'class_weights': {'class_weights': (1.0, 2.0, 0.5)},
  'augment': {'augment': 'classical'},
  'mixup': {'mixup': 0.0},
}
NO_EFFECT = {
  'balance_classes': 'makes class_weights of the data, before the method',
}
FROZEN = {'frozen_encoder': True}, 'encoder'
TOLERANCE = {'rtol': 1e-4, 'atol': 1e-6}
