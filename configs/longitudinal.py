"""Longitudinal patient contrast on unlabelled ECGs, then a linear probe.

  python -m ecgjax.main --config=configs/longitudinal.py --workdir=runs/long
  python -m ecgjax.main --config=configs/longitudinal.py:dataset=mimic_iv_ecg,\
preset=pod --workdir=...

Arguments: dataset=synthetic|ptbxl|mimic_iv_ecg|code15|wfdb_folder, preset=
  default  two ECGs of each patient, batch 256 (128 patients), one VGG over all
           leads; synthetic ECGs are hardly augmented, and that takes under ten
           minutes on two cores
  pod      global batch 4096, LARS, bfloat16 residual encoder at full width, on
           every host of a TPU pod or GPU cluster (config.distributed)
  pclr     as published: residual encoder, two ECGs, no augmentation, patients
           with one ECG left out (the loss is half of the published one)
  simclr   two augmented copies of one ECG; the patient plays no role
  cmsc     CLOCS: the two halves of one ECG
  3kg      two copies of one ECG, rotated as vectorcardiograms
  smoke    a few steps on the smallest data, under a minute on two cores

Two cores, synthetic ECGs: patients are found by their ECG (recall at 1)
0.535 [0.488, 0.577] of the time, untrained 0.070 [0.049, 0.095]
(results/longitudinal_synthetic.json).
"""

from ecgjax import config as config_lib
from ecgjax.methods.longitudinal import LIGHT_AUGMENTATION


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', preset='default'
  )
  synthetic = choice['dataset'] == 'synthetic'
  config = config_lib.common(choice['dataset'], 'longitudinal')
  config.num_epochs = 20 if synthetic else 100
  config.model.kwargs = {'width': 0.25}
  config.optimizer.name = 'adamw'
  config.optimizer.learning_rate = 3e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_steps = 50
  return config_lib.preset(
    config,
    choice['preset'],
    {
      'default': _default,
      'pod': _pod,
      'pclr': _pclr,
      'simclr': _simclr,
      'cmsc': _cmsc,
      '3kg': _3kg,
      'smoke': _smoke,
    },
  )


def _default(config):
  if config.data.name == 'synthetic':  # most patients have several ECGs
    config.longitudinal.update(LIGHT_AUGMENTATION)


def _pod(config):
  config.distributed = True
  config.parallel = 'jit'
  config.batch_size = 4096
  config.bfloat16 = True
  config.model = {'name': 'resnet1d', 'kwargs': {'width': 1.0}}
  config.optimizer.name = 'lars'
  # 0.3 for every 256 rows, SimCLR's rule.
  config.optimizer.learning_rate = 0.3 * config.batch_size / 256
  config.optimizer.weight_decay = 1e-6
  config.optimizer.warmup_steps = 1000
  config.data.resident = False


def _pclr(config):
  config.model = {'name': 'resnet1d', 'kwargs': {'width': 0.25}}
  config.longitudinal.singletons = 'drop'
  config.longitudinal.augmentation = 'none'


def _simclr(config):
  config.longitudinal.ecgs_per_patient = 1
  config.longitudinal.views = 'augmented'
  config.batch_size = 128  # two views each


def _cmsc(config):
  _simclr(config)
  config.longitudinal.views = 'halves'
  config.longitudinal.loss = 'clocs'
  config.longitudinal.augmentation = 'none'


def _3kg(config):
  _simclr(config)
  config.longitudinal.augmentation = 'rotate_heart'


def _smoke(config):
  config_lib.smoke(config, batch_size=16, num_steps=6)
  config.optimizer.warmup_steps = 2
