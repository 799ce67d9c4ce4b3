"""Four virtual CPU devices, a kept compile cache, a compiler in a hurry.

A fast test compiles for seconds what then runs for milliseconds. With the
flags of `HURRY` it compiles faster and runs slower, and it may round otherwise,
so that a test of equal bits asks for the compiler that users have
(`simulator/simulated.py`). Slow tests all have that.
"""

import os
import pathlib
import sys
import tempfile

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  os.path.join(tempfile.gettempdir(), 'ecgjax-test-cache'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `configs` is not part of the package

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from tests import shapes  # noqa: E402

shapes.install()

HURRY = (  # names that every supported jaxlib knows; others end the process
  '--xla_backend_optimization_level=0',
  '--xla_llvm_disable_expensive_passes=true',
)
RECORDINGS = ROOT.parent / 'shared' / 'data'


def pytest_configure(config):
  if config.option.markexpr == 'not slow':
    os.environ['XLA_FLAGS'] = ' '.join((os.environ['XLA_FLAGS'], *HURRY))


@pytest.fixture(scope='session')
def recordings() -> pathlib.Path:
  """Folder of real recordings; tests that need them skip without it."""
  if not RECORDINGS.is_dir():
    pytest.skip('no folder ../shared/data with real recordings')
  return RECORDINGS


@pytest.fixture(scope='session')
def synthetic_dir(tmp_path_factory) -> str:
  """Data folder in which the smallest synthetic data set is built once."""
  return str(tmp_path_factory.mktemp('synthetic'))


@pytest.fixture(scope='module')
def short_vgg():
  """VGG16-1D with two of its thirteen convolutions compiles fast."""
  from ecgjax.models import vgg1d

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(vgg1d, 'STAGES', ((64, 1), (512, 1)))
    yield


@pytest.fixture(scope='session')
def classes():
  """The eleven classes of the same 23 patients: 500 Hz, noise-free."""
  from tests.simulator import simulated

  return simulated.each_class(rate=500)


@pytest.fixture(scope='session')
def slow_classes():
  """`classes` at 100 Hz."""
  from tests.simulator import simulated

  return simulated.each_class(rate=100)


@pytest.fixture(scope='session')
def noisy_classes():
  """The eleven classes of 253 patients on another day: 100 Hz, with noise."""
  from ecgjax.simulator import simulator
  from tests.simulator import simulated

  names = np.repeat(simulator.CLASSES, simulated.EACH)
  with simulated.compiled_as_by_users():
    return simulated.simulate(
      names, np.arange(len(names)), 1, rate=100, noise=1.0, intra=0.5
    )


@pytest.fixture(scope='session')
def extras():
  """The extra classes of 14 patients: 500 Hz, noise-free."""
  from ecgjax.simulator import simulator
  from tests.simulator import simulated

  names = np.repeat(('NORM', *simulator.EXTRA_CLASSES), 14)
  return simulated.simulate(names, np.tile(np.arange(14), 18), rate=500)


@pytest.fixture(scope='session')
def data(tmp_path_factory):
  """The data set of `beating`, opened."""
  from tests.generation import beating

  folder = tmp_path_factory.mktemp('beating')
  return beating.open_data(beating.write(folder, range(beating.NUM_TRAIN)))
