"""The record table, and shards that are not what they should be."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ecgjax.data.store import records
from tests.data import tiny_dataset


@pytest.fixture(scope='module')
def examples():
  return [tiny_dataset.make_example(i) for i in range(10)]


@pytest.fixture(scope='module')
def builder(examples, tmp_path_factory):
  directory = tmp_path_factory.mktemp('table') / 'tiny' / '1.0.0'
  return tiny_dataset.write(directory, {'train': examples})


def test_table_holds_every_field_but_the_signal(builder, examples):
  found = records.read_table(builder, 'train')
  assert set(found) == set(examples[0]) - {'ecg'}
  for name, column in found.items():
    expected = np.array([example[name] for example in examples])
    np.testing.assert_array_equal(column, expected, err_msg=name)
  for name in ('gain', 'baseline', 'fs', 'time', 'age'):
    assert found[name].dtype == np.float32
  assert found['labels'].dtype == np.uint8
  assert found['lead_mask'].dtype == bool
  assert found['record'].dtype == np.int32


def test_table_agrees_with_tfds_own_decoder(builder):
  found = records.read_table(builder, 'train')
  decoded = list(builder.as_dataset('train').as_numpy_iterator())
  assert len(decoded) == 10
  for i, example in enumerate(decoded):
    for name, column in found.items():
      value = example[name]
      value = value.decode() if isinstance(value, bytes) else value
      np.testing.assert_array_equal(column[i], value, err_msg=name)


def test_table_is_shared_and_cannot_be_written(builder):
  first = records.read_table(builder, 'train')
  assert first['record'] is records.read_table(builder, 'train')['record']
  with pytest.raises(ValueError, match='read-only'):
    first['record'][0] = 1


def test_read_shards_yields_the_signal_in_order(builder, examples):
  files, lengths = records.shards(builder, 'train')
  assert lengths == (4, 3, 3)
  (batch,) = records.read_shards(files[1:], lengths[1:], ('ecg', 'record'))
  assert batch['ecg'].dtype == np.int16
  np.testing.assert_array_equal(batch['record'], np.arange(4, 10))
  np.testing.assert_array_equal(
    batch['ecg'], [example['ecg'] for example in examples[4:]]
  )


def test_data_set_without_labels(tmp_path):
  none = np.zeros(0, np.uint8)
  examples = [
    tiny_dataset.make_example(i, labels=none, label_mask=none) for i in range(3)
  ]
  builder = tiny_dataset.write(
    tmp_path / 'tiny' / '1.0.0', {'train': examples}, label_names=()
  )
  assert records.read_table(builder, 'train')['labels'].shape == (3, 0)


def test_unknown_split_lists_the_splits(builder):
  with pytest.raises(
    ValueError, match="no record in split 'test', only in train"
  ):
    records.shards(builder, 'test')


def corrupt(path, kind, position):
  data = bytearray(path.read_bytes())
  if kind == 'flip':
    data[position % len(data)] ^= 1 << position % 8
  elif kind == 'truncate':
    del data[-(1 + position % (len(data) - 1)) :]
  elif kind == 'drop last record':
    del data[-(len(data) // 3) :]  # three records of one length
  elif kind == 'append a record':
    data += data[-(len(data) // 3) :]
  path.write_bytes(data)


@pytest.fixture(scope='module')
def equal_records(tmp_path_factory):
  """Records of equal bytes: cutting one off leaves no trace but the count."""
  directory = tmp_path_factory.mktemp('equal') / 'tiny' / '1.0.0'
  examples = [tiny_dataset.make_example(8) for _ in range(9)]
  tiny_dataset.write(directory, {'train': examples})
  return directory


@pytest.mark.parametrize(
  'kind, position',
  [('flip', p) for p in (0, 9, 12, 700, 3001, 4999)]
  + [('truncate', p) for p in (0, 5, 1700)]
  + [('drop last record', 0), ('append a record', 0), ('missing', 0)],
)
def test_damaged_shard_is_named(equal_records, tmp_path, kind, position):
  directory = tmp_path / 'tiny' / '1.0.0'
  shutil.copytree(equal_records, directory)
  builder = tfds.builder_from_directory(directory)
  path = sorted(directory.glob('*tfrecord*'))[1]
  if kind == 'missing':
    path.unlink()
  else:
    corrupt(path, kind, position)
  with pytest.raises(records.CorruptShard, match='prepare the data') as error:
    records.read_table(builder, 'train')
  assert path.name in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.slow
def test_every_flipped_bit_is_found(equal_records, tmp_path):
  directory = tmp_path / 'tiny' / '1.0.0'
  shutil.copytree(equal_records, directory)
  files, lengths = records.shards(
    tfds.builder_from_directory(directory), 'train'
  )
  path = sorted(directory.glob('*tfrecord*'))[2]
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  for position in rng.integers(0, len(whole), 100):
    corrupt(path, 'flip', position)
    with pytest.raises(records.CorruptShard, match=path.name):
      list(records.read_shards(files, lengths, ('ecg',)))
    path.write_bytes(whole)
