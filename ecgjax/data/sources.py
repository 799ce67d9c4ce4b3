"""The data of one run: prepared if needed, opened, and audited."""

import logging
from typing import NamedTuple

import numpy as np

from ecgjax.data import input_pipeline, leakage, prepare
from ecgjax.data import splits as splits_lib

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
  splits: dict[str, input_pipeline.Split]
  labelled: dict[str, input_pipeline.Split]
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
  builder = prepare.open_builder(config.data)
  leakage.audit(builder, allow=config.data.allow_leak)
  splits = {
    name: input_pipeline.open_split(builder, name, config, keep_unlabelled=True)
    for name in SPLITS
  }
  labelled = {}
  for name in SPLITS:
    labelled[name] = input_pipeline.open_split(
      builder, name, config, records=records if name == 'train' else None
    )
    if config.data.single_label:
      split = labelled[name]
      single = split.columns['label'].sum(axis=1) == 1
      labelled[name] = input_pipeline.open_split(
        builder, name, config, records=set(split.record_ids[single])
      )
  for name, split in labelled.items():
    used = ', '.join(f'{v} {k}' for k, v in split.dropped.items() if v)
    logger.info(
      '%s %s: %d records, %d patients, %d with labels of task %s%s',
      builder.info.full_name,
      name,
      len(splits[name]),
      len(np.unique(splits[name].columns['patient'])),
      len(split),
      config.data.task,
      f' (left out: {used})' if used else '',
    )
  manifest = splits_lib.manifest(labelled['train'].record_ids)
  return Data(
    builder=builder,
    splits=splits,
    labelled=labelled,
    split_hash=splits_lib.split_manifest(builder)['sha256'],
    manifest_hash=manifest['sha256'],
    fingerprint=input_pipeline.fingerprint(splits['train'])['sha256'],
    synthetic=bool(builder.info.metadata.get('synthetic', False)),
  )
