"""Training or fine-tuning a classifier on labelled ECGs.

  python -m ecgjax.main --config=configs/supervised.py --workdir=runs/scratch
  python -m ecgjax.main --config=configs/supervised.py \\
    --config.init_from=runs/lcd --workdir=runs/finetuned

Without `init_from` the encoder starts at random. Your own recordings:
dataset=wfdb_folder with --config.data.raw_dir and --config.data.labels_csv.

Arguments: dataset=synthetic|ptbxl|cinc2021|wfdb_folder,
  model=vgg1d|xresnet1d|vit1d, preset=
  default  early stopping on the validation macro AUROC
  probe    the encoder of init_from, which it needs, stays as it is; a linear
           layer learns
  parity   as LCD's reference code fine-tunes: softmax over records with one
           label, Adam 1e-4, batch 128, of 100 epochs the one with the lowest
           validation loss, no early stopping, encoder of configs/lcd.py at
           preset=parity. Deviations: the validation loss is the mean over the
           records (there of batch means), running variances are the biased
           ones, and all labels are used (there 10 %, drawn without a seed)
  smoke    a few steps on the smallest data
"""

from ecgjax import config as config_lib
from ecgjax.ecg import leads
from ecgjax.runtime.resolve import choose


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', model='vgg1d', preset='default'
  )
  config = config_lib.common(choice['dataset'], 'supervised')
  config.num_epochs = 30
  config.patience = 4  # evaluations, ten of them a run
  config.optimizer.learning_rate = 1e-3
  choose(
    'model',
    choice['model'],
    {'vgg1d': _vgg1d, 'xresnet1d': _xresnet1d, 'vit1d': _vit1d},
  )(config)
  return config_lib.preset(
    config,
    choice['preset'],
    {'probe': _probe, 'parity': _parity, 'smoke': _smoke},
  )


def _vgg1d(config):
  del config  # the default: LCD's encoder, shared by the leads


def _joint(config, name, **kwargs):
  config.model = {'name': name, 'kwargs': kwargs}
  config.data.leads = leads.LEADS
  config.supervised.branches = 'joint'


def _xresnet1d(config):
  _joint(config, 'xresnet1d', size='small')


def _vit1d(config):
  _joint(config, 'vit1d')


def _probe(config):
  config.supervised.frozen_encoder = True
  config.optimizer.freeze = '^encoder/'


def _parity(config):
  config.data.rate = 204.8
  config.data.length = 2048
  config.data.normalisation = 'record'
  config.data.single_label = True
  config.data.window_gib = 4.0  # more than any corpus of the reference
  config.supervised.task = 'single_label'
  config.optimizer.learning_rate = 1e-4
  config.num_epochs = 100
  config.keep_remainder = True
  config.patience = 0
  config.evaluations = config.num_epochs
  config.best_metric = 'validation_loss'


def _smoke(config):
  config_lib.smoke(config, batch_size=16, num_steps=4, eval_every=2)
