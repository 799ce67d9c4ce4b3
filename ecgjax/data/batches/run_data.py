"""The data of one run: prepared if needed, opened, and audited."""

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ecgjax.data.batches import patients, shuffle, stream
from ecgjax.data.batches.on_device import load, train_batches
from ecgjax.data.batches.patient_index import PatientOptions
from ecgjax.data.batches.split import (
  Split,
  arguments,
  fingerprint,
  open_split,
  open_whole,
  require_labels,
)
from ecgjax.data.store import leakage, prepared
from ecgjax.data.store import splits as splits_lib
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract

logger = logging.getLogger(__name__)
SPLITS = ('train', 'validation', 'test')


class RunData(NamedTuple):
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
  splits: dict[str, Split]
  labelled: dict[str, Split]
  split_hash: str
  manifest_hash: str
  fingerprint: str
  synthetic: bool


def open_data(data, records=None) -> RunData:
  """Opens the data that a config names, building the data set on first use.

  Args:
    data: `config.data`.
    records: ids of the labelled training records to use; None for all.

  Raises:
    ValueError: if the data set is missing, does not fit the config, or has a
      patient or a signal in two splits (unless `config.data.allow_leak`).
  """
  builder = prepared.open_builder(data)
  leakage.audit(builder, allow=data.allow_leak)
  splits, labelled = {}, {}
  for name in SPLITS:
    opened = open_whole(builder, name, **arguments(data))
    splits[name] = opened.choose(keep_unlabelled=True)
    require_labels(builder, data.task)
    labelled[name] = opened.choose(records if name == 'train' else None)
    _log(builder, splits[name], labelled[name], data.task)
  manifest = splits_lib.manifest(labelled['train'].record_ids)
  return RunData(
    builder=builder,
    splits=splits,
    labelled=labelled,
    split_hash=splits_lib.split_manifest(builder)['sha256'],
    manifest_hash=manifest['sha256'],
    fingerprint=fingerprint(splits['train'])['sha256'],
    synthetic=bool(dict(builder.info.metadata.items()).get('synthetic')),
  )


def _log(builder, split: Split, labelled: Split, task: str) -> None:
  left_out = ', '.join(f'{v} {k}' for k, v in labelled.dropped.items() if v)
  logger.info(
    '%s %s: %d records, %d patients, %s%s',
    builder.info.full_name,
    split.name,
    len(split),
    len(np.unique(split.columns['patient'])),
    f'{len(labelled)} with labels of task {task}'
    if task
    else 'labels not used',
    f' (left out: {left_out})' if left_out else '',
  )


def require_task(task: str) -> None:
  """Raises a ValueError where labels are needed and no task is named."""
  if not task:
    raise ValueError(
      'config.data.task is empty: without labels there is nothing to train a '
      'classifier on and nothing to judge a model by'
    )


class Batches(NamedTuple):
  """What a run's loop reads, of records or of patients.

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
  train: Split,
  validation: Split,
  order: shuffle.Order,
  *,
  of_patients: PatientOptions | None = None,
  oversample: float = 0.0,
  on_device: bool = False,
  real: Split | None = None,
) -> Batches:
  """Batches of records, or of patients.

  Args:
    train: the training split.
    validation: the validation split.
    order: of the training rows; its `repeats` follow from `oversample`.
    of_patients: what a batch of patients holds; None for batches of records.
    oversample: share up to which rare classes are repeated; 0: not.
    on_device: keep the training signals in device memory (records only).
    real: the split whose epochs are the budget, where `train` holds generated
      ECGs as well; neither these nor `oversample` buy updates.

  Raises:
    ValueError: if `oversample` is no share, or the batches do not fit the
      split.
  """
  if of_patients is not None:
    if order.keep_remainder:
      raise ValueError(
        'config.keep_remainder: batches of patients have none to keep; set it '
        'to False'
      )
    size = order.batch_size
    return Batches(
      patients.steps_per_epoch(train, of_patients, size),
      lambda step: patients.train_batches(train, of_patients, order, step),
      lambda: patients.eval_batches(validation, of_patients, size),
    )
  if oversample:
    if not 0 < oversample < 1:
      raise ValueError(
        f'config.data.oversample is {oversample:g}; it is a share, like 0.1'
      )
    columns = train.columns
    order = order._replace(
      repeats=shuffle.repeats(
        columns['label'], columns['label_mask'], oversample
      )
    )
  if on_device:
    source = functools.partial(train_batches, train, load(train))
  else:
    source = functools.partial(stream.train_batches, train)
  eval_size = min(order.batch_size, len(validation))
  return Batches(
    shuffle.steps_per_epoch(
      len(train if real is None else real),
      order.batch_size,
      order.keep_remainder,
    ),
    lambda step: source(order, step),
    lambda: itertools.islice(
      stream.eval_batches(validation, eval_size),
      len(validation) // eval_size,
    ),
  )


def load_recording(data: RunData, split: str, record_id: str) -> dict:
  """One stored recording, as arguments of `ecg.plot.plot_ecg`."""
  info, rate = data.builder.info, data.builder.builder_config.rate
  contract = InputContract(rate, info.features['ecg'].shape[0], leads.LEADS)
  one = open_split(
    data.builder, split, contract, records=[record_id], keep_unlabelled=True
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
