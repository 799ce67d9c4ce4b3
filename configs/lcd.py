"""LCD pretraining on unlabelled 12-lead ECGs, then a linear probe.

  python -m ecgjax.main --config=configs/lcd.py --workdir=runs/lcd
  python -m ecgjax.main --config=configs/lcd.py:dataset=ptbxl,preset=paper ...

Arguments: dataset=synthetic|ptbxl|cinc2021|wfdb_folder, preset=
  default  8 leads x 1000 samples (100 Hz), batch 256
  paper    8 leads x 2048 samples (204.8 Hz), batch 256, 100 epochs, Adam 1e-3
  parity   paper, with the quirks of the reference code (methods/lcd.py): the
           smaller last batch of an epoch is kept, and of the 100 epochs the one
           with the lowest training loss
  smoke    a few steps on the smallest data, under a minute on two cores

Two cores, preset default, test macro AUROC of the probe: 3,560 synthetic ECGs
0.951 [0.941, 0.961] in 3 min (the encoder untrained: 0.921 [0.910, 0.931];
results/lcd_synthetic.json); 1,490 ECGs of PTB-XL 0.826 [0.787, 0.861] in 4 min
(0.783 [0.733, 0.825]; results/lcd_ptbxl.json).
"""

from ecgjax import config as config_lib


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', preset='default'
  )
  synthetic = choice['dataset'] == 'synthetic'
  config = config_lib.common(choice['dataset'], 'lcd')
  config.num_epochs = 30 if synthetic else 100
  return config_lib.preset(
    config,
    choice['preset'],
    {'paper': _paper, 'parity': _parity, 'smoke': _smoke},
  )


def _paper(config):
  config.data.rate = 204.8
  config.data.length = 2048
  config.num_epochs = 100


def _parity(config):
  _paper(config)
  config.lcd.parity = True
  config.data.normalisation = 'record'
  config.keep_remainder = True
  config.evaluations = config.num_epochs
  config.data.single_label = True
  config.data.window_gib = 4.0  # more than any corpus of the reference
  config.best_metric = 'train_loss'
  config.evaluate_checkpoint = 'best'
  config.probe.recipe = 'reference'


def _smoke(config):
  config_lib.smoke(config, batch_size=32, num_steps=6)
