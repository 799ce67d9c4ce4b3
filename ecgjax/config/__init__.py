"""What the files in `configs/` share: common fields, arguments, checks."""

import pathlib

import ml_collections

from ecgjax.ecg import leads
from ecgjax.runtime.resolve import choose, resolve

# Fields of `config.data` that say where the data lie, not what they are.
PLACES = ('dir', 'raw_dir', 'labels_csv', 'ptbxl_csv')
_DATASETS = {
  # name: rate Hz, samples, default task, builder size ('' where it has none)
  'synthetic': (100.0, 1000, 'all', 'small'),
  'ptbxl': (100.0, 1000, 'superclass', ''),
  'cinc2021': (100.0, 1000, 'scored', ''),
  'wfdb_folder': (100.0, 1000, 'all', ''),
  'mimic_iv_ecg': (100.0, 1000, 'all', ''),
  'code15': (100.0, 1000, 'all', ''),
}


def parse_argument(argument: str | None, **defaults: str) -> dict[str, str]:
  """Parses what follows the colon of `--config=file.py:key=value,...`.

  Args:
    argument: 'key=value' pairs separated by commas, or None.
    **defaults: the keys there are, and their default values.

  Returns:
    A value for every key.

  Raises:
    ValueError: if a part is not 'key=value' or the key is unknown.
  """
  values = dict(defaults)
  for part in filter(None, (argument or '').split(',')):
    key, equals, value = part.partition('=')
    if not equals or key not in defaults:
      raise ValueError(
        f'config argument {part!r}: expected key=value with a key among '
        + ', '.join(defaults)
      )
    values[key] = value
  return values


def common(dataset: str) -> ml_collections.ConfigDict:
  """The fields that every run has, with their defaults."""
  rate, length, task, size = choose('dataset', dataset, _DATASETS)
  config = ml_collections.ConfigDict()
  config.mode = 'train'  # what the config is for, see ecgjax/main.py
  config.method = ''
  config.seed = 0
  config.batch_size = 256
  config.keep_remainder = False  # True: the last, smaller batch of an epoch too
  config.num_epochs = 100
  config.num_steps = 0  # 0: num_epochs
  config.parallel = 'pmap'  # or 'jit'
  config.steps_per_dispatch = 1  # more where the host is slower than the steps
  config.distributed = False  # True on every host of a pod or cluster
  config.bfloat16 = False  # compute type of the encoder; the rest is float32
  config.init_from = ''  # work folder or checkpoint of a pretraining run

  config.data = ml_collections.ConfigDict()
  config.data.name = dataset
  config.data.dir = ''  # '': the default folder of tensorflow-datasets
  config.data.raw_dir = ''  # '': download, where the corpus can be
  config.data.size = size
  config.data.rate = rate  # Hz
  config.data.length = length  # samples
  config.data.leads = leads.LCD_LEADS
  config.data.normalisation = 'record_centred'  # see ecgjax/ecg/contract.py
  config.data.task = task
  config.data.sources = ()  # of cinc2021; signal of ptbxl
  config.data.labels_csv = ''  # of wfdb_folder
  config.data.ptbxl_csv = ''  # of cinc2021, see ecgjax/data/cinc2021.py
  config.data.single_label = False  # drop records with several labels
  config.data.allow_leak = False  # True marks the result
  config.data.resident = True  # one device: training split in its memory
  config.data.window_gib = 1.0  # larger splits are shuffled in such windows
  config.data.extra = ()  # work folders of --mode=generate; supervised only
  config.data.oversample = 0.0  # rare classes are repeated up to this share

  config.model = ml_collections.ConfigDict()
  config.model.name = 'vgg1d'
  config.model.kwargs = ml_collections.ConfigDict({'width': 0.125})

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.schedule = 'constant'
  config.optimizer.warmup_steps = 0
  config.optimizer.weight_decay = 0.0
  config.optimizer.freeze = ''  # regular expression of parameter paths

  config.log_every = 10  # steps
  config.eval_every = 0  # steps between checkpoints; 0: see `evaluations`
  config.evaluations = 10  # a run; as many as epochs: one after each
  config.best_metric = 'validation_loss'
  config.best_mode = ''  # what `best_mode` says of the metric
  config.patience = 0  # evaluations without a better best_metric; 0: off
  config.evaluate_checkpoint = 'last'  # or 'best'
  config.probe = ml_collections.ConfigDict()
  config.probe.recipe = 'standardised_lr'  # or 'reference' (LCD's own)
  config.evaluators = ()  # further files of ecgjax/evaluators
  config.bootstrap_draws = 2000
  return config


