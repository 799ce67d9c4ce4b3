"""Does augmentation help rare classes? Eleven arms, one table, one report.

  python -m ecgjax.main --mode=study \\
    --config=configs/study_augmentation.py:dataset=synthetic,preset=small \\
    --workdir=runs/augmentation
  python -m ecgjax.main --mode=study \\
    --config=configs/study_augmentation.py:dataset=ptbxl,preset=small ...

No augmentation against class weights, oversampling, classical ECG augmentation,
mixup, SMOTE of signals, reconstructions by the codec alone (the control), mixes
in the latent space of the codec, latent SMOTE, samples of the prior, the
simulator, and the best classical with the best latent one. Per class: F1 at a
validation threshold, AUROC, AUPRC, sensitivity; paired bootstrap over patients
and seeds, Holm over arms and classes. What is printed as the conclusion is what
direct comparisons of two arms show, losses too. Resumes run by run.

On the simulator the classes are made rare: 20 positive ECGs of each in
training. On PTB-XL they are the ten most frequent morphological statements of
the training split, with all their ECGs; others by --config.study.classes.

Arguments: dataset=synthetic|ptbxl, preset=
  small  one codec and fold, the arms that matter most, 3 seeds, a light
         classifier: under three quarters of an hour on two busy cores
  full   all arms, 5 seeds with a fold, codec and prior each
  smoke  six arms, one seed, a few steps
"""

from ecgjax import config as config_lib
from ecgjax.ecg import leads
from ecgjax.runtime.resolve import choose


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', preset='small'
  )
  choose('dataset', choice['dataset'], dict.fromkeys(('synthetic', 'ptbxl')))
  config = config_lib.common(choice['dataset'], 'supervised')
  config.data.task = 'all'
  config.data.leads = leads.LEADS
  config.supervised.branches = 'joint'
  config.supervised.pool = 'mean'
  config.bootstrap_draws = 5000  # Holm over some 100 comparisons
  config_lib.make_study(config, 'augmentation')
  config.pretrain = {
    'codec': _pretext(config, 'vqvae', config_lib.arguments('codec1d'), 16),
    'prior': _pretext(config, 'prior', {}, 32),
    'augment': {'data': _eight(), 'augment': config_lib.options('augment')},
  }
  if choice['dataset'] == 'synthetic':
    config.study.positives = 20
    config.pretrain.augment.augment.ratio = 5.0
  else:
    config.pretrain.augment.augment.ratio = 2.0
    config.pretrain.augment.augment.target = 200
  choose(
    'preset',
    choice['preset'],
    {'small': _small, 'full': _full, 'smoke': _smoke},
  )(config)
  return config.lock()


def _eight() -> dict:
  return {'leads': leads.INDEPENDENT_LEADS, 'normalisation': 'none'}


def _pretext(config, method, kwargs, batch_size) -> dict:
  """Fields of a pretext run beside the common ones."""
  return {
    'method': method,
    'data': _eight(),
    'model': {'name': 'codec1d', 'kwargs': kwargs},
    'batch_size': batch_size,
    'num_epochs': 0,
    'num_steps': 5000,
    'eval_every': 0,
    'best_metric': 'validation_loss',
    'evaluate_checkpoint': 'last',
    'patience': 0,
    'optimizer': config_lib.to_json(config.optimizer)
    | {'schedule': 'cosine', 'warmup_steps': 50},
    method: config_lib.options(method),
  }


def _full(config):
  config.model.name = 'xresnet1d'
  config.model.kwargs = {'size': 'small'}
  config.batch_size = 64
  config.num_steps = 3000
  config.eval_every = 250


def _small(config):
  config.study.arms = (
    'none', 'class_weights', 'oversampling', 'classical', 'mixup',
    'reconstruction', 'latent_mix',
  )  # fmt: skip
  if config.data.name == 'synthetic':
    config.study.arms += ('simulator',)
  config.study.seeds = (0, 1, 2)
  config.study.shared_codec = True
  config.model.name = 'resnet1d'
  config.model.kwargs = {'width': 0.125}
  config.batch_size = 32
  config.num_steps = 300
  config.eval_every = 100
  config.pretrain.codec.num_steps = 600


def _smoke(config):
  _small(config)
  config.study.arms = (
    'none', 'class_weights', 'reconstruction', 'latent_mix', 'prior',
    'best_of_both',
  )  # fmt: skip
  config.study.seeds = (0,)
  config.num_steps = 2
  config.eval_every = 1
  config.batch_size = 16
  config.bootstrap_draws = 1000
  config.pretrain.codec.num_steps = 4
  config.pretrain.codec.model.kwargs.width = 32
  config.pretrain.codec.model.kwargs.depth = 2
  config.pretrain.codec.vqvae.size = 64
  config.pretrain.codec.optimizer.warmup_steps = 2
  config.pretrain.prior.num_steps = 2
  config.pretrain.prior.prior.width = 32
  config.pretrain.prior.prior.depth = 1
  config.pretrain.prior.optimizer.warmup_steps = 1
  config.pretrain.augment.augment.ratio = 0.25
  # An untrained codec and teacher would refuse everything.
  config.pretrain.augment.augment.least_changed = 0.0
