"""A data set in one file: NPY files named <patient>-<AF or NORM>.npy."""

import os
import pathlib

import numpy as np

from ecgjax.data.store import builder
from ecgjax.ecg.leads import LEADS
from ecgjax.ecg.recording import Recording


def read(path: str, root: str) -> Recording:
  """[T, 12] millivolts at 100 Hz."""
  ecg = np.load(os.path.join(root, path))
  samples = np.round(1000 * ecg).astype(np.int16)
  return Recording(samples, np.full(12, 1e3), np.zeros(12), 100.0, LEADS)


class NpyFolder(builder.EcgBuilder):
  """Every third patient is for validation, every third for the test."""

  READ = staticmethod(read)

  def label_names(self):
    return ['AF']

  def plan(self, raw_dir):
    entries = []
    for path in sorted(pathlib.Path(raw_dir).glob('*.npy')):
      patient, label = path.stem.split('-')
      entries.append(
        builder.Entry(
          record_id=path.stem,
          path=path.name,
          split=builder.SPLITS[int(patient) % 3],
          source='npy_folder',
          patient_id=patient,
          labels=(np.uint8([label == 'AF']), np.ones(1, np.uint8)),
        )
      )
    return builder.Plan(entries, [], 'patient', self.label_names())
