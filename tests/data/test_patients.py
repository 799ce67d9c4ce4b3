"""Patient sampler: against brute force, on a tiny data set, at scale."""

import itertools
import pathlib
import time

import numpy as np
import pytest

from configs import longitudinal as longitudinal_config
from ecgjax.data.batches import patient_index, patients, shuffle
from ecgjax.data.batches.patient_index import PatientOptions
from ecgjax.data.batches.split import open_split
from ecgjax.data.store import random_access, records
from ecgjax.ecg.contract import InputContract
from tests.data import tiny_dataset


def make_options(**options):
  group = longitudinal_config.get_config('dataset=ptbxl').longitudinal
  return PatientOptions.from_group(group, 'longitudinal')._replace(**options)


def skewed(num_patients=120, seed=0, largest=40):
  """Records of patients with 1 to `largest` ECGs, in random order."""
  rng = np.random.default_rng(seed)
  sizes = np.minimum(rng.geometric(0.4, num_patients), largest)
  sizes[0] = largest
  ids = rng.choice(10**6, num_patients, replace=False)
  patient = rng.permutation(np.repeat(ids, sizes)).astype(np.int32)
  days = np.round(rng.exponential(100, len(patient)), 2).astype(np.float32)
  return patient, days


def make_index(patient, days, options, content=None):
  if content is None:
    content = np.zeros(len(patient), np.uint64)
  return patient_index.build_index(
    np.asarray(patient), np.asarray(days), content, options
  )


def take(index, options, size, steps, start_step=0, **order):
  """Rows [steps, b] and weights [steps, b] of some batches of `size` rows."""
  order = shuffle.Order(**{'batch_size': size, 'seed': 0} | order)
  plan = patients.train_rows(index, options, order, start_step)
  return map(np.stack, zip(*itertools.islice(plan, steps)))


def test_every_patient_once_an_epoch_and_never_twice_in_a_batch():
  patient, days = skewed()
  options = make_options()
  index = make_index(patient, days, options)
  steps = patients.num_batches(index, options, 16)
  assert steps == 120 // 8
  rows, weights = take(index, options, 16, 20 * steps)
  who = patient[rows].reshape(20 * steps, 8, 2)
  assert (who[:, :, 0] == who[:, :, 1]).all()  # two ECGs of one patient
  assert (np.diff(np.sort(who[:, :, 0])) > 0).all()
  orders = who[:, :, 0].reshape(20, -1)
  for order in orders:
    assert len(np.unique(order)) == steps * 8
  assert (orders[0] != orders[1]).any()
  assert (weights == 1).all()
  assert set(patient[rows].ravel()) == set(patient)  # tails differ
  alone = np.isin(who, [p for p in patient if (patient == p).sum() == 1])
  same = rows.reshape(who.shape)
  same = (same[:, :, 0] == same[:, :, 1])[..., None]
  np.testing.assert_array_equal(alone, same.repeat(2, 2))


def test_pure_function_of_seed_epoch_step_and_process():
  patient, days = skewed()
  options = make_options()
  index = make_index(patient, days, options)
  rows, _ = take(index, options, 16, 40)
  for start in (1, 14, 15, 29):  # 15 steps an epoch
    again, _ = take(index, options, 16, 40 - start, start_step=start)
    np.testing.assert_array_equal(again, rows[start:])
  hosts = [
    next(take(index, options, 16, 40, process_index=h, process_count=4))
    for h in range(4)
  ]
  np.testing.assert_array_equal(np.concatenate(hosts, axis=1), rows)
  other, _ = take(index, options, 16, 40, seed=1)
  assert (other != rows).mean() > 0.9
  # The order of the records in storage does not matter.
  order = np.random.default_rng(5).permutation(len(patient))
  index = make_index(patient[order], days[order], options)
  moved, _ = take(index, options, 16, 40)
  np.testing.assert_array_equal(patient[order][moved], patient[rows])
  np.testing.assert_array_equal(days[order][moved], days[rows])


