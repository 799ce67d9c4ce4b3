"""Data sets are found as files, with defaults and options of their own."""

import importlib
import subprocess
import sys

import pytest

from ecgjax import config as config_lib
from ecgjax.config import datasets
from ecgjax.data import prepare
from ecgjax.data.store import prepared

ONE_FILE = '''
"""A data set."""
from ecgjax.data.store import builder


class NewSet(builder.EcgBuilder):
  """A data set."""

  DEFAULTS = {'task': 'MI', 'rate': 250.0}
  OPTIONS = {'new_csv': ('', 'a table, 100 % its own')}

  def label_names(self):
    return [self.option('new_csv')]
'''


@pytest.fixture
def new_set(tmp_path, monkeypatch):
  (tmp_path / 'new_set.py').write_text(ONE_FILE)
  (tmp_path / 'no_set.py').write_text('class Other: pass')
  package = importlib.import_module('ecgjax.data')
  path = [*package.__path__, str(tmp_path)]
  monkeypatch.setattr(package, '__path__', path)
  datasets.datasets.cache_clear()
  yield
  datasets.datasets.cache_clear()
  sys.modules.pop('ecgjax.data.new_set', None)


def test_those_there_are():
  found = datasets.datasets()
  assert set(found) == {
    'synthetic', 'ptbxl', 'cinc2021', 'wfdb_folder', 'mimic_iv_ecg', 'code15',
  }  # fmt: skip
  assert found['cinc2021'].defaults == {
    'rate': 100.0, 'length': 1000, 'task': 'scored',
  }  # fmt: skip
  assert set(datasets.options()) == {
    'sources', 'size', 'labels_csv', 'ptbxl_csv',
  }  # fmt: skip
  assert config_lib.PLACES == ('dir', 'raw_dir', 'ptbxl_csv', 'labels_csv')
  data = config_lib.common('ptbxl').data
  assert (data.task, data.size, data.sources) == ('superclass', '', ())
  assert config_lib.common('synthetic').data.size == 'small'


def test_a_new_one_with_an_option_is_one_file(new_set, tmp_path, capsys):
  assert 'no_set' not in datasets.datasets()
  assert 'new_csv' in datasets.places()
  config = config_lib.common('new_set')
  assert (config.data.task, config.data.rate) == ('MI', 250.0)
  config.data.dir, config.data.new_csv = str(tmp_path / 'data'), 'labels'
  builder = prepared.builder_of(config.data)
  assert builder.builder_config.name == '250hz'
  assert builder.info.metadata['label_names'] == ['labels']
  with pytest.raises(ValueError, match='ptbxl has no option new_csv'):
    prepare.run(['--dataset=ptbxl', '--new_csv=x', f'--data_dir={tmp_path}'])
  with pytest.raises(SystemExit):
    prepare.run(['--help'])
  assert '100 % its own' in ' '.join(capsys.readouterr().out.split())


def test_they_are_read_without_tensorflow():
  code = (
    'import sys; from ecgjax.config import datasets; datasets.options(); '
    "assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, '-c', code], check=True)
