"""Batches: values, order, resume, hosts, padding, and the resident mode."""

import itertools

import jax
import numpy as np
import pytest

from ecgjax.data.batches import on_device as on_device_lib
from ecgjax.data.batches import shuffle, stream
from ecgjax.data.batches import split as split_lib
from ecgjax.data.store import records as records_lib
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract, to_model_input
from tests.data import tiny_dataset

NUM_TRAIN = 43
# Windows of at least one shard: the training split is streamed in five.
STREAMED = 9 * tiny_dataset.LENGTH * 12 * 2 / 2**30  # GiB


def make_contract(**changes):
  fields = {'rate': 100.0, 'length': 40, 'leads': ('V2', 'II', 'aVR')}
  return InputContract(**fields | {'normalisation': 'record'} | changes)


def open_split(builder, task='all', **options):
  return split_lib.open_split(
    builder, 'train', make_contract(), task, **options
  )


@pytest.fixture(scope='module')
def examples():
  """Training records; two lack a lead, one is of a patient without labels."""
  found = [tiny_dataset.make_example(i) for i in range(NUM_TRAIN)]
  found[5]['lead_mask'][leads.LEADS.index('V2')] = False
  found[6]['lead_mask'][leads.LEADS.index('V6')] = False
  found[7]['label_mask'][:] = 0
  found[7]['labels'][:] = 0
  return found


@pytest.fixture(scope='module')
def builder(examples, tmp_path_factory):
  directory = tmp_path_factory.mktemp('pipeline') / 'tiny' / '1.0.0'
  validation = [tiny_dataset.make_example(i) for i in range(100, 111)]
  splits = {'train': examples, 'validation': validation}
  return tiny_dataset.write(directory, splits, num_shards=5)


@pytest.fixture(scope='module', params=['kept', 'streamed'])
def split(request, builder):
  size = STREAMED if request.param == 'streamed' else 1.0
  split = open_split(builder, window_gib=size)
  assert split.kept == (request.param == 'kept')
  assert len(np.unique(split.window)) == (1 if split.kept else 5)
  return split


def take(batches, count):
  return list(itertools.islice(batches, count))


def assert_same(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)
      assert np.asarray(a[name]).dtype == b[name].dtype, name


def records(batches):
  return [batch['record'].tolist() for batch in batches]


def check_row(batch, i, example):
  """Row i of a batch against the example that was written, field by field."""
  where = [7, 1, 3]  # V2, II, aVR
  assert leads.LEADS[7] == 'V2' and leads.LEADS[3] == 'aVR'
  expected = {
    'ecg': example['ecg'][:40][:, where],
    'gain': example['gain'][where],
    'baseline': example['baseline'][where],
    'valid_start': 0,
    'valid_len': min(example['valid_len'], 40),
    'record': example['record'],
    'patient': example['patient'],
    'label': example['labels'],
    'label_mask': example['label_mask'],
    'mask': 1.0,
  }
  assert batch.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(batch[name][i], value, err_msg=name)


def test_values_and_types_of_a_training_epoch(split, examples):
  steps = shuffle.steps_per_epoch(len(split), 8)
  assert (len(split), steps) == (41, 5)
  seen = []
  for batch in take(stream.train_batches(split, shuffle.Order(8, 0)), steps):
    for name, dtype in {
      'ecg': np.int16, 'gain': np.float32, 'baseline': np.float32,
      'valid_start': np.int32, 'valid_len': np.int32, 'record': np.int32,
      'patient': np.int32, 'mask': np.float32, 'label': np.float32,
      'label_mask': np.float32,
    }.items():  # fmt: skip
      assert batch[name].dtype == dtype, name
    assert batch['ecg'].shape == (8, 40, 3)
    for i, record in enumerate(batch['record']):
      check_row(batch, i, examples[record])
    seen += batch['record'].tolist()
  assert len(set(seen)) == 40  # every record at most once
  assert not set(seen) & {5, 7}


def test_order_depends_on_seed_and_epoch_only(split):
  epochs = records(take(stream.train_batches(split, shuffle.Order(8, 3)), 15))
  again = records(take(stream.train_batches(split, shuffle.Order(8, 3)), 15))
  other = records(take(stream.train_batches(split, shuffle.Order(8, 4)), 5))
  assert epochs == again
  assert epochs[:5] != epochs[5:10] != epochs[10:]
  assert epochs[:5] != other