def test_choice_does_not_depend_on_the_batch():
  patient, days = skewed()
  chosen = []
  for size in (16, 48):
    options = make_options()
    index = make_index(patient, days, options)
    rows, _ = take(index, options, size, 240 // size)
    chosen.append({patient[a]: (a, b) for a, b in rows.reshape(-1, 2)})
  common = chosen[0].keys() & chosen[1].keys()
  assert len(common) > 100
  assert all(chosen[0][p] == chosen[1][p] for p in common)


def test_records_are_chosen_evenly():
  options = make_options(min_gap=0.0)
  index = make_index([7] * 5, [0, 1, 2, 3, 4], options)
  rows, _ = take(index, options, 2, 2000)
  pairs, counts = np.unique(np.sort(rows), axis=0, return_counts=True)
  assert len(pairs) == 10 and counts.min() > 140 and counts.max() < 260


def excess(gap, low, high):
  return max(low - gap, gap - high, 0)


@pytest.mark.parametrize('bounds', [(1, 0), (30, 0), (0, 20), (50, 90)])
def test_gap_bounds_against_brute_force(bounds):
  patient, days = skewed(seed=1)
  options = make_options(min_gap=float(bounds[0]), max_gap=float(bounds[1]))
  low, high = bounds[0], bounds[1] or np.inf
  index = make_index(patient, days, options)
  outside = 0
  for epoch in range(5):
    plan = patients.plan_epoch(index, 120, options, 0, epoch)
    for a, b in plan.rows:
      times = days[patient == patient[a]].astype(float)
      if len(times) == 1:
        continue
      best = min(
        excess(abs(x - y), low, high)
        for x, y in itertools.combinations(times, 2)
      )
      found = excess(abs(float(days[a]) - float(days[b])), low, high)
      assert found == pytest.approx(best, abs=1e-4)
      outside += found > 0
    assert plan.report['pairs_out_of_bounds'] == outside
    outside = 0
  assert (
    plan.report['pairs']
    == (np.unique(patient, return_counts=True)[1] > 1).sum()
  )


def test_quota_of_strata():
  """Patients with every gap get the strata that were asked for."""
  times = np.array([0.0, 5, 9, 200, 210, 900, 1200, 1600])
  patient = np.repeat(np.arange(500), len(times))
  options = make_options(gap_quota=(0.5, 0.3, 0.2))
  index = make_index(patient, np.tile(times, 500), options)
  counts = np.zeros(4)
  for epoch in range(4):
    plan = patients.plan_epoch(index, 500, options, 0, epoch)
    counts += list(plan.report['pairs_by_gap'].values())
    assert not plan.report['pairs_out_of_bounds']
  assert counts[0] == 0
  np.testing.assert_allclose(counts[1:] / 2000, [0.5, 0.3, 0.2], atol=0.04)


def test_same_day_and_equal_signals():
  patient = [1, 1, 1, 2, 2, 3, 3, 3]
  days = [0, 0.5, 300, 0, 0.2, 0, 100, 200]
  content = np.uint64([1, 2, 3, 4, 5, 6, 6, 6])
  options = make_options()
  index = make_index(patient, days, options, content)
  plan = patients.plan_epoch(index, 3, options, 0, 0)
  pairs = {tuple(sorted(pair)) for pair in plan.rows.tolist()}
  assert pairs in [{(0, 2), (3, 4), (5, 5)}, {(1, 2), (3, 4), (5, 5)}]
  assert plan.report == {
    'patients': 3,
    'singletons': 1,  # the one whose signals are all equal
    'singletons_dropped': 0,
    'duplicates_left_out': 2,
    'dropped_tail': 0,
    'pairs': 2,
    'pairs_by_gap': {
      'same_day': 1, 'under_30_days': 0, 'under_365_days': 1, 'longer': 0
    },
    'pairs_of_unknown_gap': 0,
    'pairs_out_of_bounds': 1,
  }  # fmt: skip


def test_unknown_dates():
  options = make_options()
  index = make_index([1, 1, 1], [-1, 0, 40], options)
  rows, _ = take(index, options, 2, 30)
  assert set(rows.ravel()) == {1, 2}  # a known gap is preferred
  index = make_index([1, 1, 1], [-1, -1, -1], options)
  rows, _ = take(index, options, 2, 60)
  assert set(rows.ravel()) == {0, 1, 2}
  assert (rows[:, 0] != rows[:, 1]).all()
  report = patients.plan_epoch(index, 1, options, 0, 0).report
  assert report['pairs_of_unknown_gap'] == report['pairs_out_of_bounds'] == 1


def test_more_views_than_ecgs():
  options = make_options(ecgs_per_patient=3)
  index = make_index([1, 2, 2, 3, 3, 3, 3], [0, 0, 9, 0, 2, 4, 6], options)
  rows, _ = take(index, options, 9, 20)
  for batch in rows.reshape(20, 3, 3):
    for three in batch:
      expected = {0: 1, 1: 2, 2: 2}.get(three[0], 3)
      assert len(set(three)) == expected


@pytest.mark.parametrize(
  ('policy', 'num_patients', 'weight'),
  [('augment', 3, 0.25), ('negatives_only', 3, 0.0), ('drop', 1, None)],
)
def test_singletons(policy, num_patients, weight):
  options = make_options(singletons=policy, singleton_weight=0.25)
  index = make_index([1, 2, 2, 3], [0, 0, 9, 0], options)
  (rows,), (weights,) = take(index, options, 2 * num_patients, 1)
  assert len(rows) == 2 * num_patients
  by_row = dict(zip(rows.tolist(), weights.tolist()))
  assert by_row[1] == by_row[2] == 1
  assert by_row.get(0) == by_row.get(3) == weight
  report = patients.plan_epoch(index, 1, options, 0, 0).report
  assert report['singletons'] == 2
  assert report['singletons_dropped'] == (2 if policy == 'drop' else 0)


def test_one_ecg_per_patient():
  """For views of one ECG: nobody has a partner, and everybody counts."""
  options = make_options(ecgs_per_patient=1, singletons='drop')
  index = make_index([1, 2, 2, 3], [0, 0, 9, 0], options)
  rows, weights = take(index, options, 3, 40)
  assert (weights == 1).all() and set(rows.ravel()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'singletons': 'keep'}, 'augment, drop, negatives_only'),
    ({'singleton_weight': 2.0}, '0 to 1'),
    ({'ecgs_per_patient': 0}, '1 or more'),
    ({'min_gap': 400.0, 'max_gap': 30.0}, 'must not decrease'),
    ({'gap_quota': (0.5, 0.5)}, '3 shares'),
    ({'gap_quota': (0.5, 0.5, 0.5)}, '3 shares'),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    make_index([1, 1], [0, 5], make_options(**options))


