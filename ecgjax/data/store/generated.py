"""TFDS builder of generated ECGs: what `--mode=generate` writes.

The record schema of the project, and beside it of whom a record was made, and
how. A data set holds one split, `train`, and is no data set of its own: it
belongs to the training split it was generated from (`split_sha256` in its
metadata) and is read by `data.batches.extra`. Everything in it is labelled
generated and synthetic.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from ecgjax.data.store import builder as builder_lib
from ecgjax.data.store import convert, prepared
from ecgjax.data.store.schema import record_features

SOURCE = 'generated'


class Child(NamedTuple):
  """One generated ECG.

  Attributes:
    record_id: unique in its data set.
    ecg: [L, 12] mV.
    labels: [A] uint8 over the stored statements of the parents' data set.
    label_mask: [A] uint8.
    parents: (record id, record id) of training records; '' where there is
      none.
    weight: lambda, that of the first parent.
    changed: share of code indices that no parent has at their place; nan
      where there are no codes.
    made_for: the class that needed it.
  """

  record_id: str
  ecg: np.ndarray
  labels: np.ndarray
  label_mask: np.ndarray
  parents: tuple[str, str]
  weight: float
  changed: float
  made_for: str


@dataclasses.dataclass(eq=False)
class GeneratedConfig(builder_lib.EcgConfig):
  """What to write; see `write`."""

  children: Sequence[Child] = dataclasses.field(default=(), repr=False)
  names: Sequence[str] = ()
  facts: dict = dataclasses.field(default_factory=dict, repr=False)


class GeneratedEcgs(builder_lib.EcgBuilder):
  """Generated ECGs, see the module."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILDER_CONFIGS = []
  LICENSE = 'That of the records it was made from'
  DESCRIPTION = (
    'GENERATED (synthetic) 12-lead ECGs, made by ecgjax from training records '
    'or by a simulator, to train on. No ECG of a patient.'
  )

  def label_names(self):
    return list(self.builder_config.names)

  def _info(self):
    config, scalar = self.builder_config, tfds.features.Scalar
    length = len(config.children[0].ecg)
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          **record_features(length, len(config.names)),
          'parent_a': tfds.features.Text(),
          'parent_b': tfds.features.Text(),
          'operator': tfds.features.Text(),
          'weight': scalar(np.float32),
          'changed': scalar(np.float32),
          'made_for': tfds.features.Text(),
        }
      ),
      license=self.LICENSE,
      metadata=tfds.core.MetadataDict(
        config.facts,
        label_names=self.label_names(),
        synthetic=True,
        generated=True,
      ),
    )

  def fetch(self, download_dir):
    return ''  # there is nothing to download

  def plan(self, raw_dir):
    del raw_dir
    self._children = {x.record_id: x for x in self.builder_config.children}
    entries = [
      builder_lib.Entry(
        record_id=child.record_id,
        path=f'{SOURCE}/{child.record_id}',
        split='train',
        source=SOURCE,
        labels=(child.labels, child.label_mask),
      )
      for child in self.builder_config.children
    ]
    return builder_lib.Plan(entries, [], 'record', self.label_names())

  def _accepted(self, entries):
    for entry in entries:
      result = convert.from_millivolts(self._children[entry.record_id].ecg)
      self._progress.update()
      self._tally.add(entry, result)
      yield entry, result

  def _finish(self):
    """Reports nothing: `generated.json` says what was rejected."""

  def _example(self, entry, result):
    child = self._children[entry.record_id]
    return super()._example(entry, result) | {
      'parent_a': child.parents[0],
      'parent_b': child.parents[1],
      'operator': self.builder_config.facts['operator'],
      'weight': np.float32(child.weight),
      'changed': np.float32(child.changed),
      'made_for': child.made_for,
    }


def write(
  folder, children: Sequence[Child], rate: float, label_names, facts: dict
) -> pathlib.Path:
  """Writes generated ECGs as a TFDS folder, at once or not at all.

  Args:
    folder: the data set is made below it; one that is there is replaced.
    children: at least one.
    rate: Hz.
    label_names: the A statements.
    facts: JSON-able; kept in the metadata. `operator` and `split_sha256` are
      needed.

  Returns:
    The TFDS folder.
  """
  config = GeneratedConfig(
    name=builder_lib.ecg_config(rate).name,
    rate=float(rate),
    children=children,
    names=tuple(label_names),
    facts=facts,
  )
  shutil.rmtree(pathlib.Path(folder) / GeneratedEcgs.name, ignore_errors=True)
  builder = GeneratedEcgs(config=config, data_dir=str(folder))
  prepared.write(builder)
  return pathlib.Path(builder.data_path)