def test_remainder_of_an_epoch_is_a_smaller_batch(split):
  order = shuffle.Order(9, 3, keep_remainder=True)
  steps = shuffle.steps_per_epoch(len(split), 9, keep_remainder=True)
  assert steps == 5 == shuffle.steps_per_epoch(len(split), 9) + 1
  # 41 rows: one of them alone has no variance.
  assert shuffle.steps_per_epoch(len(split), 8, keep_remainder=True) == 5
  whole = take(stream.train_batches(split, order), 11)
  assert [len(batch['record']) for batch in whole] == [9, 9, 9, 9, 5] * 2 + [9]
  for epoch in (whole[:5], whole[5:10]):
    assert len(set(sum(records(epoch), []))) == 41
  dropped = take(stream.train_batches(split, shuffle.Order(9, 3)), 8)
  assert_same(whole[:4] + whole[5:9], dropped)
  for start in (3, 4, 5, 9):
    resumed = stream.train_batches(split, order, start)
    assert_same(take(resumed, 11 - start), whole[start:])
  arrays = on_device_lib.load(split)
  on_device = on_device_lib.train_batches(split, arrays, order)
  assert_same(take(on_device, 11), whole)
  with pytest.raises(ValueError, match='keep_remainder needs one process'):
    stream.train_batches(split, order._replace(process_count=2))


def test_single_label_records_have_exactly_one(builder):
  split = open_split(builder, single_label=True)
  count = split.columns['label'].sum(axis=1)
  assert (count == 1).all()
  everything = open_split(builder)
  labels = everything.columns['label'].sum(axis=1)
  assert split.dropped['no label'] == (labels == 0).sum() > 0
  assert split.dropped['several labels'] == (labels > 1).sum() > 0


def test_windows_are_as_large_as_the_config_says(builder):
  def windows(**options):
    return len(np.unique(open_split(builder, **options).window))

  assert windows() == 1
  assert windows(window_gib=STREAMED) == 5
  with pytest.raises(ValueError, match='window_gib is 0; it must be above 0'):
    windows(window_gib=0.0)


def test_resume_skips_to_the_step(split):
  whole = take(stream.train_batches(split, shuffle.Order(8, 1)), 14)
  for start in (4, 5, 13):
    rest = stream.train_batches(split, shuffle.Order(8, 1), start)
    assert_same(take(rest, 14 - start), whole[start:])


def test_hosts_together_read_the_batches_of_one(split):
  hosts = 4
  whole = take(stream.train_batches(split, shuffle.Order(8, 1)), 11)
  parts = [
    take(
      stream.train_batches(split, shuffle.Order(8, 1, host, hosts)),
      11,
    )
    for host in range(hosts)
  ]
  joined = [
    {name: np.concatenate([p[name] for p in group]) for name in group[0]}
    for group in zip(*parts)
  ]
  assert_same(joined, whole)
  parts = [
    stream.eval_batches(split, 8, process_index=host, process_count=hosts)
    for host in range(hosts)
  ]
  joined = [
    {name: np.concatenate([p[name] for p in group]) for name in group[0]}
    for group in zip(*parts)
  ]
  assert_same(joined, list(stream.eval_batches(split, 8)))


def test_evaluation_counts_every_record_once(split, examples):
  batches = list(stream.eval_batches(split, 8))
  assert len(batches) == 6
  for batch in batches:
    assert batch['ecg'].shape == (8, 40, 3)
    for i in np.flatnonzero(batch['mask']):
      check_row(batch, i, examples[batch['record'][i]])
  mask = np.concatenate([batch['mask'] for batch in batches])
  assert mask.tolist() == [1.0] * 41 + [0.0] * 7
  seen = np.concatenate([batch['record'] for batch in batches])[mask > 0]
  assert seen.tolist() == [i for i in range(NUM_TRAIN) if i not in (5, 7)]


def test_resident_batches_are_the_same_bits(split):
  arrays = on_device_lib.load(split)
  assert arrays['ecg'].dtype == np.int16
  for start in (0, 7):
    order = shuffle.Order(8, 2)
    found = on_device_lib.train_batches(split, arrays, order, start)
    expected = stream.train_batches(split, order, start)
    found = take(found, 8)
    assert all(isinstance(x, jax.Array) for x in found[0].values())
    assert_same(found, take(expected, 8))
  for host in (0, 1):
    options = {'process_index': host, 'process_count': 2}
    assert_same(
      list(on_device_lib.eval_batches(split, arrays, 8, **options)),
      list(stream.eval_batches(split, 8, **options)),
    )


def test_any_rows_in_any_order(split, examples):
  rows = np.array([[40, 0], [21, 40], [3, 3]])
  batches = list(stream.batches(split, [rows[:2], rows[2:]]))
  kept = [i for i in range(NUM_TRAIN) if i not in (5, 7)]
  assert records(batches) == [[kept[i] for i in pair] for pair in rows]
  for batch in batches:
    for i, record in enumerate(batch['record']):
      check_row(batch, i, examples[record])


