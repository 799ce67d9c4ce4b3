"""Simulated records that the tests of this folder share."""

import beating
import numpy as np
import pytest
import simulated

from ecgjax.synthesis import simulator


@pytest.fixture(scope='session')
def classes() -> simulated.Records:
  """The eleven classes of the same 23 patients: 500 Hz, noise-free."""
  return simulated.each_class(rate=500)


@pytest.fixture(scope='session')
def slow_classes() -> simulated.Records:
  """`classes` at 100 Hz."""
  return simulated.each_class(rate=100)


@pytest.fixture(scope='session')
def noisy_classes() -> simulated.Records:
  """The eleven classes of 253 patients on another day: 100 Hz, with noise."""
  names = np.repeat(simulator.CLASSES, simulated.EACH)
  with simulated.compiled_as_by_users():
    return simulated.simulate(
      names, np.arange(len(names)), 1, rate=100, noise=1.0, intra=0.5
    )


@pytest.fixture(scope='session')
def extras() -> simulated.Records:
  """The extra classes of 14 patients: 500 Hz, noise-free."""
  names = np.repeat(('NORM', *simulator.EXTRA_CLASSES), 14)
  return simulated.simulate(names, np.tile(np.arange(14), 18), rate=500)


@pytest.fixture(scope='session')
def data(tmp_path_factory):
  """The data set of `beating`, opened."""
  folder = tmp_path_factory.mktemp('beating')
  return beating.open_data(beating.write(folder, range(beating.NUM_TRAIN)))
