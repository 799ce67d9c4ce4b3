"""Class-conditional prior over the code indices of a trained codec.

  python -m ecgjax.main --config=configs/prior.py --workdir=runs/prior
    --config.prior.codec=runs/vqvae

Arguments: dataset=synthetic|ptbxl|cinc2021|wfdb_folder, preset=
  default  4 layers of 128, for two cores
  large    6 layers of 256 (about 5 million parameters)
  smoke    a few steps on the smallest data

The data set, its rate and its length must be those of the codec.
"""

from ecgjax import config as config_lib
from ecgjax.ecg import leads


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', preset='default'
  )
  config = config_lib.common(choice['dataset'], 'prior')
  config.batch_size = 32
  config.num_epochs = 20
  config.data.leads = leads.INDEPENDENT_LEADS
  config.data.normalisation = 'none'
  config.optimizer.name = 'adamw'
  config.optimizer.weight_decay = 0.01
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_steps = 50
  return config_lib.preset(
    config, choice['preset'], {'large': _large, 'smoke': _smoke}
  )


def _large(config):
  config.prior.width = 256
  config.prior.depth = 6
  config.batch_size = 64


def _smoke(config):
  config_lib.smoke(config, batch_size=16, num_steps=6)
  config.prior.width = 32
  config.prior.depth = 1
  config.optimizer.warmup_steps = 2