def test_windows_stay_together_and_are_shuffled(builder):
  split = open_split(builder, window_gib=STREAMED)
  firsts = set()
  for epoch in range(20):
    rows = shuffle.epoch_order(split.position, split.window, 0, epoch)
    assert sorted(rows) == list(range(41))
    runs = [w for w, _ in itertools.groupby(split.window[rows].tolist())]
    assert sorted(runs) == [0, 1, 2, 3, 4]
    firsts.add(runs[0])
  assert len(firsts) > 2


def test_order_is_uniform():
  rows, epochs = 12, 3000
  window = np.zeros(rows, int)
  counts = np.zeros((rows, rows))
  for epoch in range(epochs):
    found = shuffle.epoch_order(np.arange(rows), window, 7, epoch)
    counts[found, np.arange(rows)] += 1
  # 121 degrees of freedom: mean 121, standard deviation 15.6.
  statistic = ((counts - epochs / rows) ** 2 / (epochs / rows)).sum()
  assert 121 - 4 * 15.6 < statistic < 121 + 4 * 15.6


def test_order_is_the_same_on_every_machine():
  """Hard-coded, computed by the plain Python integers below."""
  import hashlib

  def mix(x):
    x = x * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)

  digest = hashlib.sha256(b'ecgjax-order-v1|5|2').digest()
  record_key = int.from_bytes(digest[:8], 'little')
  window_key = int.from_bytes(digest[8:16], 'little')
  position = [3, 4, 9, 10, 11, 20, 21]
  window = [0, 0, 0, 1, 1, 2, 2]
  expected = sorted(
    range(7),
    key=lambda i: (
      mix((window[i] + window_key) % 2**64),
      mix((position[i] + record_key) % 2**64),
    ),
  )
  found = shuffle.epoch_order(np.array(position), np.array(window), 5, 2)
  assert found.tolist() == expected == [3, 4, 0, 2, 1, 5, 6]


def test_subset_of_records(builder, examples):
  chosen = {'r003', 'r017', 'r040', 'r041'}
  for window_gib in (1.0, STREAMED):
    split = open_split(builder, records=chosen, window_gib=window_gib)
    assert split.record_ids.tolist() == sorted(chosen)
    assert split.dropped['not in subset'] == NUM_TRAIN - 4
    batches = take(stream.train_batches(split, shuffle.Order(2, 0)), 4)
    assert sorted(sum(records(batches[:2]), [])) == [3, 17, 40, 41]
    for batch in batches:
      for i, record in enumerate(batch['record']):
        check_row(batch, i, examples[record])
  with pytest.raises(ValueError, match="1 records of .* first is 'r999'"):
    open_split(builder, records={'r999'})


def test_records_are_taken_from_an_open_split(builder):
  """As if they had been chosen when it was opened: rows, windows, signals."""
  chosen = [f'r{i:03d}' for i in range(2, NUM_TRAIN, 3)]
  for gib in (1.0, STREAMED):
    whole = open_split(builder, window_gib=gib)
    rows = np.isin(whole.record_ids, chosen)
    taken, opened = (
      whole.take(rows),
      open_split(builder, records=whole.record_ids[rows], window_gib=gib),
    )
    assert split_lib.fingerprint(taken) == split_lib.fingerprint(opened)
    assert taken.kept == opened.kept
    for name in ('position', 'window', 'times', 'record_ids'):
      np.testing.assert_array_equal(getattr(taken, name), getattr(opened, name))
    np.testing.assert_array_equal(taken.times, taken.columns['record'])
    assert_same(*(list(stream.eval_batches(x, 4)) for x in (taken, opened)))
  with pytest.raises(ValueError, match=r'no usable train record .*subset: 41'):
    whole.take(np.zeros(41, bool))


def test_pretraining_keeps_records_without_labels(builder):
  supervised = open_split(builder)
  pretraining = open_split(builder, keep_unlabelled=True)
  assert set(pretraining.record_ids) - set(supervised.record_ids) == {'r007'}
  assert supervised.dropped['not annotated for the task'] == 1
  assert pretraining.dropped == {'missing lead': 1}
  assert supervised.class_names == tiny_dataset.LABEL_NAMES
  single = open_split(builder, single_label=True)
  assert (single.columns['label'].sum(axis=1) <= 1).all()
  assert single.dropped['several labels'] == 7  # odd multiples of 3


