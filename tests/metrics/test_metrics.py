"""Metrics against scikit-learn and brute force."""

import numpy as np
import pytest
from sklearn import calibration as sk_calibration
from sklearn import metrics as sk

from ecgjax.metrics import metrics


def _data(records=700, classes=9, decimals=None, seed=0):
  """Labels [N, K] bool and probabilities [N, K], tied when rounded."""
  generator = np.random.default_rng(seed)
  prevalence = generator.uniform(0.02, 0.6, classes)
  labels = generator.random((records, classes)) < prevalence
  scores = 1 / (1 + np.exp(-generator.normal(size=labels.shape) - labels + 1))
  if decimals is not None:
    scores = np.round(scores, decimals)
  return labels, scores


@pytest.mark.parametrize('decimals', [None, 2, 1])
def test_equal_to_scikit_learn(decimals):
  labels, scores = _data(decimals=decimals)
  ones = np.ones((len(labels), 1))
  auroc = metrics.auroc(labels, scores)
  np.testing.assert_allclose(
    auroc, sk.roc_auc_score(labels, scores, average=None), atol=1e-12, rtol=0
  )
  assert abs(metrics.macro(auroc) - sk.roc_auc_score(labels, scores)) < 1e-12
  thresholds = metrics.f1_thresholds(labels[:300], scores[:300])
  for k in range(labels.shape[1]):
    y, s = labels[:, k], scores[:, k]
    values = metrics.label_metrics(y, s, ones, thresholds[k])[:, 0]
    called = s >= thresholds[k]
    expected = [
      sk.roc_auc_score(y, s),
      sk.average_precision_score(y, s),
      sk.f1_score(y, called),
      sk.recall_score(y, called),
      sk.recall_score(~y, ~called),
      sk.brier_score_loss(y, s),
    ]
    np.testing.assert_allclose(values, expected, atol=1e-12, rtol=0)


def test_published_size_equal_to_scikit_learn():
  labels, scores = _data(records=2200, classes=71, decimals=3, seed=1)
  np.testing.assert_allclose(
    metrics.auroc(labels, scores),
    sk.roc_auc_score(labels, scores, average=None),
    atol=1e-12,
    rtol=0,
  )


@pytest.mark.parametrize('decimals', [None, 1])
def test_weighted_auroc_equals_scikit_learn_and_a_rebuilt_sample(decimals):
  labels, scores = _data(records=150, classes=1, decimals=decimals)
  y, s = labels[:, 0], scores[:, 0]
  counts = np.random.default_rng(2).poisson(1, (150, 40))
  auroc, auprc = metrics.ranking_metrics(y, s, counts)
  values = metrics.label_metrics(y, s, counts, 0.4)
  for draw in range(40):
    w = counts[:, draw]
    expected = sk.roc_auc_score(y, s, sample_weight=w)
    assert abs(auroc[draw] - expected) < 1e-12
    rows = np.repeat(np.arange(150), w)
    assert abs(auroc[draw] - sk.roc_auc_score(y[rows], s[rows])) < 1e-12
    rebuilt = sk.f1_score(y[rows], s[rows] >= 0.4)
    assert abs(values[2, draw] - rebuilt) < 1e-12
    rebuilt = sk.brier_score_loss(y[rows], s[rows])
    assert abs(values[5, draw] - rebuilt) < 1e-12
    # Average precision: a record's own copies do not vouch for it.
    terms = []
    for i in np.flatnonzero(y & (w > 0)):
      above = s >= s[i]
      above[i] = False
      hits = (w * y)[above].sum() + 1
      terms.append((w[i], hits / (hits + (w * ~y)[above].sum())))
    weight, precision = np.array(terms).T
    assert abs(auprc[draw] - weight @ precision / weight.sum()) < 1e-12


def test_average_precision_of_draws_is_not_biased():
  """Plain weighted average precision is higher in nearly every draw."""
  generator = np.random.default_rng(3)
  ours, plain, point = [], [], []
  for _ in range(40):
    y, s = np.arange(200) < 12, generator.normal(size=200)
    counts = generator.multinomial(200, [1 / 200] * 200, size=15).T
    ours.append(np.nanmean(metrics.ranking_metrics(y, s, counts)[1]))
    plain.append(
      np.mean([
        sk.average_precision_score(y, s, sample_weight=w) for w in counts.T
      ])
    )  # fmt: skip
    point.append(sk.average_precision_score(y, s))
  assert abs(np.mean(ours) / np.mean(point) - 1) < 0.06
  assert np.mean(plain) / np.mean(point) > 1.1