def test_bad_sizes():
  options = make_options()
  index = make_index([1, 1], [0, 5], options)
  with pytest.raises(ValueError, match='at most 2'):
    next(patients.train_rows(index, options, shuffle.Order(4, 0)))
  with pytest.raises(ValueError, match='multiple'):
    patients.num_batches(index, options, 3)
  with pytest.raises(ValueError, match='2 processes'):
    patients.train_rows(index, options, shuffle.Order(2, 0, 0, 2))
  options = options._replace(singletons='drop')
  with pytest.raises(ValueError, match='none of 2 patients'):
    make_index([1, 2], [0, 0], options)


def test_content_keys():
  hashes = np.array(['0' * 64, 'ff' * 32, '0123456789abcdef' + 'f' * 48, ''])
  expected = [0, 2**64 - 1, 0x0123456789ABCDEF, 0]
  np.testing.assert_array_equal(
    patient_index.content_keys(hashes), np.array(expected, np.uint64)
  )


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
  """Records 0-39 of 20 patients train, 40-59 of 10 others validate."""
  train = np.random.default_rng(0).permutation(40).tolist()
  numbers = {'train': train, 'validation': range(40, 60)}
  return tiny_dataset.write(
    tmp_path_factory.mktemp('patients') / 'tiny',
    {
      split: [tiny_dataset.make_example(i) for i in rows]
      for split, rows in numbers.items()
    },
  )


def open_tiny(tiny, split='train', **options):
  contract = InputContract(100.0, 40, ('V1', 'I', 'aVF'))
  return open_split(tiny, split, contract, keep_unlabelled=True, **options)