def test_without_a_task_there_is_no_label(builder):
  split = open_split(builder, task='')
  (batch,) = take(stream.train_batches(split, shuffle.Order(4, 0)), 1)
  assert 'label' not in batch and split.class_names == ()


def test_task_that_only_labelled_records_belong_to(tmp_path):
  """PTB-XL drops records without a statement of the task."""
  names = ('NORM', 'IMI', 'ASMI', 'NDT', 'LAFB', 'LVH', 'AFIB')
  labels = np.eye(7, dtype=np.uint8)[[0, 1, 2, 6, 3, 6]]
  rows = [
    tiny_dataset.make_example(i, labels=bits, label_mask=np.ones(7, np.uint8))
    for i, bits in enumerate(labels)
  ]
  builder = tiny_dataset.write(
    tmp_path / 'tiny' / '1.0.0', {'train': rows}, label_names=names
  )
  split = open_split(builder, task='superclass')
  assert split.dropped['no label of the task'] == 2
  assert split.class_names == ('NORM', 'MI', 'STTC', 'CD', 'HYP')
  (batch,) = stream.eval_batches(split, 4)
  assert batch['label'].argmax(axis=1).tolist() == [0, 1, 1, 2]


def test_batch_fits_the_input_contract(split):
  batch = next(stream.eval_batches(split, 4))
  ecg = np.asarray(to_model_input(batch, make_contract())['ecg'])
  millivolts = (batch['ecg'] - batch['baseline'][:, None]) / batch['gain'][
    :, None
  ]
  for row, length, found in zip(millivolts, batch['valid_len'], ecg):
    valid = row[:length].astype(float)
    expected = (row - valid.mean()) / (valid.std() + 1e-5)
    np.testing.assert_allclose(found[:length], expected[:length], atol=1e-5)
    assert (found[length:] == 0).all()


def test_fingerprint_changes_with_the_data_only(builder, examples, tmp_path):

  def fingerprint(builder, **options):
    return split_lib.fingerprint(open_split(builder, **options))

  found = fingerprint(builder)
  assert found['num_examples'] == 41 and len(found['sha256']) == 64
  moved = tiny_dataset.write(
    tmp_path / 'tiny' / '1.0.0', {'train': examples}, num_shards=2
  )
  assert fingerprint(moved) == found
  assert fingerprint(builder, window_gib=STREAMED) == found
  assert fingerprint(builder, records={'r001'}) != found
  changed = [dict(example) for example in examples]
  changed[20] = tiny_dataset.make_example(
    20, ecg=examples[20]['ecg'] + 1, content_hash='another'
  )
  other = tiny_dataset.write(
    tmp_path / 'other' / 'tiny' / '1.0.0', {'train': changed}
  )
  assert fingerprint(other)['sha256'] != found['sha256']
  assert fingerprint(other)['num_examples'] == 41


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'rate': 500.0}, r'stored at 100 Hz .* is 500; prepare it with --rate'),
    ({'length': 51}, r'stores 50 samples .*length is 51; choose 1 to 50'),
    ({'length': 0}, 'choose 1 to 50'),
    ({'leads': ('II', 'V7')}, "'V7' is not a standard lead"),
    ({'leads': ('II', 'ii')}, 'duplicate lead'),
    ({'task': 'superclass'}, 'superclass'),
  ],
)
def test_what_does_not_fit_is_refused(builder, changes, message):
  changes = dict(changes)
  task = changes.pop('task', 'all')
  with pytest.raises(ValueError, match=message) as error:
    split_lib.open_split(builder, 'train', make_contract(**changes), task)
  assert '\n' not in str(error.value)


def test_batch_sizes_that_do_not_fit(split):
  with pytest.raises(ValueError, match='has 41 usable records'):
    stream.train_batches(split, shuffle.Order(42, 0))
  with pytest.raises(ValueError, match='multiple of the number of processes'):
    stream.train_batches(split, shuffle.Order(9, 0, 0, 2))
  with pytest.raises(ValueError, match='batch_size is 0'):
    stream.eval_batches(split, 0)


def test_shard_damaged_during_training_is_named(examples, tmp_path):
  directory = tmp_path / 'tiny' / '1.0.0'
  builder = tiny_dataset.write(directory, {'train': examples}, num_shards=5)
  split = open_split(builder, window_gib=STREAMED)
  path = sorted(directory.glob('*tfrecord*'))[3]
  data = bytearray(path.read_bytes())
  data[2000] ^= 4
  path.write_bytes(data)
  with pytest.raises(records_lib.CorruptShard, match=path.name):
    take(stream.train_batches(split, shuffle.Order(8, 0)), 5)
