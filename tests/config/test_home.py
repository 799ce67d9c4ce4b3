"""`~` means the home folder in every path of a config."""

import ml_collections
import pytest

from ecgjax import checkpoints
from ecgjax.config import check
from ecgjax.data.store import prepared


def test_every_path_of_a_config(monkeypatch):
  monkeypatch.setenv('HOME', '/h')
  config = ml_collections.ConfigDict(
    {'init_from': '~/a', 'data': {'dir': '~', 'extra': ('~/b', 'c'), 'k': 3},
     'task': '~x', 'edges': (1.0, 2.0)}
  )  # fmt: skip
  config.lock()
  check.expand_home(config)
  assert config.init_from == '/h/a' and config.task == '~x'
  assert config.data.to_dict() == {'dir': '/h', 'extra': ('/h/b', 'c'), 'k': 3}


def test_paths_of_the_library(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'l.csv').write_text('record,AF\nr0,1\n')
  builder = prepared.make_builder('wfdb_folder', labels_csv='~/l.csv')
  assert builder.option('labels_csv') == str(tmp_path / 'l.csv')
  with pytest.raises(ValueError, match=str(tmp_path / 'run')):
    checkpoints.load('~/run')
