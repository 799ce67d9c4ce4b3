"""Four virtual CPU devices and a persistent compile cache for all tests."""

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

RECORDINGS = ROOT.parent / 'shared' / 'data'


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
