"""How many labels does pretraining save? A grid of runs, one report.

  python -m ecgjax.main --mode=study \\
    --config=configs/study_label_efficiency.py:dataset=ptbxl,preset=small \\
    --workdir=runs/label_efficiency

Arms: untrained encoder + probe, training from scratch, LCD + probe, LCD +
fine-tuning; nested label subsets; several seeds, each with a pretraining of its
own. Resumes run by run.

Arguments: dataset=synthetic|ptbxl, preset=
  small  fractions 1, 5, 10, 25, 100 %, 3 seeds, ONE learning rate per arm and
         a fixed small number of updates: under an hour on two cores
  full   all fractions, 5 seeds, learning rates chosen on validation
  smoke  two fractions, one seed, a few steps
"""

from ecgjax import config as config_lib


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', preset='small'
  )
  config = config_lib.common(choice['dataset'])
  config_lib.supervise(config)
  config.pretrain = {
    'method': 'lcd',
    'lcd': config_lib.lcd_options(),
    'batch_size': 256,
    'num_epochs': 30 if choice['dataset'] == 'synthetic' else 100,
    'num_steps': 0,
    'best_metric': 'validation_loss',
    'best_mode': 'min',
    'evaluate_checkpoint': 'last',
  }
  config_lib.choose(
    'preset',
    choice['preset'],
    {'small': _small, 'full': _full, 'smoke': _smoke},
  )(config)
  return config.lock()


def _small(config):
  config.study = {
    'name': 'label_efficiency',
    'fractions': (0.01, 0.05, 0.1, 0.25, 1.0),
    'num_records': (),  # absolute sizes instead of fractions; 0: all
    'seeds': (0, 1, 2),
    'scratch_learning_rates': (1e-3,),
    'finetune_learning_rates': (3e-4,),
    'attribution': False,  # where classifiers look; with LUDB if ludb_dir
    'ludb_dir': '',
  }
  config.batch_size = 32
  config.num_steps = 200
  config.eval_every = 50


def _full(config):
  _small(config)
  config.study.fractions = (
    0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0
  )  # fmt: skip
  config.study.seeds = (0, 1, 2, 3, 4)
  config.study.scratch_learning_rates = (1e-4, 3e-4, 1e-3)
  config.study.finetune_learning_rates = (1e-4, 3e-4, 1e-3)
  config.batch_size = 128
  config.num_steps = 5000
  config.eval_every = 250
  config.patience = 5


def _smoke(config):
  _small(config)
  config.study.fractions = (0.5, 1.0)
  config.study.seeds = (0,)
  config.pretrain.batch_size = 32
  config.pretrain.num_steps = 2
  config.batch_size = 16
  config.num_steps = 2
  config.eval_every = 1
  config.bootstrap_draws = 1000
