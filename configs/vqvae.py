"""Vector-quantised codec of the ECG, for augmentation in its latent space.

  python -m ecgjax.main --config=configs/vqvae.py --workdir=runs/vqvae
  python -m ecgjax.main --config=configs/vqvae.py:dataset=ptbxl,preset=rvq ...

Arguments: modality=signal, dataset=synthetic|ptbxl|cinc2021|wfdb_folder,
  preset=
  default  one codebook of 512, 12.5 tokens/s: 112 bit/s for 12 leads
  rvq      six residual stages of 256: 600 bit/s, usable at every number of
           stages
  fsq      levels (8, 5, 5, 5), no codebook: 125 bit/s
  smoke    a few steps on the smallest data, under a minute on two cores

Times and figures: README.md, "Results".
"""

from ecgjax import config as config_lib
from ecgjax import leads


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, modality='signal', dataset='synthetic', preset='default'
  )
  config_lib.choose('modality', choice['modality'], {'signal': None})
  config = config_lib.common(choice['dataset'])
  config.method = 'vqvae'
  config.batch_size = 16
  config.num_epochs = 60
  config.data.leads = leads.INDEPENDENT_LEADS
  config.data.normalisation = 'none'  # amplitudes are part of the ECG
  config.model.name = 'codec1d'
  config.model.kwargs = config_lib.codec1d_kwargs()
  config.vqvae = config_lib.vqvae_options()
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_steps = 50
  config_lib.choose(
    'preset',
    choice['preset'],
    {'default': _default, 'rvq': _rvq, 'fsq': _fsq, 'smoke': _smoke},
  )(config)
  return config.lock()


def _default(config):
  del config


def _rvq(config):
  config.vqvae.size = 256
  config.vqvae.stages = 6
  config.vqvae.stage_dropout = 0.5


def _fsq(config):
  config.vqvae.quantiser = 'fsq'
  config.model.kwargs.dim = len(config.vqvae.levels)


def _smoke(config):
  if config.data.name == 'synthetic':
    config.data.size = 'tiny'
  config.batch_size = 16
  config.num_steps = 6
  config.model.kwargs.width = 32
  config.model.kwargs.depth = 2
  config.vqvae.size = 64
  config.optimizer.warmup_steps = 2
  config.log_every = 1
  config.bootstrap_draws = 1000
