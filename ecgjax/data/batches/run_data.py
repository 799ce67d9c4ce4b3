"""The data of one run: prepared if needed, opened, and audited."""

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import ml_collections
import numpy as np

from ecgjax.data.batches import patients, shuffle, stream
from ecgjax.data.batches.on_device import load, train_batches
from ecgjax.data.store import leakage, prepared
from ecgjax.data.store import splits as splits_lib
from ecgjax.ecg import leads

logger = logging.getLogger(__name__)
SPLITS = ('train', 'validation', 'test')


class Data(NamedTuple):
  """What a run reads.

  Attributes:
    builder: the prepared TFDS builder.
    splits: split name -> every usable record (pretraining needs no label).
    labelled: split name -> the records that the label task is about.
    split_hash: sha256 of (record, patient, split) of the whole data set.
    manifest_hash: sha256 of the labelled training records.
    fingerprint: sha256 of the training data.
    synthetic: whether the ECGs are simulated.
  """

  builder: object
  splits: dict[str, stream.Split]
  labelled: dict[str, stream.Split]
  split_hash: str
  manifest_hash: str
  fingerprint: str
  synthetic: bool


def open_data(config, records=None) -> Data:
  """Opens the data of `config.data`, building the data set on first use.

  Args:
    config: of the run.
    records: ids of the labelled training records to use; None for all.

  Raises:
    ValueError: if the data set is missing, does not fit the config, or has a
      patient or a signal in two splits (unless `config.data.allow_leak`).
  """
  builder = prepared.open_builder(config.data)
  leakage.audit(builder, allow=config.data.allow_leak)
  splits = {
    name: stream.open_split(builder, name, config, keep_unlabelled=True)
    for name in SPLITS
  }
  labelled = {
    name: stream.open_split(
      builder, name, config, records=records if name == 'train' else None
    )
    for name in SPLITS
  }
  for name, split in labelled.items():
    used = ', '.join(f'{v} {k}' for k, v in split.dropped.items() if v)
    logger.info(
      '%s %s: %d records, %d patients, %s%s',
      builder.info.full_name,
      name,
      len(splits[name]),
      len(np.unique(splits[name].columns['patient'])),
      f'{len(split)} with labels of task {config.data.task}'
      if config.data.task
      else 'labels not used',
      f' (left out: {used})' if used else '',
    )
  manifest = splits_lib.manifest(labelled['train'].record_ids)
  return Data(
    builder=builder,
    splits=splits,
    labelled=labelled,
    split_hash=splits_lib.split_manifest(builder)['sha256'],
    manifest_hash=manifest['sha256'],
    fingerprint=stream.fingerprint(splits['train'])['sha256'],
    synthetic=bool(dict(builder.info.metadata.items()).get('synthetic')),
  )


def require_task(config) -> None:
  """Raises a ValueError where labels are needed and no task is named."""
  if not config.data.task:
    raise ValueError(
      'config.data.task is empty: without labels there is nothing to train a '
      'classifier on and nothing to judge a model by'
    )


class Batches(NamedTuple):
  """Training and validation batches of one run.

  Attributes:
    steps_per_epoch: batches of one pass over the real records.
    train: start step -> iterator of NumPy (or device) batches.
    validate: () -> the full validation batches of the training kind, for the
      loss of a pretext task.
  """

  steps_per_epoch: int
  train: Callable[[int], Iterator[dict]]
  validate: Callable[[], Iterator[dict]]


def make_batches(
  config,
  train,
  validation,
  *,
  process_index: int = 0,
  process_count: int = 1,
  on_device: bool = False,
  real=None,
  rows: str = 'records',
) -> Batches:
  """Batches of records or of patients.

  Args:
    config: of the run.
    train: the training `Split`.
    validation: the validation `Split`.
    process_index: this host.
    process_count: number of hosts.
    on_device: keep the training signals in device memory (records only).
    real: the split whose epochs are the budget, where `train` holds generated
      ECGs as well; neither these nor `config.data.oversample` buy updates.
    rows: 'records' or 'patients', see `methods.method.Method.rows`.

  Raises:
    ValueError: if `config.data.oversample` is no share, or the batches of
      patients are to keep a remainder.
  """
  options = {
    'seed': config.seed,
    'process_index': process_index,
    'process_count': process_count,
  }
  if rows == 'patients':
    if config.keep_remainder:
      raise ValueError(
        'config.keep_remainder: batches of patients have none to keep; set it '
        'to False'
      )
    return Batches(
      patients.steps_per_epoch(train, config),
      lambda step: patients.train_batches(
        train, config, start_step=step, **options
      ),
      lambda: patients.eval_batches(validation, config),
    )
  options['keep_remainder'] = config.keep_remainder
  size, share = config.batch_size, config.data.oversample
  if share:
    if not 0 < share < 1:
      raise ValueError(
        f'config.data.oversample is {share:g}; it is a share, like 0.1'
      )
    options['repeats'] = shuffle.repeats(
      train.columns['label'], train.columns['label_mask'], share
    )
  if on_device:
    arrays = load(train)
    source = functools.partial(train_batches, train, arrays, size)
  else:
    source = functools.partial(stream.train_batches, train, size)
  eval_size = min(size, len(validation))
  return Batches(
    stream.steps_per_epoch(
      train if real is None else real, size, config.keep_remainder
    ),
    lambda step: source(start_step=step, **options),
    lambda: itertools.islice(
      stream.eval_batches(validation, eval_size),
      len(validation) // eval_size,
    ),
  )


def load_recording(data: Data, split: str, record_id: str) -> dict:
  """One stored recording, as arguments of `ecg.plot.plot_ecg`."""
  info = data.builder.info
  rate = data.builder.builder_config.rate
  length = info.features['ecg'].shape[0]
  fields = {'rate': rate, 'length': length, 'leads': leads.LEADS}
  one = stream.open_split(
    data.builder,
    split,
    ml_collections.ConfigDict({'data': fields}),
    records=[record_id],
    keep_unlabelled=True,
  )
  columns = one.columns
  labelled = data.labelled[split]
  row = int(np.flatnonzero(labelled.record_ids == record_id)[0])
  positive = np.flatnonzero(labelled.columns['label'][row])
  names = ', '.join(labelled.class_names[k] for k in positive) or 'no class'
  return {
    'ecg': (one.read(0, 1)[0] - columns['baseline'][0]) / columns['gain'][0],
    'rate': rate,
    'leads': leads.LEADS,
    'title': f'{info.name} {record_id}: {names}',
    'synthetic': data.synthetic,
  }
