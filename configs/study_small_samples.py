"""What is patient contrast worth at 50 or 100 labelled ECGs? Five tasks.

  python -m ecgjax.main --mode=study \\
    --config=configs/study_small_samples.py:preset=small \\
    --workdir=runs/small_samples
  python -m ecgjax.main --mode=study \\
    --config=configs/study_small_samples.py:dataset=ptbxl --workdir=...

Atrial fibrillation, flutter, premature beats, first-degree AV block and
infarction; AUROC against the number of labelled training ECGs, per task and in
the mean. Arms: untrained encoder + probe, training from scratch, longitudinal
patient contrast + probe, the same + fine-tuning; nested subsets; several seeds,
each with a pretraining of its own. Validation labels are part of the number
(--config.study.validation=full: all of them, not counted). Labels with fewer
than 10 positive or 10 negative test patients are not reportable. Resumes run by
run.

Arguments: dataset=synthetic|ptbxl|cinc2021, preset=
  small  one model with five outputs; n = 50, 100 and all; 3 seeds, ONE learning
         rate per arm and a fixed small number of updates: under half an hour on
         two cores
  full   n = 50, 100, 200, 500, 1000 and all, 5 seeds, learning rates chosen on
         validation
  smoke  two sizes, one seed, a few steps
"""

from ecgjax import config as config_lib
from ecgjax.methods.longitudinal import LIGHT_AUGMENTATION
from ecgjax.runtime.resolve import choose
from ecgjax.studies import label_efficiency


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', preset='small'
  )
  config = config_lib.common(choice['dataset'], 'supervised')
  config.data.task = 'longitudinal'
  if choice['dataset'] == 'synthetic':
    config.data.size = 'small+frequent'
  config.model.kwargs = {'width': 0.25}
  config.supervised.branches = 'joint'
  config.supervised.pool = 'mean'
  config.pretrain = {
    'method': 'longitudinal',
    'longitudinal': config_lib.options('longitudinal'),
    'batch_size': 256,
    'num_epochs': 0,
    'num_steps': 100,
    'optimizer': config_lib.to_json(config.optimizer)
    | {'learning_rate': 3e-3, 'schedule': 'cosine', 'warmup_steps': 20},
    'best_metric': 'validation_loss',
    'evaluate_checkpoint': 'last',
  }
  if choice['dataset'] == 'synthetic':  # elsewhere most patients have one ECG
    config.pretrain.longitudinal.update(LIGHT_AUGMENTATION)
  choose(
    'preset',
    choice['preset'],
    {'small': _small, 'full': _full, 'smoke': _smoke},
  )(config)
  return config.lock()


def _small(config):
  config_lib.make_study(config, 'label_efficiency')
  config.study.num_records = (50, 100, 0)
  config.batch_size = 32
  config.num_steps = 120
  config.eval_every = 30


def _full(config):
  _small(config)
  config.update_from_flattened_dict(label_efficiency.FULL)
  config.study.num_records = (50, 100, 200, 500, 1000, 0)
  config.pretrain.num_steps = 5000


def _smoke(config):
  _small(config)
  config.update_from_flattened_dict(label_efficiency.SMOKE)
  config.study.num_records = (50, 0)
  config.pretrain.optimizer.warmup_steps = 1
