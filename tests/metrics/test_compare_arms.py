"""Arms on shared draws, against an explicit resampling with scikit-learn."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from ecgjax.metrics import bootstrap, compare_arms, metrics

NAMES = ['a', 'b', 'rare']


@pytest.fixture(scope='module')
def cohort():
  """Labels, patients and three arms, two seeds each; 'rare' lacks support."""
  generator = np.random.default_rng(0)
  patients = generator.integers(0, 130, 160)
  labels = (generator.random((160, 3)) < [0.4, 0.3, 0]).astype(int)
  labels[:4, 2] = 1

  def scores(shift):
    noise = generator.normal(size=(2, 160, 3))
    return 1 / (1 + np.exp(-noise - shift * labels + 1))

  arms = {
    'random_probe': scores(0.6),
    'probe': scores(1.5),
    'scratch': scores(0.9),
  }
  thresholds = {
    name: metrics.f1_thresholds(labels[::-1], s[:, ::-1])
    for name, s in arms.items()
  }
  return arms, labels, patients, thresholds


@pytest.fixture(scope='module')
def evaluation(cohort):
  arms, labels, patients, thresholds = cohort
  return compare_arms.evaluate_arms(
    arms, labels, patients, NAMES, thresholds, method='probe',
    comparisons=[('probe', 'scratch')], draws=60, seed=7,
  )  # fmt: skip


def _resampled(cohort, function):
  """`function(labels, scores, rows)` per arm and draw, weighed over seeds."""
  arms, labels, patients, _ = cohort
  counts = bootstrap.patient_counts(patients, 60, 7)
  weights = bootstrap.seed_weights(2, 60, 7)
  found = {}
  for name, scores in arms.items():
    found[name] = np.array([
      sum(
        w * function(labels, s, np.repeat(np.arange(160), counts[:, draw]))
        for s, w in zip(scores, weights[draw])
      )
      for draw in range(60)
    ])  # fmt: skip
  return found


def test_equal_to_explicit_resampling(cohort, evaluation):
  def macro(labels, scores, rows):
    return sk.roc_auc_score(labels[rows][:, :2], scores[rows][:, :2])

  draws = _resampled(cohort, macro)
  for name, parts in evaluation['arms'].items():
    entry = parts['metrics']['macro_auroc']
    everything = np.arange(160)
    expected = np.mean(
      [macro(cohort[1], s, everything) for s in cohort[0][name]]
    )
    assert abs(entry['value'] - expected) < 1e-12
    ends = np.quantile(np.clip(draws[name], 0, 1), [0.025, 0.975])
    np.testing.assert_allclose(entry['ci95'], ends, atol=1e-12)
    assert entry['num_labels'] == 2 and entry['num_seeds'] == 2
  change = draws['probe'] - draws['random_probe']
  entry = evaluation['differences']['probe-random_probe']['macro_auroc']
  np.testing.assert_allclose(
    entry['ci95'],
    np.quantile(np.clip(change, -1, 1), [0.025, 0.975]),
    atol=1e-12,
  )
  smaller = min(np.sum(change <= 0), np.sum(change >= 0)) + 1
  assert entry['p'] == min(1, 2 * smaller / 61)


def test_thresholds_are_those_of_validation(cohort, evaluation):
  arms, labels, _, thresholds = cohort
  expected = np.mean([
    sk.f1_score(labels[:, 0], s[:, 0] >= cut[0])
    for s, cut in zip(arms['probe'], thresholds['probe'])
  ])  # fmt: skip
  assert abs(evaluation['per_class']['a']['f1']['value'] - expected) < 1e-12


def test_support_and_label_sets(cohort, evaluation):
  rare = evaluation['per_class']['rare']
  assert not rare['supported'] and rare['num_positive'] == 4
  assert evaluation['metrics']['macro_auroc_all']['num_labels'] == 3
  values = [evaluation['per_class'][n]['auroc']['value'] for n in NAMES]
  all_labels = evaluation['metrics']['macro_auroc_all']['value']
  assert abs(all_labels - np.mean(values)) < 1e-12
  supported = evaluation['metrics']['macro_auroc']['value']
  assert abs(supported - np.mean(values[:2])) < 1e-12
  skipped = evaluation['bootstrap']['skipped_draws']
  assert skipped['a'] == 0
  counts = bootstrap.patient_counts(cohort[2], 60, 7)
  assert skipped['rare'] == np.sum(counts[:4].sum(axis=0) == 0)
  for table in evaluation['differences_per_class'].values():
    assert list(table) == ['a', 'b']


def test_holm_families_are_columns(evaluation):
  pairs = evaluation['differences']
  assert list(pairs) == [
    'probe-random_probe', 'scratch-random_probe', 'probe-scratch',
  ]  # fmt: skip
  p = {pair: row['macro_auroc']['p'] for pair, row in pairs.items()}
  for pair, adjusted in bootstrap.holm(p).items():
    entry = pairs[pair]['macro_auroc']
    assert entry['p_holm'] == adjusted and entry['family_size'] == 3
  entry = evaluation['differences_per_class']['probe-scratch']['a']['f1']
  assert entry['family_size'] == 6


def test_every_point_is_inside_its_interval_and_json_has_no_nan(evaluation):
  json.dumps(evaluation, allow_nan=False)
  inside = []

  def visit(node):
    if isinstance(node, dict):
      if 'ci95' in node:
        inside.append(node['ci95'][0] <= node['value'] <= node['ci95'][1])
      for child in node.values():
        visit(child)

  visit(evaluation)
  assert len(inside) > 100 and all(inside)


def test_seeds_that_disagree_widen_every_difference():
  """The same mean scores; only the spread between seeds differs."""
  generator = np.random.default_rng(2)
  labels = (generator.random((300, 1)) < 0.4).astype(int)
  noise = generator.normal(size=(300, 1))
  scores = lambda *shifts: (
    1 / (1 + np.exp(-np.stack([noise + s * labels for s in shifts])))
  )
  calm = {'random_probe': scores(1, 1, 1), 'probe': scores(1.5, 1.5, 1.5)}
  wild = {'random_probe': scores(1, 1, 1), 'probe': scores(0.9, 1.5, 2.3)}

  def difference(arms):
    found = compare_arms.evaluate_arms(
      arms, labels, np.arange(300), ['a'], method='probe', draws=400
    )
    assert found['bootstrap']['num_seeds'] == 3
    tables = found['differences'], found['differences_per_class']
    pair = 'probe-random_probe'
    return tables[0][pair]['macro_auroc'], tables[1][pair]['a']['auroc']

  for quiet, loud in zip(difference(calm), difference(wild)):
    assert quiet['p'] < 0.01 < 0.05 < loud['p']
    assert np.diff(loud['ci95']) > 3 * np.diff(quiet['ci95'])


def test_arms_share_their_number_of_seeds(cohort):
  arms, labels, patients, _ = cohort
  uneven = arms | {'probe': arms['probe'][:1]}
  with pytest.raises(ValueError, match='different numbers of seeds'):
    compare_arms.evaluate_arms(
      uneven, labels, patients, NAMES, method='probe', draws=10
    )


def test_a_threshold_that_one_seed_lacks_leaves_the_metric_out(cohort):
  """A validation subset of one seed may hold no positive of a label."""
  arms, labels, patients, thresholds = cohort
  for seed in (0, 1):
    holes = {name: cuts.copy() for name, cuts in thresholds.items()}
    for cuts in holes.values():
      cuts[seed, 0] = np.nan
    found = compare_arms.evaluate_arms(
      arms, labels, patients, NAMES, holes, method='probe', draws=40
    )
    json.dumps(found, allow_nan=False)
    assert 'f1' not in found['per_class']['a']
    assert found['metrics']['macro_f1']['num_labels'] == 1
    assert found['metrics']['macro_auroc']['num_labels'] == 2


def test_equivalence_is_of_the_macro_auroc_and_corrected(cohort):
  arms, labels, patients, _ = cohort
  one = {name: scores[0] for name, scores in arms.items()}
  one['probe'] = np.clip(one['random_probe'] + 1e-4, 0, 1)
  found = compare_arms.evaluate_arms(
    one, labels, patients, NAMES, method='probe', draws=200, margin=0.05
  )
  same = found['differences']['probe-random_probe']
  test = same['macro_auroc']['equivalence']
  assert test['p'] == 1 / 201 and test['p_holm'] == 2 / 201
  assert test['family_size'] == 2 and test['margin'] == 0.05
  other = found['differences']['scratch-random_probe']['macro_auroc']
  assert other['equivalence']['p'] > 0.05
  assert 'equivalence' not in same['macro_auprc']


def test_two_copies_of_one_model_do_not_differ(cohort):
  arms, labels, patients, _ = cohort
  copies = {'random_probe': arms['probe'], 'probe': arms['probe']}
  found = compare_arms.evaluate_arms(
    copies, labels, patients, NAMES, method='probe', draws=40
  )
  for entry in found['differences']['probe-random_probe'].values():
    assert entry['value'] == 0 and entry['ci95'] == [0, 0] and entry['p'] == 1
  assert 'macro_f1' not in found['metrics']


def test_label_mask_equals_leaving_records_out(cohort):
  arms, labels, patients, thresholds = cohort
  mask = np.ones_like(labels)
  mask[100:] = 0
  masked = compare_arms.evaluate_arms(
    arms, labels, patients, NAMES, thresholds, method='probe',
    label_mask=mask, draws=40,
  )  # fmt: skip
  short = compare_arms.evaluate_arms(
    {k: v[:, :100] for k, v in arms.items()}, labels[:100], patients[:100],
    NAMES, thresholds, method='probe', draws=40,
  )  # fmt: skip
  for name, entry in short['metrics'].items():
    assert masked['metrics'][name]['value'] == entry['value']
  assert masked['calibration'] == short['calibration']
  assert (
    masked['per_class']['a']['num_negative']
    == (short['per_class']['a']['num_negative'])
  )


def test_no_supported_label_is_said_not_guessed():
  labels = np.tile([[1], [0]], (4, 1))
  scores = np.linspace(0, 1, 8)[:, None]
  found = compare_arms.evaluate_arms(
    {'random_probe': scores}, labels, np.arange(8), ['a'],
    method='random_probe', draws=40,
  )  # fmt: skip
  assert found['metrics']['macro_auroc'] == {
    'value': None, 'ci95': None, 'num_labels': 0,
  }  # fmt: skip
  assert found['metrics']['macro_auroc_all']['value'] is not None


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(baseline='other'), "'other' is missing"),
    (dict(method='other'), "'other' is missing"),
    (dict(comparisons=[('probe', 'other')]), "'other' is missing"),
    (dict(thresholds={'probe': np.zeros(3)}), 'thresholds are for'),
    (dict(class_names=['a']), 'arm random_probe: labels'),
  ],
)
def test_refusals(cohort, change, message):
  arms, labels, patients, thresholds = cohort
  arguments = dict(
    arms=arms, labels=labels, patients=patients, class_names=NAMES,
    thresholds=thresholds, method='probe', draws=10,
  )  # fmt: skip
  with pytest.raises(ValueError, match=message):
    compare_arms.evaluate_arms(**arguments | change)
