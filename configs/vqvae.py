"""Vector-quantised codec of the ECG, for augmentation in its latent space.

  python -m ecgjax.main --config=configs/vqvae.py --workdir=runs/vqvae
  python -m ecgjax.main --config=configs/vqvae.py:dataset=ptbxl,preset=rvq ...
  python -m ecgjax.main --config=configs/vqvae.py:modality=image ...

Arguments: modality=signal|image, dataset=synthetic|ptbxl|cinc2021|wfdb_folder,
  preset= (signal)
  default  one codebook of 512, 12.5 tokens/s: 112 bit/s for 12 leads
  rvq      six residual stages of 256: 600 bit/s, usable at every number of
           stages
  fsq      levels (8, 5, 5, 5), no codebook: 125 bit/s
  smoke    a few steps on the smallest data, under a minute on two cores
  preset= (image: the printed page, 3 x 4 and a rhythm strip, 1 px/mm)
  default  four residual stages of 512 for every square centimetre (400 ms by
           1 mV): 300 tokens a page
  fsq      levels (8, 5, 5, 5) for every large square of 5 mm: 1,200 tokens
  smoke    as above

Two cores, median PRDN of test ECGs in %: synthetic 17.5 [17.3, 17.9] in 10 min
(results/codec_synthetic.json); with tests beside it preset rvq 8.905
[8.744, 9.060] in 24 min (results/codec_rvq_synthetic.json), PTB-XL 37
[36, 38.2] in 8 min (results/codec_ptbxl.json).
"""

from ecgjax import config as config_lib
from ecgjax.ecg import leads
from ecgjax.runtime.resolve import choose


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, modality='signal', dataset='synthetic', preset='default'
  )
  set_modality = choose(
    'modality', choice['modality'], {'signal': _signal, 'image': _image}
  )
  config = config_lib.common(choice['dataset'], 'vqvae')
  config.batch_size = 16
  config.num_epochs = 50
  config.data.leads = leads.INDEPENDENT_LEADS
  config.data.normalisation = 'none'  # amplitudes are part of the ECG
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_steps = 50
  return config_lib.preset(config, choice['preset'], set_modality(config))


def _signal(config):
  """Sets the fields of the 1-D codec; returns its presets."""
  config.optimizer.learning_rate = 3e-3
  config.model.name = 'codec1d'
  config.model.kwargs = config_lib.arguments('codec1d')
  return {'rvq': _rvq, 'fsq': _fsq, 'smoke': _smoke}


def _image(config):
  """Sets the fields of the 2-D codec; returns its presets."""
  config.image = config_lib.options('image', of='vqvae')
  config.model.name = 'codec2d'
  config.model.kwargs = {
    'dim': 32,
    'width': 128,
    'depth': 2,
    'patch': (10, 10),  # pixel rows and columns per token
  }
  for name in ('l1', 'judge'):  # of signals
    del config.vqvae[name]
  config.batch_size = 8
  config.num_epochs = 3
  config.vqvae.stages = 4
  config.optimizer.learning_rate = 2e-3
  return {'fsq': _image_fsq, 'smoke': _smoke}


def _rvq(config):
  config.vqvae.size = 256
  config.vqvae.stages = 6
  config.vqvae.stage_dropout = 0.5


def _fsq(config):
  config.vqvae.quantiser = 'fsq'
  config.model.kwargs.dim = len(config.vqvae.levels)


def _smoke(config):
  config_lib.smoke(config, batch_size=16, num_steps=6)
  config.model.kwargs.width = 32
  config.model.kwargs.depth = 2
  config.vqvae.size = 64
  config.optimizer.warmup_steps = 2


def _image_fsq(config):
  _fsq(config)
  config.vqvae.stages = 1
  config.model.kwargs.patch = (5, 5)
