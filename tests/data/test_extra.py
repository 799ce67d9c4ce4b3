"""Generated ECGs in the training split, and rare classes read more often."""

import itertools
import json
import types

import ml_collections
import numpy as np
import pytest

from ecgjax.data.batches import extra, run_data, shuffle, stream
from ecgjax.data.batches import on_device as on_device_lib
from ecgjax.data.batches import split as split_lib
from ecgjax.data.store import generated
from tests.data import tiny_dataset

NUM_TRAIN, NUM_EXTRA, BATCH = 24, 7, 5
SPLIT_HASH = 'ab' * 32


def make_config(**changes):
  """`config.data` of the run."""
  data = {
    'rate': 100.0,
    'length': 40,
    'leads': ('V2', 'II', 'aVR'),
    'normalisation': 'record',
    'task': 'all',
    'extra': (),
    'oversample': 0.0,
  }
  return ml_collections.ConfigDict(data | changes)


def write_extra(
  folder, parent='r{:03d}', names=tiny_dataset.LABEL_NAMES, **facts
):
  """A finished run of --mode=generate whose child i has the value 100 i."""
  children = [
    generated.Child(
      record_id=f'generated-A-0-{i:06d}',
      ecg=np.full((tiny_dataset.LENGTH, 12), i / 10),
      labels=np.array([0, 1, 0], np.uint8)[: len(names)],
      label_mask=np.ones(len(names), np.uint8),
      parents=(parent.format(i), ''),
      weight=0.5,
      changed=0.5,
      made_for='b',
    )
    for i in range(NUM_EXTRA)
  ]
  facts = {'operator': 'A', 'split_sha256': SPLIT_HASH, 'rate': 100.0} | facts
  path = generated.write(folder.resolve(), children, 100.0, names, facts)
  summary = {'dataset': str(path.relative_to(folder.resolve()))}
  (folder / extra.SUMMARY).write_text(json.dumps(summary))
  return str(folder)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_extra(tmp_path_factory.mktemp('extra'))


@pytest.fixture(scope='module')
def builder(tmp_path_factory):
  directory = tmp_path_factory.mktemp('real') / 'tiny' / '1.0.0'
  train = [tiny_dataset.make_example(i) for i in range(NUM_TRAIN)]
  return tiny_dataset.write(directory, {'train': train}, num_shards=3)


def open_train(builder, streamed=False):
  gib = 5 * tiny_dataset.LENGTH * 24 / 2**30 if streamed else 1.0
  options = split_lib.arguments(make_config()) | {'window_gib': gib}
  return split_lib.open_split(builder, 'train', **options)


def make_data(builder, **changes):
  """The part of `run_data.RunData` that `open_extra` looks at."""
  data = {
    'split_hash': SPLIT_HASH,
    'labelled': {'train': open_train(builder)},
  }
  return types.SimpleNamespace(**data | changes)


@pytest.fixture(scope='module', params=['kept', 'streamed'])
def joined(request, builder, folder):
  part = extra.open_extra(make_config(extra=(folder,)), make_data(builder))
  return extra.join(open_train(builder, request.param == 'streamed'), part)


def epoch(split):
  """The batches of one epoch, joined."""
  steps = shuffle.steps_per_epoch(len(split), BATCH)
  batches = stream.train_batches(split, shuffle.Order(BATCH, 3))
  batches = list(itertools.islice(batches, steps))
  return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


def test_generated_rows_follow_the_real_ones(builder, joined):
  real = open_train(builder)
  assert len(joined) == len(real) + NUM_EXTRA
  ecg = joined.read(0, len(joined))
  np.testing.assert_array_equal(ecg[: len(real)], real.read(0, len(real)))
  children = ecg[len(real) :]
  order_of = np.argsort(joined.record_ids[len(real) :])
  expected = np.arange(NUM_EXTRA)[:, None, None] * np.full((1, 40, 3), 100)
  np.testing.assert_array_equal(children[order_of], expected)
  for name, column in real.columns.items():
    np.testing.assert_array_equal(joined.columns[name][: len(real)], column)
  # No two rows share a record or, children among themselves, a patient.
  assert len(np.unique(joined.columns['record'])) == len(joined)
  patients = joined.columns['patient'][len(real) :]
  assert len(np.unique(patients)) == NUM_EXTRA
  assert not np.isin(patients, real.columns['patient']).any()


def test_an_epoch_holds_every_row_once_whatever_reads_it(joined):
  found = epoch(joined)
  assert len(np.unique(found['record'])) == len(found['record']) == 30
  children = found['ecg'][found['record'] >= NUM_TRAIN]
  assert len(children) >= NUM_EXTRA - 1
  assert (np.ptp(children, axis=(1, 2)) == 0).all()
  arrays = on_device_lib.load(joined)
  order = shuffle.Order(BATCH, 3)
  batches = on_device_lib.train_batches(joined, arrays, order)
  whole = stream.train_batches(joined, order)
  halves = [
    stream.train_batches(joined, shuffle.Order(10, 3, host, 2))
    for host in range(2)
  ]
  together = stream.train_batches(joined, shuffle.Order(10, 3))
  for _ in range(3):
    ours, theirs = next(whole), next(batches)
    for name in ours:
      np.testing.assert_array_equal(ours[name], theirs[name])
    parts = [next(half)['ecg'] for half in halves]
    np.testing.assert_array_equal(next(together)['ecg'], np.concatenate(parts))


