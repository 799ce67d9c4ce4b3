"""The bootstrap: clustering, pairing, coverage, p values, Holm."""

import numpy as np
import pytest
from scipy import stats

from ecgjax.evaluation import bootstrap


def _auroc_draws(labels, scores, counts):
  """Point and draws [D] of one label's AUROC."""
  points, draws = bootstrap.label_draws(
    labels[:, None],
    scores[None, :, None],
    np.ones((len(labels), 1), bool),
    counts,
    np.full((1, 1), np.nan),
  )
  return points[0, 0, 0], draws[0, 0]


def _cohort(generator, patients, prevalence, shift):
  """Patients with 1-3 ECGs; scores share half their variance in a patient.

  The AUROC over pairs of records is Phi(shift / sqrt 2).
  """
  sizes = generator.integers(1, 4, patients)
  patient = np.repeat(np.arange(patients), sizes)
  labels = (generator.random(patients) < prevalence)[patient]
  own = generator.normal(size=len(patient))
  shared = generator.normal(size=patients)[patient]
  scores = stats.norm.cdf((own + shared) / np.sqrt(2) + shift * (labels - 0.5))
  return patient, labels, scores


def _coverage(data_sets, draws, patients, clustered=True):
  generator, shift = np.random.default_rng(0), 1.2
  truth, hits = stats.norm.cdf(shift / np.sqrt(2)), 0
  for index in range(data_sets):
    patient, labels, scores = _cohort(generator, patients, 0.35, shift)
    clusters = patient if clustered else np.arange(len(patient))
    counts = bootstrap.patient_counts(clusters, draws, index)
    low, high = bootstrap.interval(_auroc_draws(labels, scores, counts)[1])
    hits += low <= truth <= high
  return hits / data_sets


def test_counts_are_of_patients():
  patients = np.array(['b', 'a', 'c', 'a', 'b', 'a'])
  counts = bootstrap.patient_counts(patients, 50, seed=3)
  assert counts.shape == (6, 50) and counts.dtype == np.int16
  np.testing.assert_array_equal(counts[1], counts[3])
  np.testing.assert_array_equal(counts[0], counts[4])
  assert np.all(counts[[0, 1, 2]].sum(axis=0) == 3)  # three patients drawn
  order = [5, 2, 0, 1, 3, 4]
  shuffled = bootstrap.patient_counts(patients[order], 50, seed=3)
  np.testing.assert_array_equal(shuffled, counts[order])
  assert np.any(bootstrap.patient_counts(patients, 50, seed=4) != counts)
  # Uniform over patients whatever their number of records.
  many = bootstrap.patient_counts([0, 0, 0, 0, 1], 4000)
  assert abs(many[4].mean() - 1) < 0.05


def test_chunks_do_not_change_the_draws(monkeypatch):
  generator = np.random.default_rng(0)
  patient, labels, scores = _cohort(generator, 60, 0.4, 1.0)
  counts = bootstrap.patient_counts(patient, 64)
  whole = _auroc_draws(labels, scores, counts)[1]
  monkeypatch.setattr(bootstrap, '_CHUNK', 5 * len(labels))
  np.testing.assert_array_equal(_auroc_draws(labels, scores, counts)[1], whole)


def test_duplicated_records_leave_the_interval_unchanged():
  generator = np.random.default_rng(1)
  labels = generator.random(300) < 0.4
  scores = stats.norm.cdf(generator.normal(size=300) + labels)
  patients = np.arange(300)

  def width(patients, copies):
    counts = bootstrap.patient_counts(patients, 2000)
    rows = np.tile(np.arange(300), copies)
    low, high = bootstrap.interval(
      _auroc_draws(labels[rows], scores[rows], counts)[1]
    )
    return np.array([low, high])

  once = width(patients, 1)
  np.testing.assert_array_equal(width(np.tile(patients, 2), 2), once)
  # Taking copies for patients of their own narrows it by sqrt 2.
  narrow = width(np.arange(600), 2)
  assert abs(np.diff(once) / np.diff(narrow) / np.sqrt(2) - 1)[0] < 0.07


