"""The bootstrap: clustering, pairing, coverage, p values, Holm."""

import numpy as np
import pytest
from scipy import stats

from ecgjax.metrics import bootstrap


def _auroc_draws(labels, scores, counts):
  """Point and draws [D] of one label's AUROC."""
  points, draws = bootstrap.label_draws(
    labels[:, None],
    scores[None, :, None],
    np.ones((len(labels), 1), bool),
    counts,
    np.full((1, 1), np.nan),
    bootstrap.seed_weights(1, counts.shape[1]),
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


def test_seeds_are_weighed_inside_each_draw():
  generator = np.random.default_rng(4)
  patient, labels, first = _cohort(generator, 80, 0.4, 1.0)
  second = stats.norm.cdf(generator.normal(size=len(labels)) + labels)
  counts = bootstrap.patient_counts(patient, 100)
  weights = bootstrap.seed_weights(2, 100)
  points, draws = bootstrap.label_draws(
    labels[:, None],
    np.stack([first, second])[:, :, None],
    np.ones((len(labels), 1), bool),
    counts,
    np.full((2, 1), 0.5),
    weights,
  )
  alone = [_auroc_draws(labels, s, counts) for s in (first, second)]
  np.testing.assert_allclose(points[:, 0, 0], [a[0] for a in alone])
  expected = sum(a[1] * w for a, w in zip(alone, weights.T))
  np.testing.assert_allclose(draws[0, 0], expected, atol=1e-14)


def test_weights_of_one_seed_and_their_sum():
  np.testing.assert_array_equal(bootstrap.seed_weights(1, 7), np.ones((7, 1)))
  weights = bootstrap.seed_weights(3, 500, seed=2)
  np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
  np.testing.assert_array_equal(weights, bootstrap.seed_weights(3, 500, seed=2))
  assert np.any(weights != bootstrap.seed_weights(3, 500, seed=3))


@pytest.mark.parametrize('num_seeds', [2, 3, 5])
def test_seeds_alone_give_the_interval_of_student(num_seeds):
  """Figures that only seeds move: the textbook t interval, written out."""
  figures = np.random.default_rng(num_seeds).normal(size=num_seeds)
  draws = bootstrap.seed_weights(num_seeds, 40_000) @ figures
  half = stats.t.ppf(0.975, num_seeds - 1) * stats.sem(figures)
  low, high = bootstrap.interval(draws)
  assert abs((high - low) / (2 * half) - 1) < 0.05
  assert abs((high + low) / 2 - figures.mean()) < 0.05 * half
  expected = stats.ttest_1samp(figures, 0).pvalue
  assert abs(bootstrap.p_value(draws) - expected) < 0.02


def _crossed_coverage(cohorts, draws, num_seeds, of_seeds, weigh):
  """Share of intervals that hold the truth; figures [patients, seeds].

  A figure is the sum of a patient's, a seed's and its own effect, so that the
  truth is zero; `of_seeds` is the seeds' share of the variance of the mean.
  """
  generator, patients, hits = np.random.default_rng(0), 60, 0
  for index in range(cohorts):
    seed_effect = generator.normal(size=num_seeds) * np.sqrt(
      of_seeds * num_seeds
    )
    effect = generator.normal(size=(patients, 1)) * np.sqrt(
      (1 - of_seeds) * patients
    )
    own = 0.5 * generator.normal(size=(patients, num_seeds))
    counts = bootstrap.patient_counts(np.arange(patients), draws, index)
    by_seed = counts.T @ (seed_effect + effect + own) / patients  # [D, S]
    drawn = (by_seed * weigh(num_seeds, draws, index)).sum(axis=1)
    low, high = bootstrap.interval(drawn)
    hits += low <= 0 <= high
  return hits / cohorts


def _resampled_seeds(num_seeds, draws, seed):
  """Seeds drawn with replacement, as weights."""
  chosen = np.random.default_rng([seed, 1]).multinomial(
    num_seeds, [1 / num_seeds] * num_seeds, draws
  )
  return chosen / num_seeds


@pytest.mark.parametrize('of_seeds', [0.05, 0.5, 0.95])
def test_coverage_over_patients_and_seeds(of_seeds):
  cover = lambda weigh: _crossed_coverage(200, 300, 3, of_seeds, weigh)
  assert cover(bootstrap.seed_weights) >= 0.91
  if of_seeds == 0.95:  # what must not be used, and why
    assert cover(_resampled_seeds) < 0.85
    fixed = lambda s, d, _: np.full((d, s), 1 / s)
    assert cover(fixed) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize('num_seeds', [2, 3, 5])
@pytest.mark.parametrize('of_seeds', [0.05, 0.5, 0.95])
def test_coverage_over_patients_and_seeds_closely(num_seeds, of_seeds):
  cover = _crossed_coverage(
    2000, 1000, num_seeds, of_seeds, bootstrap.seed_weights
  )
  assert 0.93 <= cover <= 1 if of_seeds < 0.9 else 0.93 <= cover <= 0.975


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


def test_correct_adds_holm_to_every_entry():
  family = {'a': {'p': 0.04}, 'b': {'p': 0.01}, 'c': {'p': 0.5}}
  bootstrap.correct(family)
  assert family == {
    'a': {'p': 0.04, 'p_holm': 0.08, 'family_size': 3},
    'b': {'p': 0.01, 'p_holm': 0.03, 'family_size': 3},
    'c': {'p': 0.5, 'p_holm': 0.5, 'family_size': 3},
  }


def test_holm_refuses_what_was_not_tested():
  """A NaN would take a rank that depends on the order of the family."""
  for p in (np.nan, -0.1, 1.5):
    for order in (('a', 'b', 'c'), ('c', 'b', 'a')):
      family = {'a': 0.01, 'b': p, 'c': 0.04}
      with pytest.raises(ValueError, match='p of b is'):
        bootstrap.holm({name: family[name] for name in order})


def test_equivalence_by_hand():
  draws = np.append(np.linspace(-0.9, 0.9, 97), [2.0, -2.0, np.nan])
  found = bootstrap.equivalence(draws, 1.0)
  assert found['p'] == 2 / 100 and found['margin'] == 1
  low, high = np.quantile(draws[:99], [0.05, 0.95])
  np.testing.assert_allclose(found['ci90'], [low, high])
  # One side is enough to refuse it.
  assert bootstrap.equivalence(draws + 0.95, 1.0)['p'] > 0.4
  with pytest.raises(ValueError, match='margin is 0'):
    bootstrap.equivalence(draws, 0)


def test_equivalence_is_wrong_one_time_in_twenty_at_the_margin():
  generator, claims = np.random.default_rng(5), 0
  for index in range(300):  # the truth lies on the margin
    values = generator.normal(0.3, 1, 200)
    counts = bootstrap.patient_counts(np.arange(200), 300, index)
    claims += bootstrap.equivalence(values @ counts / 200, 0.3)['p'] < 0.05
  assert claims / 300 < 0.08


def test_means_over_records_and_seeds():
  """An independent form: repeated records, weighed seeds, one at a time."""
  generator = np.random.default_rng(8)
  patients = np.arange(60) // 2
  values, others = generator.random((2, 3, 60))
  counts = bootstrap.patient_counts(patients, 50, 4)
  weights = bootstrap.seed_weights(3, 50, 4)

  def draws_of(change):
    return np.array([
      sum(
        w * np.mean(np.repeat(row, counts[:, draw]))
        for w, row in zip(weights[draw], change)
      )
      for draw in range(50)
    ])  # fmt: skip

  entry = bootstrap.mean_with_interval(values, patients, 50, 4)
  assert entry['num_seeds'] == 3 and entry['value'] == values.mean()
  ends = np.quantile(
    np.clip(draws_of(values), values.min(), values.max()), [0.025, 0.975]
  )
  np.testing.assert_allclose(entry['ci95'], ends)
  entry = bootstrap.paired_difference(values, others, patients, 50, 4)
  drawn = draws_of(values - others)
  np.testing.assert_allclose(entry['ci95'], np.quantile(drawn, [0.025, 0.975]))
  smaller = min(np.sum(drawn <= 0), np.sum(drawn >= 0)) + 1
  assert entry['p'] == min(1, 2 * smaller / 51)


def test_mean_with_interval():
  hits = np.array([1, 0, 1, 1, 0, 1] * 20)
  entry = bootstrap.mean_with_interval(hits, np.arange(120), draws=2000)
  assert entry['value'] == hits.mean()
  expected = stats.binom.ppf([0.025, 0.975], 120, 2 / 3) / 120
  np.testing.assert_allclose(entry['ci95'], expected, atol=0.012)