def lcd_options() -> dict:
  """Defaults of `config.lcd`, see `ecgjax.methods.lcd`."""
  return {
    'parity': False,
    'lead_pair': 'per_step',  # or 'per_sample'
    'resample': 'fourier',  # or 'cubic', 'linear'
    'exclusive_start': False,
    'separate_bn': True,
    'gamma': 0.005,
    'off_diagonal_weight': 0.0051,
    'cov_divisor': 'actual',  # or 'nominal'
    'cov_on_diagonal': False,
    'tau': 0.996,
    'tau_schedule': 'constant',  # or 'cosine'
  }


# Of patient contrast. Crops resized by more take away what a PR interval tells,
# noise the small waves; ECGs of two dates differ enough without them.
LIGHT_AUGMENTATION = {'min_crop': 0.9, 'time_out': 0.2, 'noise_snr_db': ()}


def longitudinal_options() -> dict:
  """Defaults of `config.longitudinal`, see `ecgjax.methods.longitudinal`."""
  return {
    # What is in a batch (data/batches/patients.py); batch_size counts ECGs.
    'ecgs_per_patient': 2,
    'singletons': 'augment',  # or 'drop', 'negatives_only'
    'singleton_weight': 1.0,  # of a patient with one ECG as an anchor
    'min_gap': 1.0,  # days between two ECGs of a patient, where there is choice
    'max_gap': 0.0,  # days; 0: none
    'gap_edges': (30.0, 365.0),  # days, limits of the strata of gaps
    'gap_quota': (),  # share of the patients that a stratum gets; (): free
    # What is contrasted (methods/longitudinal.py).
    'views': 'ecg',  # or 'augmented', 'halves'
    'loss': 'lpc',  # or 'clocs'
    'temperature': 0.1,
    'learned_temperature': False,
    'gap_weight': 'none',  # or 'exponential', 'strata'
    'gap_days': 365.0,  # of 'exponential': the weight falls to 1/e
    'gap_stratum_weights': (1.0, 1.0, 1.0),  # of 'strata'
    'gap_floor': 0.05,  # least weight of a pair
    'label_change_weight': 1.0,  # of a pair whose labels differ
    'queue': 0,  # embeddings of earlier batches as negatives
    'queue_tau': 0.99,  # of the EMA encoder that fills the queue
    'branches': 'joint',  # or one for every lead, see models/lead_encoder.py
    'head_width': 320,
    'augmentation': 'crop',  # or 'rotate_heart', 'none'
    'min_crop': 0.5,
    'time_out': 0.5,
    'noise_snr_db': (12.0, 30.0),  # range; (): no noise
    'lead_dropout': 0.0,
  }


def codec1d_kwargs() -> dict:
  """Defaults of the codec `ecgjax.models.codec1d`."""
  return {
    'dim': 32,  # of a token
    'width': 128,
    'depth': 4,  # of the encoder and of the decoder
    'patch': 8,  # samples per token
    'scale': 0.2,  # mV, about the standard deviation of an ECG
  }