def test_the_fingerprint_covers_generated_ecgs(builder, joined):
  digest = lambda split: split_lib.fingerprint(split)['sha256']
  assert digest(joined) != digest(open_train(builder))


@pytest.mark.parametrize(
  ('written', 'config', 'changes', 'message'),
  [
    (None, {}, {}, r'no generated ECGs \(no generated.json\); give the work'),
    ({'split_sha256': 'cd' * 32}, {}, {}, 'other splits .split cdcdcdcdcdcd'),
    ({'rate': 50.0}, {}, {}, 'has rate 50, config.data.rate is 100'),
    ({}, {'length': 51}, {}, 'has length 50, config.data.length is 51'),
    ({'names': ('b', 'c')}, {}, {}, 'has the classes b, c, this run a, b, c'),
    ({'parent': 'x{}'}, {}, {}, "7 records that this run does not .* 'x0'"),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
  builder, tmp_path, written, config, changes, message
):
  if written is not None:
    write_extra(tmp_path, **written)
  config = make_config(extra=(str(tmp_path),), **config)
  with pytest.raises(ValueError, match=message):
    extra.open_extra(config, make_data(builder, **changes))


def test_repeats_bring_rare_classes_to_the_share():
  label = np.zeros((1000, 3))
  label[:30, 0] = label[20:120, 1] = label[:, 2] = 1
  mask = np.ones_like(label)
  found = shuffle.repeats(label, mask, 0.1)
  # 0.1 * 970 / (30 * 0.9) = 3.6; class 1 has its 10 % already.
  assert found[:30].tolist() == [4] * 30 and (found[30:] == 1).all()
  share = (label[:, 0] @ found) / found.sum()
  assert share == pytest.approx(0.1, abs=0.015)
  mask[:25, 0] = 0  # what is not annotated is no positive
  found = shuffle.repeats(label, mask, 0.1)
  assert found[:25].tolist() == [1] * 25 and found[25] == 22


def test_repeated_rows_are_a_pure_function_of_seed_and_epoch():
  position, window = np.arange(6) * 2, np.array([0, 0, 0, 1, 1, 1])
  repeats = np.array([1, 3, 1, 1, 1, 5])
  rows = lambda start_step=0, **options: shuffle.train_rows(
    position, window, shuffle.Order(4, 7, repeats=repeats, **options),
    start_step,
  )  # fmt: skip
  first, second = itertools.islice(rows(), 2)
  assert first.shape == (3, 4)
  assert np.bincount(first.ravel()).tolist() == repeats.tolist()
  assert np.bincount(second.ravel()).tolist() == repeats.tolist()
  assert (first != second).any()
  np.testing.assert_array_equal(next(rows(start_step=4)), second[1:])
  halves = [next(rows(process_index=h, process_count=2)) for h in range(2)]
  np.testing.assert_array_equal(np.concatenate(halves, axis=1), first)
  # Copies are shuffled within their window, not read one after another.
  last = first.ravel()[np.isin(first.ravel(), (3, 4, 5))]
  assert np.diff(np.flatnonzero(last == 5)).max() > 1
  order = shuffle.Order(2, 7)
  plain = shuffle.train_rows(position, window, order)
  order = order._replace(repeats=np.ones(6, int))
  ones = shuffle.train_rows(position, window, order)
  np.testing.assert_array_equal(next(plain), next(ones))


def test_generated_and_repeated_records_buy_no_updates(builder, joined):
  real = open_train(builder)
  order = shuffle.Order(BATCH, 1)
  for on_device in (False, True):
    batches = run_data.make_batches(
      joined, real, order, oversample=0.6, real=real, on_device=on_device
    )
    assert batches.steps_per_epoch == NUM_TRAIN // BATCH
    label = joined.columns['label'] * joined.columns['label_mask']
    repeats = shuffle.repeats(label, joined.columns['label_mask'], 0.6)
    assert set(repeats) > {1}
    read = itertools.islice(batches.train(0), repeats.sum() // BATCH)
    records = np.concatenate([np.asarray(batch['record']) for batch in read])
    counts = np.bincount(records, minlength=len(joined))
    assert counts.sum() == repeats.sum() // BATCH * BATCH
    assert (counts <= repeats[np.argsort(joined.columns['record'])]).all()
  with pytest.raises(ValueError, match='oversample is 1.5; it is a share'):
    run_data.make_batches(joined, real, order, oversample=1.5)
