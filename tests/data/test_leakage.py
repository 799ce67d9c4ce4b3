"""The audit finds what was planted and nothing else."""

import numpy as np
import pytest

from ecgjax.data.store import leakage
from tests.data import tiny_dataset


def make_part(records, **changes):
  """A record table; every record its own patient and its own signal."""
  table = {
    'record_id': np.array(records),
    'patient_id': np.array([f'p{name}' for name in records]),
    'content_hash': np.array([f'h{name}' for name in records]),
    'source': np.array(['tiny'] * len(records)),
  }
  return table | {k: np.array(v) for k, v in changes.items()}


def test_clean_splits_pass():
  parts = {
    'tiny/train': make_part(['a', 'b'], patient_id=['p', 'p']),
    'tiny/validation': make_part(['c']),
    'tiny/test': make_part(['d', 'e']),
    # Patient numbers of two data sets mean nothing to each other.
    'other/test': make_part(['f'], patient_id=['p']),
  }
  assert leakage.find_leaks(parts) == {}


@pytest.mark.parametrize('split', ['validation', 'test'])
def test_shared_patient(split):
  parts = {
    'tiny/train': make_part(['a', 'b', 'c'], patient_id=['p', 'q', 'q']),
    f'tiny/{split}': make_part(['d', 'e'], patient_id=['q', 's']),
  }
  assert leakage.find_leaks(parts) == {
    'patient': [['tiny/train', 'b', f'tiny/{split}', 'd']]
  }


def test_copy_under_other_ids_and_in_another_data_set():
  parts = {
    'tiny/train': make_part(['a', 'b']),
    'tiny/test': make_part(['c', 'd']),
    'other/train': make_part(['x', 'y', 'z'], content_hash=['1', 'hd', 'hb']),
  }
  assert leakage.find_leaks(parts) == {
    'signal': [['tiny/test', 'd', 'other/train', 'y']]
  }


def test_ptbxl_inside_cinc2021():
  """HR00042 is ECG 42, at another rate and so with another hash."""
  parts = {
    'ptbxl/train': make_part(['7'], source=['ptbxl']),
    'ptbxl/test': make_part(['42', '43'], source=['ptbxl'] * 2),
    'cinc2021/train': make_part(
      ['HR00042', 'HR00007', 'JS00043'],
      source=['ptb-xl', 'ptb-xl', 'ningbo'],
    ),
  }
  assert leakage.find_leaks(parts) == {
    'ptbxl': [['ptbxl/test', '42', 'cinc2021/train', 'HR00042']]
  }


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
  """Test record r008 copied into train as r100 of a new patient."""
  directory = tmp_path_factory.mktemp('leak') / 'tiny' / '1.0.0'
  copy = tiny_dataset.make_example(8)
  copy |= {'record': 100, 'record_id': 'r100', 'patient_id': 'p100'}
  train = [tiny_dataset.make_example(i) for i in range(6)]
  test = [tiny_dataset.make_example(i) for i in range(6, 12)]
  return tiny_dataset.write(directory, {'train': [*train, copy], 'test': test})


def test_planted_copy_is_refused_in_one_line(planted):
  with pytest.raises(leakage.Leak) as error:
    leakage.audit(planted)
  assert isinstance(error.value, ValueError)
  message = str(error.value)
  assert 'same signal: tiny/train r100 = tiny/test r008' in message
  assert 'allow_leak' in message and '\n' not in message


def test_allowed_leak_is_reported(planted):
  assert leakage.audit(planted, allow=True) == {
    'signal': [['tiny/train', 'r100', 'tiny/test', 'r008']]
  }


def test_many_leaks_are_counted():
  numbers = [str(i) for i in range(10)]
  leaks = leakage.find_leaks(
    {
      'tiny/train': make_part(numbers),
      'tiny/test': make_part(numbers),
    }
  )
  assert {kind: len(pairs) for kind, pairs in leaks.items()} == {
    'patient': 10,
    'signal': 10,
  }
