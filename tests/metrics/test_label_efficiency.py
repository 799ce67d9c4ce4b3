"""The label-efficiency factor on curves with known answers."""

import numpy as np
import pytest
from sklearn import isotonic as sk_isotonic

from ecgjax.metrics import label_efficiency as le
from ecgjax.report import efficiency_tables

GRID = [10, 20, 50, 100, 200, 500, 1000]


def _curve(n):
  """A smooth learning curve."""
  return 0.95 - 0.4 * np.asarray(n, float) ** -0.3


def test_isotonic_equals_scikit_learn():
  curves = np.random.default_rng(0).normal(size=(40, 8))
  curves[0] = 1.0
  expected = [sk_isotonic.isotonic_regression(c) for c in curves]
  np.testing.assert_allclose(le.isotonic(curves), expected, atol=1e-12)


def test_same_curve_with_a_quarter_of_the_labels_gives_four():
  n = np.array([10, 25, 50, 100, 250, 500, 1000])
  low, high = le.factor_draws(n, _curve(n)[None], _curve(4 * n)[None], 0.5)
  assert low == high
  assert abs(low[0] / 4 - 1) < 0.03
  low, high = le.factor_draws(n, _curve(4 * n)[None], _curve(n)[None], 0.1)
  assert low == high and abs(4 * low[0] - 1) < 0.03


def test_crossings_are_linear_in_log_n():
  curve, target = np.array([[0.5, 0.7]]), np.array([0.6])
  low, high = le.records_needed([10, 1000], curve, target)
  assert low == high
  np.testing.assert_allclose(low, 100)


def test_nothing_is_extrapolated():
  curve = np.array([0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])
  better, worse = np.full(7, 0.95), np.full(7, 0.5)
  low, high = le.factor_draws(GRID, curve[None], better[None], 0.1)
  assert np.isclose(low, 100 / 10) and high == np.inf  # at least ten
  low, high = le.factor_draws(GRID, curve[None], worse[None], 0.1)
  assert low == 0 and np.isclose(high, 100 / 1000)  # at most a tenth
  # A flat reference: it too needs at most the smallest number.
  flat = np.full(7, 0.8)
  low, high = le.factor_draws(GRID, flat[None], better[None], 1.0)
  assert low == 0 and high == np.inf
  with pytest.raises(ValueError, match='not on the grid'):
    le.factor_draws(GRID, curve[None], better[None], 0.3)


def test_summary_of_bounded_draws():
  low = np.array([2.0] * 60 + [5.0] * 40)
  high = np.array([2.0] * 60 + [np.inf] * 40)
  found = le.summarise(low, high)
  assert (found['median'], found['bound']) == (2.0, '=')
  assert found['interval'] == [2.0, None]
  assert found['shares'] == {
    'exact': 0.6, 'lower_bound': 0.4, 'upper_bound': 0, 'range': 0,
    'unbounded': 0,
  }  # fmt: skip
  found = le.summarise(np.full(9, 5.0), np.full(9, np.inf))
  assert (found['median'], found['bound']) == (5.0, '>=')
  found = le.summarise(np.zeros(9), np.full(9, 0.5))
  assert (found['median'], found['bound']) == (0.5, '<=')
  assert found['interval'] == [None, 0.5]
  found = le.summarise(np.zeros(9), np.full(9, np.inf))
  assert (found['median'], found['bound']) == (None, 'none')


@pytest.fixture(scope='module')
def study():
  """Three arms on 4 subsets, 3 seeds; 'probe' needs a quarter of the labels."""
  generator = np.random.default_rng(1)
  n, records = [25, 100, 400, 1600], 400
  labels = (generator.random((records, 3)) < [0.4, 0.3, 0.005]).astype(int)
  shared = generator.normal(size=(records, 3))

  def arm(factor):
    scores = [
      [
        shared + 0.3 * generator.normal(size=(records, 3))
        + labels * 0.45 * np.log(k * factor) / 1.5
        for _ in range(3)
      ]
      for k in n
    ]  # fmt: skip
    return 1 / (1 + np.exp(-np.array(scores)))

  arms = {'scratch': arm(1), 'probe': arm(4), 'copy': arm(1)}
  arms['copy'] = arms['scratch']
  return arms, n, labels, np.arange(records) // 2


@pytest.fixture(scope='module')
def efficiency(study):
  return le.label_efficiency(*study, list('abc'), draws=200, targets=(0.25, 1))


def test_study_recovers_the_factor_within_its_interval(efficiency):
  found = efficiency['factors']['probe']['0.25']
  low, high = found['interval']
  # Three seeds: Student's weights with two degrees of freedom.
  assert 1 < low < 4 < high and found['bound'] == '='
  assert efficiency['num_labels'] == 2  # the third lacks support


def test_an_arm_equal_to_the_reference_has_factor_one(efficiency):
  found = efficiency['factors']['copy']['0.25']
  np.testing.assert_allclose(found['interval'], [1, 1], rtol=1e-9)
  for entry in efficiency['differences']['copy']:
    assert entry['value'] == 0 and entry['p'] == 1
  assert efficiency['differences']['probe'][0]['family_size'] == 8


def test_curves_are_those_of_the_arms(study, efficiency):
  from sklearn.metrics import roc_auc_score

  arms, _, labels, _ = study
  values = [
    roc_auc_score(labels[:, :2], s[:, :2]) for s in arms['probe'][1]
  ]  # fmt: skip
  point = efficiency['curves']['probe'][1]
  assert abs(point['value'] - np.mean(values)) < 1e-12
  assert abs(point['seed_sd'] - np.std(values, ddof=1)) < 1e-12
  assert point['ci95'][0] < point['value'] < point['ci95'][1]