def test_batches(tiny):
  options = make_options()
  split = open_tiny(tiny)
  found = patients.train_batches(split, options, shuffle.Order(16, 3))
  assert patients.steps_per_epoch(split, options, 16) == 20 // 8
  for batch in itertools.islice(found, 4):
    for i, record in enumerate(batch['record']):
      stored = tiny_dataset.make_example(int(record))
      expected = stored['ecg'][:40][:, [6, 0, 5]]
      np.testing.assert_array_equal(batch['ecg'][i], expected)
      assert batch['patient'][i] == record // 2 < 20  # no validation patient
      assert batch['time'][i] == record
    assert (np.sort(batch['record']).reshape(-1, 2) % 2 == [0, 1]).all()
    assert batch['anchor_weight'].dtype == batch['time'].dtype == np.float32
    assert (batch['mask'] == 1).all() and len(batch['gain']) == 16


def test_random_access_reads_the_same(tiny):
  """A split too large to be kept gives the same batches."""
  options = make_options()
  kept, large = open_tiny(tiny), open_tiny(tiny, window_gib=2**-30)
  assert kept.kept and not large.kept
  ways = [
    patients.train_batches(split, options, shuffle.Order(8, 0), 3)
    for split in (kept, large)
  ]
  for one, other in itertools.islice(zip(*ways), 6):
    assert one.keys() == other.keys()
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])
      assert one[name].dtype == other[name].dtype


def test_random_access_refuses_damaged_shards(tiny, tmp_path):
  split = open_tiny(tiny, window_gib=2**-30)
  content = pathlib.Path(split.shards[0][0]).read_bytes()
  damaged = {
    'empty': b'',
    'short': content[:-30],
    'long': content + b'x',
    'other': content.replace(b'ecg', b'gce'),
  }
  for name, changed in damaged.items():
    (tmp_path / name).write_bytes(changed)
  for name in (*damaged, 'absent'):
    with pytest.raises(records.CorruptShard, match=name):
      random_access.signal_offsets(
        str(tmp_path / name), split.shards[1][0], 50 * 12 * 2
      )


def test_eval_batches_are_fixed(tiny):
  split = open_tiny(tiny, 'validation')
  first, second = (
    list(patients.eval_batches(split, make_options(), 8)) for _ in range(2)
  )
  assert len(first) == 2
  for one, other in zip(first, second):
    np.testing.assert_array_equal(one['record'], other['record'])
  (all_of_it,) = patients.eval_batches(split, make_options(), 64)
  assert len(np.unique(all_of_it['patient'])) == 10


def test_ptbxl(recordings):
  """1850 patients, 104 of them with 2-8 ECGs; see its README."""
  from ecgjax.data import ptbxl

  rows = ptbxl.read_table(str(recordings / 'ptbxl' / 'ptbxl_database.csv'))
  patient = np.array([int(row['patient_id']) for row in rows], np.int32)
  days = np.array([row['time'] for row in rows], np.float32)
  options = make_options()
  index = make_index(patient, days, options)
  sizes = np.diff(index.start)
  assert (len(index), (sizes > 1).sum(), sizes.max()) == (1850, 104, 8)
  assert sizes[sizes > 1].sum() == 241
  plan = patients.plan_epoch(index, 50, options, 0, 0)
  assert plan.report['singletons'] == 1746
  assert plan.report['pairs'] == 104
  assert plan.report['dropped_tail'] == 0
  assert sum(plan.report['pairs_by_gap'].values()) == 104


@pytest.mark.parametrize(
  'num_patients', [10**5, pytest.param(10**6, marks=pytest.mark.slow)]
)
def test_scale(num_patients):
  patient, days = skewed(num_patients=num_patients, largest=40)
  rng = np.random.default_rng(1)
  content = rng.integers(1, 2**63, len(patient)).astype(np.uint64)
  options = make_options()
  started = time.process_time()
  index = make_index(patient, days, options, content)
  built = time.process_time()
  plan = patients.plan_epoch(index, 128, options, 0, 0)
  planned = time.process_time() - built
  assert len(plan.rows) > num_patients - 128
  assert len(plan.rows) / planned > 20_000  # pairs per second
  assert built - started < num_patients * 2e-5