def vqvae_options() -> dict:
  """Defaults of `config.vqvae`, see `ecgjax.methods.vqvae`."""
  return {
    'quantiser': 'vq',  # or 'fsq'
    'size': 512,  # codes
    'stages': 1,  # above 1: residual
    'stage_dropout': 0.0,  # share of rows coded by fewer stages
    'levels': (8, 5, 5, 5),  # of fsq
    'cosine': False,
    'gradient': 'ste',  # or 'rotate'
    'stats': 'segment',  # or 'onehot'
    'beta': 0.25,  # weight of the commitment loss
    'l1': 0.3,  # weight of the absolute beside the squared error
    'decay': 0.99,
    'epsilon': 1e-5,
    'pool': 2048,  # tokens of a batch for k-means and restarts, at least
    'restart_every': 20,  # steps; 0: never
    'restart_until': 0.8,  # of the run
    'restart_threshold': 0.05,  # of tokens per step and code
    'restart_count': 0.25,
    # Work folder of an encoder that judges reconstructions; '': LCD's encoder
    # before training.
    'judge': '',
  }


def prior_options() -> dict:
  """Defaults of `config.prior`, see `ecgjax.methods.prior`."""
  return {
    'codec': '',  # work folder of a run of configs/vqvae.py
    'width': 128,
    'depth': 4,
    'heads': 4,
    'class_dropout': 0.1,
  }


def augment_options() -> dict:
  """Defaults of `config.augment`, see `ecgjax.generation.generate`."""
  return {
    'operator': 'A',
    'codec': '',  # work folder of a run of configs/vqvae.py
    'prior': '',  # of configs/prior.py
    'teacher': '',  # of configs/supervised.py; keeps ECGs with p > .5
    'manifest': '',  # file with the labelled training records; '': all
    'classes': (),  # (): every class that the operator can make
    'ratio': 1.0,  # generated : real positives, at most 5
    'target': 0,  # positives up to which a class is filled; 0: no limit
    'match': 'stored',  # parents share all stored statements; or 'task'
    'align': True,  # False only to show the ghost beats
    'law': '',  # of lambda, see `latent_mix.LAWS`; '': the operator's own
    'neighbours': 5,  # of F and input_smote
    'least_changed': 0.05,  # share of code indices that are no parent's
    'keep': 0.6,  # share of a parent's codes that resample keeps
    'temperature': 1.0,  # of the prior, and the next two
    'top_k': 0,
    'guidance': 1.0,
    'gallery': 6,  # children on the page
  }


def image_options() -> dict:
  """Defaults of `config.image`, the page that a codec codes."""
  return {
    'layout': '3x4+1',  # see ecgjax/ecg/page.py
    'resolution': 1,  # px/mm
  }


def evaluation_options() -> dict:
  """Defaults of `config.evaluation`, see `ecgjax.evaluate`."""
  return {
    'reduced_leads': False,  # every lead, every pair: 37 conditions of 8 leads
    'readers_csv': '',  # doctors' labels, see evaluators/human_readers.py
    'chains': '',  # 'source' or FILE:COLUMN, see evaluators/chains.py
    'attribution': False,  # where the classifier looks
    'ludb_dir': '',  # LUDB's folder, to measure it on delineated waves
    'compare_with': '',  # a run of the same task, e.g. from scratch
  }


def supervise(config) -> None:
  """Makes `config` a supervised one, see `ecgjax.methods.supervised`."""
  config.method = 'supervised'
  config.supervised = {
    'task': 'multi_label',  # or 'single_label'
    'branches': 'tied',  # or 'tied_mixed', 'untied', 'joint'
    'pool': 'concat',  # over leads; or 'mean', 'attention'
    'frozen_encoder': False,
    'class_weights': (),
    'balance_classes': False,  # class weights by the training split's counts
    'label_smoothing': 0.0,
    'augment': 'none',  # or 'classical'
    'mixup': 0.0,
  }
  config.batch_size = 128
  config.best_metric = 'validation_macro_auroc'
  config.evaluate_checkpoint = 'best'