def test_a_draw_without_a_class_is_undefined():
  y, s = np.array([True, False, False]), np.array([0.9, 0.2, 0.3])
  weights = np.array([[1, 0, 2], [1, 3, 0], [0, 1, 0]])
  values = metrics.label_metrics(y, s, weights, 0.5)
  assert not np.isnan(values[:, 0]).any()
  assert np.isnan(values[:, 1:]).all()
  assert np.isnan(metrics.auroc(np.zeros((3, 1)), s[:, None])[0])


def test_thresholds_maximise_f1_with_equal_scores_on_one_side():
  labels, scores = _data(records=120, classes=6, decimals=1)
  thresholds = metrics.f1_thresholds(labels, scores)
  for k, threshold in enumerate(thresholds):
    y, s = labels[:, k], scores[:, k]
    candidates = {t: sk.f1_score(y, s >= t) for t in np.unique(s)}
    assert sk.f1_score(y, s >= threshold) == max(candidates.values())
    assert threshold == max(
      t for t, f1 in candidates.items() if f1 == max(candidates.values())
    )
  seeds = metrics.f1_thresholds(labels, np.stack([scores, scores[::-1]]))
  assert seeds.shape == (2, 6)
  np.testing.assert_array_equal(seeds[0], thresholds)


def test_threshold_needs_a_positive():
  labels = np.array([[1, 0], [0, 0]])
  thresholds = metrics.f1_thresholds(labels, np.array([[0.7, 0.7], [0.1, 0.2]]))
  assert thresholds[0] == 0.7 and np.isnan(thresholds[1])


@pytest.mark.parametrize('decimals', [None, 1])
def test_calibration_error_equals_scikit_learn_bins(decimals):
  labels, scores = _data(records=997, classes=4, decimals=decimals)
  errors = metrics.calibration_error(labels, scores)
  for k in range(4):
    y, s = labels[:, k], scores[:, k]
    observed, predicted = sk_calibration.calibration_curve(
      y, s, n_bins=15, strategy='quantile'
    )
    sizes = np.bincount(metrics.calibration_bins(s), minlength=15)
    sizes = sizes[sizes > 0]
    assert len(sizes) == len(observed)
    expected = sizes @ np.abs(observed - predicted) / len(y)
    assert abs(errors[k] - expected) < 1e-12
  if decimals is None:
    sizes = np.bincount(metrics.calibration_bins(scores[:, 0]))
    assert len(sizes) == 15 and sizes.max() - sizes.min() <= 1


def test_support_counts_patients_not_records():
  patients = np.array([0] * 30 + list(range(1, 41)))
  labels = np.zeros((70, 2), int)
  labels[:30, 0] = 1  # thirty positive records of one patient
  labels[30:40, 1] = 1  # ten patients
  found = metrics.support(labels, patients)
  assert found['num_positive'].tolist() == [30, 10]
  assert found['num_positive_patients'].tolist() == [1, 10]
  assert found['num_negative_patients'].tolist() == [40, 31]
  assert found['supported'].tolist() == [False, True]
  labels[30, 1] = 0  # nine
  assert not metrics.support(labels, patients)['supported'].any()


def test_label_mask_leaves_records_out_of_a_label():
  labels, scores = _data(records=300, classes=3)
  mask = np.random.default_rng(5).random(labels.shape) < 0.6
  auroc = metrics.auroc(labels, scores, mask)
  errors = metrics.calibration_error(labels, scores, mask)
  for k in range(3):
    rows = mask[:, k]
    expected = sk.roc_auc_score(labels[rows, k], scores[rows, k])
    assert abs(auroc[k] - expected) < 1e-12
    alone = metrics.calibration_error(
      labels[rows][:, [k]], scores[rows][:, [k]]
    )
    assert errors[k] == alone[0]
  counts = metrics.support(labels, np.arange(300), mask)
  assert (counts['num_positive'] + counts['num_negative']).tolist() == (
    mask.sum(axis=0).tolist()
  )


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(scores=np.full((4, 2), 1.5)), 'probabilities'),
    (dict(scores=np.full((4, 2), np.nan)), 'probabilities'),
    (dict(labels=np.full((4, 2), 2)), '0 or 1'),
    (dict(scores=np.zeros((4, 3))), 'must be'),
    (dict(label_mask=np.ones((4, 1))), 'label_mask'),
  ],
)
def test_bad_inputs_are_refused(change, message):
  arguments = dict(
    labels=np.zeros((4, 2)),
    scores=np.zeros((4, 2)),
    patients=np.arange(4),
    class_names=['a', 'b'],
  )
  with pytest.raises(ValueError, match=message):
    metrics.check_inputs(**arguments | change)
