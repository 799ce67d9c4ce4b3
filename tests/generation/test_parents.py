"""Who may be a parent, of whom, with whom, and how often."""

import itertools

import numpy as np
import pytest

from ecgjax.data.store import labels as labels_lib
from ecgjax.generation import parents


def make_table(split='train', rows=12):
  number = np.arange(rows)
  sets = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 0]], np.uint8)
  return {
    'record_id': np.array([f'{split}{i:02d}' for i in number]),
    'patient_id': np.array([f'{split}-p{i // 2}' for i in number]),
    'labels': sets[number % 3],
    'label_mask': np.ones((rows, 3), np.uint8),
  }


@pytest.fixture
def pool():
  table = make_table()
  return parents.make_pool(table, table['record_id'], table['labels'], 'stored')


def test_label_sets_are_of_all_statements_or_of_the_task():
  table = make_table()
  records = table['record_id'][2:9]
  task = table['labels'][2:9, 1:2]
  stored = parents.make_pool(table, records, task, 'stored')
  np.testing.assert_array_equal(stored.ids, records)
  assert len(np.unique(stored.groups)) == 3
  by_task = parents.make_pool(table, records, task, 'task')
  np.testing.assert_array_equal(by_task.groups, task[:, 0])


def test_partners_share_the_label_set_and_not_the_patient(pool):
  usable = np.ones(12, bool)
  usable[9] = False
  rng = np.random.Generator(np.random.Philox(1))
  first = np.arange(12).repeat(40)
  found = parents.draw_partners(rng, pool, first, usable)
  for row in range(12):
    allowed = {
      k for k in range(12) if k % 3 == row % 3 and k // 2 != row // 2 and k != 9
    }
    assert set(found[first == row]) == allowed  # all of them, in 40 draws


def test_who_has_a_partner(pool):
  usable = np.ones(12, bool)
  assert parents.has_partner(pool, usable).all()
  usable[[3, 6, 9]] = False  # 0 is alone with its label set
  np.testing.assert_array_equal(
    parents.has_partner(pool, usable), usable & (np.arange(12) != 0)
  )
  patients = np.where(np.arange(12) % 3 == 1, 'one', pool.patients)
  pool = pool._replace(patients=patients)
  usable = np.ones(12, bool)
  np.testing.assert_array_equal(
    parents.has_partner(pool, usable), np.arange(12) % 3 != 1
  )


def test_neighbours_are_the_nearest_of_other_patients(pool):
  features = np.array([0, 9, 9, 1, 9, 9, 5, 9, 9, 2, 9, 9.0])[:, None]
  pool = pool._replace(patients=pool.patients.copy())
  pool.patients[3] = pool.patients[0]  # the nearest is of the same patient
  rng = np.random.Generator(np.random.Philox(1))
  draw = lambda k: parents.draw_partners(
    rng, pool, np.zeros(50, int), np.ones(12, bool), features, k
  )
  assert set(draw(1)) == {9}
  assert set(draw(2)) == {9, 6}


def test_every_row_is_used_as_often_as_the_others():
  rng = np.random.Generator(np.random.Philox(0))
  rows = np.array([3, 5, 8])
  batches = list(itertools.islice(parents.cycle(rng, rows, 4), 3))
  assert [len(batch) for batch in batches] == [4, 4, 4]
  assert np.bincount(np.concatenate(batches))[rows].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
  ('positives', 'ratio', 'target', 'wanted'),
  [
    (20, 2.0, 0, 40), (20, 2.0, 50, 30), (20, 2.0, 100, 40), (20, 5.0, 10, 0),
    (3, 0.5, 0, 2),
  ],
)  # fmt: skip
def test_number_wanted(positives, ratio, target, wanted):
  assert parents.number_wanted(positives, ratio, target) == wanted


@pytest.mark.parametrize('ratio', [0.0, -1.0, 5.1])
def test_ratio_is_limited(ratio):
  with pytest.raises(ValueError, match=r'augment.ratio is .* above 0 to 5'):
    parents.number_wanted(10, ratio, 0)


def test_children_have_the_statements_of_both(pool):
  pool.label_mask[1, 0] = 0
  labels, mask = parents.child_labels(pool, np.array([0]), np.array([1]))
  np.testing.assert_array_equal(labels, [[1, 1, 1]])
  np.testing.assert_array_equal(mask, [[1, 1, 1]])  # positive: known
  labels, mask = parents.child_labels(pool, np.array([2]), np.array([1]))
  np.testing.assert_array_equal(labels, [[0, 1, 1]])
  np.testing.assert_array_equal(mask, [[0, 1, 1]])


@pytest.mark.parametrize(
  'names',
  [
    ('AF', 'AFL', 'PAC', 'PVC', '1AVB'),
    ('AFIB', 'AFLT', 'PAC', 'PVC', 'PRC(S)', 'BIGU', 'TRIGU', '1AVB', 'LPR',
     '2AVB', '3AVB', 'SVARR', 'SVTAC', 'PSVT', 'PACE'),
    ('164889003', '164890007', '284470004', '63593006', '427172004',
     '17338001', '270492004', '10370003'),
    ('1dAVb',),
  ],
)  # fmt: skip
def test_rhythm_is_not_interpolated(names):
  rows = parents.has_rhythm(np.eye(len(names), dtype=np.uint8), names)
  assert rows.all()


def test_morphology_and_sinus_rhythm_are():
  names = ('NORM', 'LBBB', 'MI', 'SR', 'STACH', 'IMI', 'CLBBB', '426783006')
  assert not parents.has_rhythm(np.eye(8, dtype=np.uint8), names).any()
  known = {*labels_lib.scp_names(), *labels_lib.snomed_names(), '1dAVb'}
  simulator = {'AF', 'AFL', 'MOBITZ1', 'MOBITZ2', 'VT', 'VF'}
  assert parents.RHYTHM <= known | simulator  # no mistyped code


def test_planted_patients_are_refused():
  train, test = make_table(), make_table('test')
  ids = train['record_id'][:3]
  parents.check_parents(ids, {'test': test}, train)
  test['patient_id'] = test['patient_id'].astype('U12')
  test['patient_id'][5] = 'train-p1'
  with pytest.raises(ValueError, match="'test05' of split test or its patient"):
    parents.check_parents(ids, {'test': test}, train)
  with pytest.raises(ValueError, match="'test00' of split test"):
    parents.check_parents(['test00'], {'test': make_table('test')}, train)
  with pytest.raises(ValueError, match="'foreign' is no training record"):
    parents.check_parents(['foreign'], {}, train)
