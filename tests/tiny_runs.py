"""Checkpoints of small untrained models, for tests of what follows training."""

import jax
import numpy as np
import optax

from configs import lcd as lcd_config
from configs import prior as prior_config
from configs import supervised as supervised_config
from configs import vqvae as vqvae_config
from ecgjax import checkpoints
from ecgjax import config as config_lib
from ecgjax.ecg import leads as leads_lib
from ecgjax.ecg.contract import InputContract
from ecgjax.model import make_method
from ecgjax.training import train_state


def write_lcd(workdir, leads=leads_lib.LCD_LEADS, length=128, **data):
  """A pretraining run at step 1."""
  config = lcd_config.get_config().copy_and_resolve_references()
  config.data.update({'leads': leads, 'length': length, **data})
  config.num_steps = 1
  _save(workdir, config, (), [{}])


def write_classifier(
  workdir,
  class_names,
  leads=('II', 'V1'),
  length=64,
  rate=100.0,
  fingerprint='',
  **supervised,
):
  """A supervised run with two checkpoints, of which the first is the best."""
  config = supervised_config.get_config().copy_and_resolve_references()
  config.data.update({'leads': leads, 'length': length, 'rate': rate})
  config.supervised.update(supervised)
  kwargs = {'width': 8, 'depth': 1, 'heads': 2, 'patch': 16}
  config.model = {'name': 'vit1d', 'kwargs': kwargs}  # compiles fast
  figures = [{config.best_metric: value} for value in (0.7, 0.6)]
  _save(workdir, config, class_names, figures, fingerprint)


def write_codec(workdir, fingerprint, length=64, quantiser='vq', **data):
  """A codec at step 1 that has not learnt, of data with this fingerprint."""
  config = vqvae_config.get_config('preset=smoke').copy_and_resolve_references()
  config.data.update({'length': length, **data})
  config.model.kwargs.update({'width': 8, 'depth': 1, 'dim': 4})
  config.vqvae.update({'size': 16, 'quantiser': quantiser})
  config.num_steps = 1
  _save(workdir, config, (), [{}], fingerprint)


def write_prior(workdir, codec, fingerprint, num_classes, length=64, **data):
  """A prior at step 1 that has not learnt, over the codes of `codec`."""
  config = prior_config.get_config('preset=smoke').copy_and_resolve_references()
  config.data.update({'length': length, **data})
  config.prior.update({'codec': str(codec), 'width': 8, 'heads': 2})
  config.num_steps = 1
  _save(workdir, config, (), [{}], fingerprint, num_classes)


def _save(workdir, config, class_names, figures, fingerprint='', num_classes=0):
  """Saves one checkpoint per dict of figures, as `train.train` does."""
  contract = InputContract.from_config(config)
  example = {
    'ecg': np.zeros((1, contract.length, len(contract.leads)), np.float32),
    'label': np.zeros((1, num_classes or len(class_names)), np.float32),
  }
  method = make_method(config)
  state = jax.jit(
    lambda: train_state.create_train_state(
      method, optax.identity(), config.seed, example
    )
  )()
  saver = checkpoints.Checkpointer(workdir / 'checkpoints')
  metadata = {
    'config': config_lib.to_json(config),
    'contract': contract.to_json(),
    'class_names': list(class_names),
    'num_labels': example['label'].shape[-1],
    'fingerprint': fingerprint,
  }
  for step, metrics in enumerate(figures, 1):
    saver.save(state.replace(step=np.int32(step)), metadata, metrics)