def label_study(config, **fields) -> None:
  """Makes a grid over numbers of labels of a config; budget: preset small."""
  config.mode = 'study'
  config.study = {
    'name': 'label_efficiency',
    'fractions': (),  # of the labelled training records
    'num_records': (),  # absolute sizes instead; 0: all
    'seeds': (0, 1, 2),
    'validation': 'budget',  # its labels count; or 'full': they do not
    'margin': 0.01,  # of macro AUROC; equality is claimed within it alone
    'scratch_learning_rates': (1e-3,),
    'finetune_learning_rates': (1e-3,),
    'attribution': False,  # where classifiers look; with LUDB if ludb_dir
    'ludb_dir': '',
    **fields,
  }
  config.batch_size = 32


def augmentation_study(config) -> None:
  """Makes a comparison of augmentations of a config, all arms."""
  config.mode = 'study'
  config.study = {
    'name': 'augmentation',
    'classes': (),  # (): the most frequent morphological ones
    'num_classes': 10,
    'positives': 0,  # training ECGs of each class; 0: all
    'arms': (
      'none', 'class_weights', 'oversampling', 'classical', 'mixup',
      'input_smote', 'reconstruction', 'latent_mix', 'latent_smote', 'prior',
      'simulator', 'best_of_both',
    ),
    'method': 'latent_mix',  # whose figures head the report
    'seeds': (0, 1, 2, 3, 4),
    'shared_codec': False,
    'margin': 0.01,  # of macro AUROC; equality is claimed within it alone
    'oversample': 0.05,  # share up to which classes are repeated
    'mixup': 0.4,
    'readers_csv': '',  # readers of the test split, see evaluate.py
  }  # fmt: skip


def label_study_full(config) -> None:
  """Raises the budget of such a grid to that of preset full."""
  config.study.seeds = (0, 1, 2, 3, 4)
  config.study.scratch_learning_rates = (1e-4, 3e-4, 1e-3)
  config.study.finetune_learning_rates = (1e-4, 3e-4, 1e-3)
  config.batch_size = 128
  config.num_steps = 5000
  config.eval_every = 250
  config.patience = 5


def label_study_smoke(config) -> None:
  """Lowers it to one seed and a few steps."""
  config.study.seeds = (0,)
  config.pretrain.batch_size = 32
  config.pretrain.num_steps = 2
  config.batch_size = 16
  config.num_steps = 2
  config.eval_every = 1
  config.bootstrap_draws = 1000


def to_json(config) -> dict:
  """Config as JSON-able dict; tuples become lists.

  Raises:
    ValueError: if a value is none of JSON, a scalar of NumPy for example.
  """
  return _plain(config.to_dict())


def method_options(config) -> dict:
  """Options of `config.method` as plain values, for its `make`.

  Further groups that the method may have (its `GROUPS`) are among them under
  their names, None where the config has none.
  """
  options = config[config.method].to_dict()
  module = resolve('methods', config.method)
  for name in getattr(module, 'GROUPS', ()):
    options[name] = config[name].to_dict() if name in config else None
  return options


def identity(config) -> dict:
  """`to_json` without the places where the data lie."""
  fields = to_json(config)
  extra = [pathlib.PurePath(path).name for path in fields['data']['extra']]
  fields['data']['extra'] = extra
  for name in PLACES:
    fields['data'].pop(name)
  return fields


def _plain(value, name: str = 'config'):
  if isinstance(value, dict):
    return {k: _plain(v, f'{name}.{k}') for k, v in value.items()}
  if isinstance(value, tuple | list):
    return [_plain(v, name) for v in value]
  if value is not None and type(value) not in (bool, int, float, str):
    raise ValueError(
      f'{name} is a {type(value).__name__}: {value}; configs hold plain '
      'numbers, strings and tuples'
    )
  return value


def from_json(fields: dict) -> ml_collections.ConfigDict:
  """Inverse of `to_json`; lists become tuples. Locked."""

  def tuples(value):
    if isinstance(value, dict):
      return {k: tuples(v) for k, v in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value

  return ml_collections.ConfigDict(tuples(complete(fields))).lock()


def complete(fields: dict) -> dict:
  """A config as JSON, with what older versions lacked."""
  return {'evaluators': []} | fields