def test_coverage_of_the_nominal_95_percent_interval():
  assert 0.91 <= _coverage(200, 200, 120) <= 0.98
  # The same cohorts resampled by record: much too narrow.
  assert _coverage(200, 200, 120, clustered=False) < 0.91


@pytest.mark.slow
def test_coverage_is_between_93_and_97_percent():
  assert 0.93 <= _coverage(2000, 1000, 300) <= 0.97


def test_null_and_perfect_scores():
  generator = np.random.default_rng(2)
  patient, labels, scores = _cohort(generator, 200, 0.4, 1.0)
  counts = bootstrap.patient_counts(patient, 500)
  low, high = bootstrap.interval(
    _auroc_draws(generator.permutation(labels), scores, counts)[1]
  )
  assert low < 0.5 < high
  point, draws = _auroc_draws(labels, labels * 1.0, counts)
  assert point == 1 and bootstrap.interval(draws) == [1, 1]


def test_seeds_are_averaged_inside_each_draw():
  generator = np.random.default_rng(4)
  patient, labels, first = _cohort(generator, 80, 0.4, 1.0)
  second = stats.norm.cdf(generator.normal(size=len(labels)) + labels)
  counts = bootstrap.patient_counts(patient, 100)
  points, draws = bootstrap.label_draws(
    labels[:, None],
    np.stack([first, second])[:, :, None],
    np.ones((len(labels), 1), bool),
    counts,
    np.full((2, 1), 0.5),
  )
  alone = [_auroc_draws(labels, s, counts) for s in (first, second)]
  np.testing.assert_allclose(points[:, 0, 0], [a[0] for a in alone])
  np.testing.assert_allclose(
    draws[0, 0], np.mean([a[1] for a in alone], axis=0), atol=1e-15
  )


def test_macro_keeps_its_label_set():
  points = np.array([0.9, 0.5])
  draws = np.array([[0.8, 1.0, 0.9], [0.6, np.nan, 0.4]])
  np.testing.assert_allclose(
    bootstrap.macro_draws(points, draws), [0.7, 0.75, 0.65]
  )


def test_interval_ignores_undefined_draws():
  draws = np.append(np.arange(101) / 100, [np.nan] * 7)
  np.testing.assert_allclose(bootstrap.interval(draws), [0.025, 0.975])
  with pytest.raises(ValueError, match='no bootstrap draw'):
    bootstrap.interval(np.full(3, np.nan))


def test_p_value_by_hand():
  assert bootstrap.p_value(np.zeros(99)) == 1
  assert bootstrap.p_value(np.ones(99)) == 2 * 1 / 100
  assert bootstrap.p_value(-np.ones(99)) == 2 * 1 / 100
  mixed = np.array([-1.0, 0.0] + [1.0] * 97 + [np.nan])
  assert bootstrap.p_value(mixed) == 2 * 3 / 100


def test_holm_by_hand():
  # Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04 -> running maximum.
  adjusted = bootstrap.holm({'a': 0.01, 'b': 0.04, 'c': 0.03, 'd': 0.005})
  assert list(adjusted) == ['a', 'b', 'c', 'd']
  np.testing.assert_allclose(list(adjusted.values()), [0.03, 0.06, 0.06, 0.02])
  assert bootstrap.holm({'a': 0.6, 'b': 0.7}) == {'a': 1.0, 'b': 1.0}


def test_mean_with_interval():
  hits = np.array([1, 0, 1, 1, 0, 1] * 20)
  entry = bootstrap.mean_with_interval(hits, np.arange(120), draws=2000)
  assert entry['value'] == hits.mean()
  expected = stats.binom.ppf([0.025, 0.975], 120, 2 / 3) / 120
  np.testing.assert_allclose(entry['ci95'], expected, atol=0.012)