def test_every_label_has_its_own_curves(study, efficiency):
  """They are those of `evaluate_arms` on one subset."""
  from ecgjax.metrics import compare_arms

  arms, _, labels, patients = study
  expected = compare_arms.evaluate_arms(
    {name: scores[1] for name, scores in arms.items()},
    labels, patients, list('abc'),
    method='probe', baseline='scratch', draws=200,
  )  # fmt: skip
  assert list(efficiency['curves_per_class']) == ['a', 'b']
  for label in 'ab':
    found = efficiency['curves_per_class'][label]['probe'][1]
    wanted = expected['arms']['probe']['per_class'][label]['auroc']
    assert found == wanted | {'value': pytest.approx(wanted['value'])}
    found = efficiency['differences_per_class'][label]['probe'][1]
    wanted = expected['differences_per_class']['probe-scratch'][label]['auroc']
    assert found['ci95'] == pytest.approx(wanted['ci95'])
    assert (found['p'], found['family_size']) == (wanted['p'], 2 * 2 * 4)
    assert found['p_holm'] >= found['p']
    nothing = efficiency['differences_per_class'][label]['copy'][3]
    assert nothing['value'] == 0 and nothing['p_holm'] == 1
  positive = len(np.unique(patients[labels[:, 2] > 0]))
  assert efficiency['not_reportable'] == {'c': positive} and positive < 10


def test_tables_of_labels(efficiency):
  per_class, changes = efficiency_tables.efficiency_tables(efficiency)[2:4]
  assert [row[:2] for row in per_class.rows[:2]] == [
    ['a', 'scratch'], ['a', 'probe']
  ]  # fmt: skip
  assert len(per_class.rows) == 2 * 3 and len(changes.rows) == 2 * 2
  assert changes.rows[0][:2] == ['a', 'probe-scratch']
  count = efficiency['not_reportable']['c']
  assert f'Not reportable: c ({count} positive test patients)' in (
    per_class.caption
  )


def test_differences_contain_the_seeds(study):
  """An independent form: weights of seeds on macro AUROC of scikit-learn."""
  from sklearn.metrics import roc_auc_score

  from ecgjax.metrics import bootstrap

  arms, n, labels, patients = study
  found = le.label_efficiency(
    *study, list('abc'), draws=40, targets=(1,), margin=0.3
  )
  counts = bootstrap.patient_counts(patients, 40)
  weights = bootstrap.seed_weights(3, 40)
  drawn = []
  for draw in range(40):
    rows = np.repeat(np.arange(len(labels)), counts[:, draw])
    by_seed = [
      roc_auc_score(labels[rows, :2], own[rows, :2])
      - roc_auc_score(labels[rows, :2], other[rows, :2])
      for own, other in zip(arms['probe'][0], arms['scratch'][0])
    ]
    drawn.append(weights[draw] @ by_seed)
  drawn = np.clip(drawn, -1, 1)
  entry = found['differences']['probe'][0]
  np.testing.assert_allclose(entry['ci95'], np.quantile(drawn, [0.025, 0.975]))
  smaller = min(np.sum(drawn <= 0), np.sum(drawn >= 0)) + 1
  assert entry['p'] == min(1, 2 * smaller / 41)
  outside = max(np.sum(drawn <= -0.3), np.sum(drawn >= 0.3)) + 1
  assert entry['equivalence']['p'] == outside / 41
  assert entry['equivalence']['family_size'] == 8
  assert found['num_seeds'] == 3


def test_equality_is_claimed_by_its_own_test_alone(study):
  arms, n, labels, patients = study
  found = le.label_efficiency(
    {k: arms[k] for k in ('scratch', 'copy')}, n, labels, patients,
    list('abc'), draws=400, targets=(1,), margin=0.01,
  )  # fmt: skip
  (text,) = efficiency_tables.claims(found)
  assert 'equal within 0.01 with 25 records, 100 records' in text
  for entry in found['differences']['copy']:
    entry['equivalence']['p_holm'] = 0.2  # p of the difference stays 1
  (text,) = efficiency_tables.claims(found)
  assert 'neither shown to differ nor to be equal within 0.01' in text
  del found['num_seeds']  # a file whose intervals hold the seeds fixed
  assert efficiency_tables.claims(found) == [efficiency_tables.SEEDS_FIXED]


def test_tables_say_whose_labels_are_counted(efficiency):
  counted = efficiency | {
    'validation': 'budget', 'num_validation_records': [5, 20, 80, 320],
  }  # fmt: skip
  first = efficiency_tables.efficiency_tables(counted)[0]
  assert first.header[1:3] == ['20 + 5 records', '80 + 20 records']
  assert 'validation subset of the same share' in first.caption
  whole = efficiency_tables.efficiency_tables(efficiency)[0]
  assert whole.header[1] == '25 records'
  assert 'whole validation split, whose labels are not counted' in whole.caption


def test_refusals(study):
  arms, n, labels, patients = study
  with pytest.raises(ValueError, match='must increase'):
    le.label_efficiency(arms, n[::-1], labels, patients, list('abc'))
  with pytest.raises(ValueError, match="'other' is missing"):
    le.label_efficiency(
      arms, n, labels, patients, list('abc'), reference='other'
    )
  with pytest.raises(ValueError, match='label subsets'):
    le.label_efficiency(arms, n + [5000], labels, patients, list('abc'))
  with pytest.raises(ValueError, match='10 positive'):
    le.label_efficiency(arms, n, 0 * labels, patients, list('abc'))
