"""The record schema of the project, as TFDS features."""

from collections.abc import Iterable

import numpy as np
import tensorflow_datasets as tfds


def record_features(length: int, num_labels: int) -> tfds.features.FeaturesDict:
  """The record schema of the project.

  Args:
    length: samples per lead, T.
    num_labels: statements that the corpus knows, A; at least one.
  """
  as_bytes = tfds.features.Encoding.BYTES

  def tensor(dtype, *shape, encoding=tfds.features.Encoding.NONE):
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=encoding)

  # Default integers would become int64: 2.3 times the bytes of the signal.
  return tfds.features.FeaturesDict(
    {
      'ecg': tensor(np.int16, length, 12, encoding=as_bytes),
      'gain': tensor(np.float32, 12),  # units/mV
      'baseline': tensor(np.float32, 12),  # units; mV = (ecg - baseline) / gain
      'fs': tensor(np.float32),  # Hz
      'lead_mask': tensor(np.bool_, 12),
      'valid_start': tensor(np.int32),
      'valid_len': tensor(np.int32),
      'record': tensor(np.int32),  # position among all record ids
      'record_id': tfds.features.Text(),
      'patient': tensor(np.int32),  # position among all patient ids
      'patient_id': tfds.features.Text(),
      'time': tensor(np.float32),  # days since the patient's first; -1 unknown
      'age': tensor(np.float32),  # years; nan unknown
      'sex': tensor(np.int32),  # 0 male, 1 female, -1 unknown
      'labels': tensor(np.uint8, num_labels, encoding=as_bytes),
      'label_mask': tensor(np.uint8, num_labels, encoding=as_bytes),
      'fold': tensor(np.int32),  # -1: none
      'limb_residual': tensor(np.float32),  # uV, 95th percentile
      'content_hash': tfds.features.Text(),
      'source': tfds.features.Text(),
    }
  )


def positions(ids: Iterable[str]) -> dict[str, int]:
  """Position of each id among all, numbers in numerical order."""
  order = sorted(set(ids), key=lambda name: (len(name), name))
  return {name: i for i, name in enumerate(order)}
