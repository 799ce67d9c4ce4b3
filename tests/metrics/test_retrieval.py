"""Retrieval against brute force."""

import numpy as np
import pytest

from ecgjax.metrics import retrieval


def cohort(num_patients=40, noise=1.0, seed=0):
  rng = np.random.default_rng(seed)
  sizes = rng.integers(1, 5, num_patients)
  patient = np.repeat(rng.permutation(num_patients) + 100, sizes)
  own = rng.normal(size=(num_patients, 8))
  features = np.repeat(own, sizes, axis=0)
  features = features + noise * rng.normal(size=features.shape)
  return features, patient, rng.uniform(0, 900, len(patient))


def evaluate(features, *arguments, draws=10, **options):
  """Counts, and what is found of a single arm."""
  found = retrieval.evaluate(
    {'one': features}, *arguments, baseline='one', draws=draws, **options
  )
  assert not found['differences']
  return found, found['arms']['one']


def brute_force(features, patient):
  """Best rank of each query, by sorting everything."""
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  best = {}
  for i in range(len(unit)):
    if (patient == patient[i]).sum() < 2:
      continue
    order = sorted(
      (j for j in range(len(unit)) if j != i),
      key=lambda j: -(unit[i] @ unit[j]),
    )
    hits = [r for r, j in enumerate(order) if patient[j] == patient[i]]
    best[i] = hits[0] + 1
  return np.array(list(best.values()))


def test_against_brute_force():
  features, patient, times = cohort()
  best = brute_force(features, patient)
  counts, found = evaluate(features, patient, times, draws=200)
  assert counts['num_queries'] == len(best) < counts['num_gallery']
  assert counts['num_patients'] == (np.bincount(patient) > 1).sum()
  assert found['recall_at_1']['value'] == np.mean(best == 1)
  expected = np.mean(1 / best)
  assert found['mean_reciprocal_rank']['value'] == pytest.approx(expected)
  for name in ('recall_at_1', 'mean_reciprocal_rank'):
    low, high = found[name]['ci95']
    assert 0 < low < found[name]['value'] < high < 1
  shuffled = np.random.default_rng(1).permutation(len(patient))
  _, again = evaluate(features[shuffled], patient[shuffled])
  assert again['recall_at_1']['value'] == found['recall_at_1']['value']


def test_perfect_random_and_collapsed():
  features, patient, _ = cohort(noise=0.0)
  value = lambda x: evaluate(x, patient)[1]['recall_at_1']['value']
  assert value(features) == 1
  assert value(features * np.linspace(0.1, 9, len(features))[:, None]) == 1
  noise = np.random.default_rng(2).normal(size=(len(patient), 8))
  assert value(noise) < 0.15
  assert value(np.ones_like(features)) == 0  # equal features find nobody
  assert value(np.zeros_like(features)) == 0


def test_strata_and_label_change():
  """Two patients; the second one's rhythm changes between two ECGs."""
  features = np.array([[1, 0], [1, 0.1], [1, 0.3], [0, 1], [0.2, 1], [-1, 0]])
  patient = np.array([4, 4, 4, 9, 9, 5])
  times = np.array([0, 10, 500, -1, 3, 0])
  labels = np.array([[1], [1], [1], [0], [1], [0]])
  _, found = evaluate(features, patient, times, labels, gap_edges=(30, 365))
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  by_gap = found['by_gap']
  assert {k: v['num_pairs'] for k, v in by_gap.items()} == {
    'under_30_days': 2, 'longer': 4, 'unknown': 2
  }  # fmt: skip
  expected = unit[0] @ unit[1]
  assert by_gap['under_30_days']['similarity']['value'] == pytest.approx(
    expected
  )
  expected = (unit[0] @ unit[2] + unit[1] @ unit[2]) / 2
  assert by_gap['longer']['similarity']['value'] == pytest.approx(expected)
  assert by_gap['longer']['recall_at_1']['value'] == 1
  # Rows 3 and 4 are nearest to each other.
  assert by_gap['unknown']['mean_reciprocal_rank'] == {
    'value': 1, 'ci95': [1, 1]
  }  # fmt: skip
  change = found['label_change']
  assert change['changed']['value'] == pytest.approx(unit[3] @ unit[4])
  equal = [unit[i] @ unit[j] for i, j in ((0, 1), (0, 2), (1, 2))]
  assert change['equal']['value'] == pytest.approx(np.mean(equal))


def test_needs_pairs():
  with pytest.raises(ValueError, match='two ECGs'):
    evaluate(np.eye(3), [1, 2, 3])


def test_differences_are_paired():
  features, patient, _ = cohort(noise=0.6)
  worse = cohort(noise=2.0)[0]
  arms = {'a': features, 'b': worse, 'same': features}
  found = retrieval.evaluate(arms, patient, baseline='a', draws=300)
  assert list(found['differences']) == ['b-a', 'same-a']
  change = found['differences']['b-a']['recall_at_1']
  values = [found['arms'][name]['recall_at_1']['value'] for name in 'ba']
  assert change['value'] == pytest.approx(values[0] - values[1])
  assert change['ci95'][1] < 0 and change['p'] < 0.01
  nothing = found['differences']['same-a']['mean_reciprocal_rank']
  assert nothing == {'value': 0, 'ci95': [0, 0], 'p': 1}
