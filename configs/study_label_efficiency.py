"""How many labels does pretraining save? A grid of runs, one report.

  python -m ecgjax.main --mode=study \\
    --config=configs/study_label_efficiency.py:dataset=ptbxl,preset=small \\
    --workdir=runs/label_efficiency

Arms: untrained encoder + probe, training from scratch, LCD + probe, LCD +
fine-tuning; nested label subsets; several seeds, each with a pretraining of its
own. Labels of validation, on which rates, checkpoints, C and thresholds are
chosen, are part of the number of labels: a subset of the same share
(--config.study.validation=full: all of them, not counted). Resumes run by run.

Arguments: dataset=synthetic|ptbxl, preset=
  small  fractions 1, 5, 10, 25, 100 %, 3 seeds, ONE learning rate per arm and
         a fixed small number of updates: under an hour on two cores
  full   all fractions, 5 seeds, learning rates chosen on validation
  smoke  two fractions, one seed, a few steps
"""

from ecgjax import config as config_lib
from ecgjax.runtime.resolve import choose
from ecgjax.studies import label_efficiency


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', preset='small'
  )
  config = config_lib.common(choice['dataset'], 'supervised')
  config.pretrain = {
    'method': 'lcd',
    'lcd': config_lib.options('lcd'),
    'batch_size': 256,
    'num_epochs': 30 if choice['dataset'] == 'synthetic' else 100,
    'num_steps': 0,
    'best_metric': 'validation_loss',
    'evaluate_checkpoint': 'last',
  }
  choose(
    'preset',
    choice['preset'],
    {'small': _small, 'full': _full, 'smoke': _smoke},
  )(config)
  return config.lock()


def _small(config):
  config_lib.make_study(config, 'label_efficiency')
  config.study.fractions = (0.01, 0.05, 0.1, 0.25, 1.0)
  config.study.finetune_learning_rates = (3e-4,)
  config.batch_size = 32
  config.num_steps = 200
  config.eval_every = 50


def _full(config):
  _small(config)
  config.update_from_flattened_dict(label_efficiency.FULL)
  config.study.fractions = (
    0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0
  )  # fmt: skip


def _smoke(config):
  _small(config)
  config.update_from_flattened_dict(label_efficiency.SMOKE)
  config.study.fractions = (0.5, 1.0)
