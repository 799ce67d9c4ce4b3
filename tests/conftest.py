"""Four virtual CPU devices, a kept compile cache, a compiler in a hurry.

A fast test compiles for seconds what then runs for milliseconds. With the
flags of `HURRY` it compiles faster and runs slower, and it may round otherwise,
so that a test of equal bits asks for the compiler that users have
(`synthesis/simulated.py`). Slow tests all have that.
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

import pytest  # noqa: E402

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
