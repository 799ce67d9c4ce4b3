"""Simulated records for tests.

Every batch has 256 rows, so that XLA compiles once per rate.
"""

import contextlib
from typing import NamedTuple

import jax
import numpy as np
import pytest

from ecgjax.simulator import simulator

ROWS = 256
SEED = 3
EACH = 23  # records of each of the eleven classes


class Records(NamedTuple):
  """N records: ecg [N, L, 12] mV, ground truth, class names, patients [N]."""

  ecg: np.ndarray
  truth: simulator.Truth
  labels: np.ndarray
  patients: np.ndarray
  rate: int

  def of(self, *labels) -> 'Records':
    rows = np.isin(self.labels, labels)
    return self._replace(
      ecg=self.ecg[rows],
      truth=simulator.Truth(*(x[rows] for x in self.truth)),
      labels=self.labels[rows],
      patients=self.patients[rows],
    )


def simulate(
  names, patients, records=0, *, rate, noise=0.0, intra=0.0, seed=SEED
) -> Records:
  """Simulates up to 256 records; a name may be 'AF+LBBB'."""
  names, patients = np.array(names), np.array(patients)
  factors = np.stack([simulator.factors(*name.split('+')) for name in names])
  records = np.broadcast_to(records, len(names))
  rest = ROWS - len(names)
  assert rest >= 0
  pad = lambda x: np.concatenate([x, np.repeat(x[:1], rest, axis=0)])
  config = simulator.Config(rate, 10 * rate, noise=noise, intra=intra)
  ecg, truth = simulator.batch(
    seed, pad(patients), pad(records), pad(factors), config
  )
  keep = slice(len(names))
  truth = simulator.Truth(*(np.asarray(x)[keep] for x in truth))
  return Records(np.asarray(ecg)[keep], truth, names, patients, rate)


@contextlib.contextmanager
def compiled_as_by_users():
  """Equal bits are promised of XLA's defaults, not of `conftest.HURRY`."""
  options = {
    'xla_backend_optimization_level': 3,
    'xla_llvm_disable_expensive_passes': False,
  }
  batch = jax.jit(
    simulator._batch.__wrapped__,
    static_argnames=('recorder', 'only_truth'),
    compiler_options=options,
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(simulator, '_batch', batch)
    yield


def each_class(**options) -> Records:
  """The eleven classes of the same 23 patients."""
  names = np.repeat(simulator.CLASSES, EACH)
  return simulate(names, np.tile(np.arange(EACH), 11), **options)
