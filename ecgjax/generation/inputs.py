"""What generation reads: records that may be parents, and trained models.

Codec, prior and teacher must have been trained on the training fold that the
parents come from, which their checkpoints prove by the fingerprint of their
data.
"""

import numpy as np

from ecgjax.data.batches import from_recording
from ecgjax.data.batches.split import arguments, fingerprint, open_split
from ecgjax.data.store import labels
from ecgjax.data.store.records import read_table
from ecgjax.ecg import beats, leads
from ecgjax.ecg.contract import InputContract
from ecgjax.generation import align, operators, parents
from ecgjax.model import Model, load, outputs
from ecgjax.simulator import simulator

METHODS = {'codec': 'vqvae', 'prior': 'prior', 'teacher': 'supervised'}


def restore_models(
  options, mine: InputContract, data
) -> dict[str, Model | None]:
  """The checkpoints that the operator uses, checked against data and config.

  Args:
    options: `config.augment`.
    mine: contract of the ECGs that are generated.
    data: `run_data.RunData` of the parents.

  Raises:
    ValueError: if one is of another method, other records or another contract.
  """
  models = {}
  for field, method in METHODS.items():
    models[field] = None
    needed = {'codec': operators.WITH_CODEC, 'prior': operators.WITH_PRIOR}
    if not options[field] or options.operator not in needed.get(
      field, operators.OPERATORS
    ):
      continue
    where = f'config.augment.{field}: {options[field]}'
    model = load(options[field])
    if model.config.method != method:
      raise ValueError(
        f'{where} holds a {model.config.method} run; give one of {method}'
      )
    if model.method.codec and model.method.codec.paper:
      raise ValueError(
        f'{where} codes pages; generated ECGs are signals and need a codec of '
        'modality=signal'
      )
    _check_fold(where, model, data)
    if field != 'teacher' and model.contract != mine:
      raise ValueError(
        f'{where} was trained on {model.contract}, this config has {mine}'
      )
    if model.contract.rate != mine.rate or model.contract.length > mine.length:
      raise ValueError(
        f'{where} needs {model.contract.length} samples at '
        f'{model.contract.rate:g} Hz, this config has {mine.length} at '
        f'{mine.rate:g}'
      )
    models[field] = model
  return models


def _check_fold(where: str, model, data) -> None:
  """Refuses a model that has seen anything but training records of the run."""
  for records in (None, data.labelled['train'].record_ids):
    for keep_unlabelled in (True, False):
      split = open_split(
        data.builder,
        'train',
        **arguments(model.config.data),
        records=records,
        keep_unlabelled=keep_unlabelled,
      )
      if fingerprint(split)['sha256'] == model.fingerprint:
        return
  raise ValueError(
    f'{where} was trained on other records than the training split of '
    f'{data.builder.info.full_name} (fingerprint {model.fingerprint[:12]}); '
    'train it on this data set'
  )


def make_context(options, mine: InputContract, task: str, data, models):
  """Reads the records of the classes that are wanted.

  Args:
    options: `config.augment`.
    mine: contract of the ECGs that are generated.
    task: `config.data.task`.
    data: `run_data.RunData` of the parents.
    models: what `restore_models` returned.

  Returns:
    `operators.Context`, the `labels.LabelTask`, and reason -> number of records
    that cannot be parents.
  """
  builder = data.builder
  labelled = data.labelled['train']
  names = tuple(builder.info.metadata['label_names'])
  label_task = labels.make_task(task, names)
  classes = label_task.classes
  if classes != labelled.class_names:
    raise ValueError(
      f'config.data.task is {task!r}; the data were opened with the classes '
      + ', '.join(labelled.class_names)
    )
  strange = sorted(set(options.classes) - set(classes))
  if strange:
    raise ValueError(
      f'config.augment.classes: no class {strange[0]!r}; the classes are '
      + ', '.join(classes)
    )
  table = read_table(builder, 'train')
  label = labelled.columns['label'] * labelled.columns['label_mask']
  wanted = [name in (options.classes or classes) for name in classes]
  rows = (label[:, wanted] > 0).any(axis=1)
  pool = parents.make_pool(
    table, labelled.record_ids[rows], label[rows], options.match
  )
  contract = InputContract(mine.rate, mine.length, leads.INDEPENDENT_LEADS)
  ecg, whole, known = read_tracings(contract, builder, pool)
  peaks = [
    beats.r_peaks(x, mine.rate) if k else np.zeros(0)
    for x, k in zip(ecg, known)
  ]
  padded, count = align.pad_peaks(peaks)
  usable, excluded = np.ones(len(pool.ids), bool), {}

  def exclude(reason, condition):
    excluded[reason] = int((usable & condition).sum())
    usable[condition] = False

  exclude('missing_lead', ~known)
  exclude('padded', ~whole)
  if options.operator in operators.INTERPOLATING:
    exclude('rhythm', parents.has_rhythm(pool.labels, names))
    exclude('few_beats', count < align.MIN_BEATS)
    exclude('no_partner', ~parents.has_partner(pool, usable))
  metadata = dict(builder.info.metadata.items())
  recording = simulator.Config(
    mine.rate,
    mine.length,
    noise=metadata.get('noise', 1.0),
    intra=metadata.get('intra', 0.5),
  )
  return (
    operators.Context(
      options, pool, names, ecg, padded, count, usable, mine.rate,
      recording, models['codec'], models['prior'],
      prior_labels(models['prior'], builder, pool),
    ),
    label_task,
    excluded,
  )  # fmt: skip


def read_tracings(contract: InputContract, builder, pool: parents.Pool):
  """Signals of the pool in the leads of a contract.

  Returns:
    [N, L, C] mV; [N] whether every sample was recorded; [N] whether all leads
    were (else the row is zero).
  """
  split = open_split(
    builder, 'train', contract, records=pool.ids, keep_unlabelled=True
  )
  known = np.isin(pool.ids, split.record_ids)
  columns = split.columns
  ecg = np.zeros((len(known), contract.length, len(contract.leads)), 'f4')
  ecg[known] = (
    split.read(0, len(split)) - columns['baseline'][:, None]
  ) / columns['gain'][:, None]
  whole = np.zeros(len(known), bool)
  whole[known] = columns['valid_len'] == contract.length
  return ecg, whole, known


def prior_labels(prior, builder, pool: parents.Pool) -> np.ndarray | None:
  """Classes of the pool's records as the prior knows them, [N, C]."""
  if prior is None:
    return None
  split = open_split(
    builder,
    'train',
    **arguments(prior.config.data),
    records=pool.ids,
    keep_unlabelled=True,
  )
  found = np.zeros((len(pool.ids), split.columns['label'].shape[1]), 'f4')
  found[np.isin(pool.ids, split.record_ids)] = split.columns['label']
  return found


def make_teacher(model):
  """Returns `(ecg [B, L, 12], class) -> p [B]`, or None without a teacher."""
  if model is None:
    return None

  def probability(ecg, name):
    if name not in model.class_names:
      raise ValueError(
        f'config.augment.teacher does not know the class {name!r}; it knows '
        + ', '.join(model.class_names)
      )
    contract = model.contract
    batch = from_recording.make_batch(ecg, contract.rate, leads.LEADS, contract)
    scores = outputs(model, batch)['probabilities']
    return np.asarray(scores)[:, model.class_names.index(name)]

  return probability
