"""Multi-label metrics that accept integer record weights.

Every metric is computed by one code path, `label_metrics`, for the point
estimate (weights of one) and for bootstrap draws (weights = how often the
record's patient was drawn). All sums are sums of integers held in float64, so
the two agree to the last bit, and a point cannot leave its own interval by
rounding. Values equal scikit-learn's to 1e-12 (tested), with or without ties.
"""

from collections.abc import Sequence

import numpy as np

# Metrics with an interval. The expected calibration error is not among them:
# the mean of absolute gaps over small bins is biased upwards, and more so in
# resamples, so that its percentile interval often excludes the point itself.
METRICS = ('auroc', 'auprc', 'f1', 'sensitivity', 'specificity', 'brier')
NUM_BINS = 15
MIN_PATIENTS = 10  # positive and negative test patients of a supported label


def _cumulative(weights: np.ndarray) -> np.ndarray:
  """Running sums over rows that start at zero: [N, D] -> [N + 1, D]."""
  sums = np.zeros((len(weights) + 1, weights.shape[1]))
  np.cumsum(weights, axis=0, out=sums[1:])
  return sums


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """numerator / denominator, NaN where the denominator is zero."""
  undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
  return np.divide(
    numerator, denominator, out=undefined, where=denominator != 0
  )


def ranking_metrics(
  positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Area under the ROC curve and average precision, ties averaged.

  Only positives are looked up in the sorted negatives, so a draw costs one
  running sum over the records.

  A positive that was drawn several times counts once in its own precision: its
  copies would otherwise vouch for each other, and average precision would be
  higher in every draw than in the sample. With 40 labels of 12 positives that
  bias puts the macro mean of the sample below its own 95 % interval. With
  weights of one this is the ordinary definition.

  Args:
    positive: [N] bool.
    scores: [N], higher is more likely positive.
    weights: [N, D] non-negative integers (any dtype), one column per draw.

  Returns:
    AUROC [D] and average precision [D]; NaN in a draw without a positive or
    without a negative.
  """
  pos, neg = np.flatnonzero(positive), np.flatnonzero(~positive)
  pos = pos[np.argsort(scores[pos], kind='stable')]
  neg = neg[np.argsort(scores[neg], kind='stable')]
  pos_scores, neg_scores = scores[pos], scores[neg]
  pos_weight = weights[pos].astype(np.float64)  # [P, D]
  pos_sum, neg_sum = _cumulative(pos_weight), _cumulative(weights[neg])
  total_pos, total_neg = pos_sum[-1], neg_sum[-1]  # [D]
  pairs = total_pos * total_neg

  below = neg_sum[np.searchsorted(neg_scores, pos_scores, 'left')]  # [P, D]
  up_to = neg_sum[np.searchsorted(neg_scores, pos_scores, 'right')]
  wins = np.einsum('pd,pd->d', pos_weight, below + up_to) / 2

  # Precision at the threshold equal to each positive's own score, where the
  # record itself counts once.
  others = total_pos - pos_sum[np.searchsorted(pos_scores, pos_scores)]
  true_pos = others - pos_weight + 1
  precision = true_pos / (true_pos + total_neg - below)
  hits = np.einsum('pd,pd->d', pos_weight, precision)
  return _ratio(wins, pairs), _ratio(hits, np.where(pairs > 0, total_pos, 0))


def label_metrics(
  positive: np.ndarray,
  scores: np.ndarray,
  weights: np.ndarray,
  threshold: float = np.nan,
) -> np.ndarray:
  """Computes all of `METRICS` for one label in every draw.

  Args:
    positive: [N] bool.
    scores: [N] probabilities.
    weights: [N, D] non-negative integers.
    threshold: a record is called positive where its score >= threshold; NaN
      (none could be chosen on validation) leaves F1, sensitivity and
      specificity undefined.

  Returns:
    [len(METRICS), D]; all NaN in a draw that lacks one of the classes.
  """
  called = scores >= threshold
  rows = np.stack([
    positive, ~positive, positive & called, ~positive & called,
    np.square(scores - positive),
  ]).astype(np.float64)  # fmt: skip
  num_pos, num_neg, true_pos, false_pos, square = rows @ weights  # [D] each
  auroc, auprc = ranking_metrics(positive, scores, weights)
  sensitivity = _ratio(true_pos, num_pos)
  specificity = _ratio(num_neg - false_pos, num_neg)
  f1 = _ratio(2 * true_pos, num_pos + true_pos + false_pos)
  brier = _ratio(square, num_pos + num_neg)
  values = np.stack([auroc, auprc, f1, sensitivity, specificity, brier])
  if np.isnan(threshold):
    values[2:5] = np.nan
  values[:, (num_pos == 0) | (num_neg == 0)] = np.nan
  return values


def auroc(labels, scores, label_mask=None) -> np.ndarray:
  """AUROC per label.

  Args:
    labels: [N, K] in {0, 1}.
    scores: [N, K].
    label_mask: [N, K], 0 where a label was not annotated.

  Returns:
    [K]; NaN for a label without a positive or without a negative.
  """
  labels, scores, keep = _columns(labels, scores, label_mask)
  result = np.empty(labels.shape[1])
  for k in range(labels.shape[1]):
    rows = keep[:, k]
    ones = np.ones((int(rows.sum()), 1))
    result[k] = ranking_metrics(labels[rows, k], scores[rows, k], ones)[0][0]
  return result


def macro(values: np.ndarray) -> float:
  """Mean over the labels where the metric is defined; NaN if there is none."""
  defined = values[~np.isnan(values)]
  return float(defined.mean()) if len(defined) else float('nan')


def f1_thresholds(labels, scores, label_mask=None) -> np.ndarray:
  """Returns the threshold with the best F1 per label; use VALIDATION scores.

  Equal scores fall on the same side. Of equally good thresholds the highest is
  taken.

  Args:
    labels: [M, K] in {0, 1}, validation split.
    scores: [M, K], or [S, M, K] for S training seeds.
    label_mask: [M, K], 0 where a label was not annotated.

  Returns:
    [K] or [S, K]; NaN for a label without a positive.
  """
  if np.ndim(scores) == 3:
    return np.stack([f1_thresholds(labels, s, label_mask) for s in scores])
  labels, scores, keep = _columns(labels, scores, label_mask)
  thresholds = np.full(labels.shape[1], np.nan)
  for k in range(labels.shape[1]):
    y, s = labels[keep[:, k], k], scores[keep[:, k], k]
    if not y.any():
      continue
    order = np.argsort(-s, kind='stable')
    y, s = y[order], s[order]
    last = np.append(s[1:] != s[:-1], True)  # last record of each tied group
    true_pos, called = np.cumsum(y)[last], np.flatnonzero(last) + 1
    f1 = 2 * true_pos / (called + y.sum())
    thresholds[k] = s[last][np.argmax(f1)]
  return thresholds


def calibration_bins(scores: np.ndarray, bins: int = NUM_BINS) -> np.ndarray:
  """Puts records into bins of equal mass; equal scores share a bin.

  The edges are quantiles of the scores, as in scikit-learn's
  `calibration_curve(strategy='quantile')`.

  Args:
    scores: [N] probabilities.
    bins: number of bins; some stay empty where scores are tied.

  Returns:
    [N] int in [0, bins).
  """
  edges = np.percentile(scores, np.linspace(0, 1, bins + 1) * 100)
  return np.searchsorted(edges[1:-1], scores)


def calibration_error(labels, scores, label_mask=None) -> np.ndarray:
  """Expected calibration error per label, 15 equal-mass bins.

  sum over bins of (records / all records) |mean score - share of positives|.

  Args:
    labels: [N, K] in {0, 1}.
    scores: [N, K] probabilities.
    label_mask: [N, K], 0 where a label was not annotated.

  Returns:
    [K]; NaN for a label that was never annotated.
  """
  labels, scores, keep = _columns(labels, scores, label_mask)
  errors = np.full(labels.shape[1], np.nan)
  for k in range(labels.shape[1]):
    y, s = labels[keep[:, k], k], scores[keep[:, k], k]
    if len(y):
      gaps = np.bincount(calibration_bins(s), weights=s - y)
      errors[k] = np.abs(gaps).sum() / len(y)
  return errors


def support(labels, patients, label_mask=None) -> dict[str, np.ndarray]:
  """Counts records and patients of each label, and says which are supported.

  Args:
    labels: [N, K] in {0, 1}.
    patients: [N].
    label_mask: [N, K], 0 where a label was not annotated.

  Returns:
    `num_positive`, `num_negative` (records), `num_positive_patients`,
    `num_negative_patients` (patients with at least one such record), all [K]
    int, and `supported` [K] bool: >= 10 patients on both sides.
  """
  labels, _, keep = _columns(labels, labels, label_mask)
  patients = np.asarray(patients)
  sides = {'positive': labels & keep, 'negative': ~labels & keep}
  counts = {}
  for side, rows in sides.items():
    counts[f'num_{side}'] = rows.sum(axis=0)
    counts[f'num_{side}_patients'] = np.array(
      [len(np.unique(patients[column])) for column in rows.T], int
    )
  counts['supported'] = (counts['num_positive_patients'] >= MIN_PATIENTS) & (
    counts['num_negative_patients'] >= MIN_PATIENTS
  )
  return counts


def check_inputs(
  labels, scores, patients, class_names: Sequence[str], label_mask=None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Checks one arm's arrays and brings them to a common form.

  Args:
    labels: [N, K] in {0, 1}.
    scores: [N, K] or [S, N, K] probabilities.
    patients: [N].
    class_names: K names.
    label_mask: [N, K] or None.

  Returns:
    labels [N, K] bool, scores [S, N, K] float64, keep [N, K] bool.

  Raises:
    ValueError: if shapes disagree or a value is out of range.
  """
  labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
  scores = scores[None] if scores.ndim == 2 else scores  # [S, N, K]
  shape = (len(patients), len(class_names))
  if labels.shape != shape or scores.shape[1:] != shape:
    raise ValueError(
      f'labels {labels.shape} and scores {scores.shape[1:]} must be '
      f'(patients, class names) = {shape}'
    )
  if not (np.all(scores >= 0) and np.all(scores <= 1)):
    raise ValueError('scores must be probabilities in [0, 1], without NaN')
  if not np.all((labels == 0) | (labels == 1)):
    raise ValueError('labels must be 0 or 1')
  labels, _, keep = _columns(labels, labels, label_mask)
  return labels, scores, keep


def _columns(labels, scores, label_mask):
  """Boolean labels, float64 scores and boolean mask of the same shape."""
  labels = np.asarray(labels) > 0
  keep = np.ones_like(labels) if label_mask is None else label_mask
  keep = np.asarray(keep) > 0
  if keep.shape != labels.shape:
    raise ValueError(
      f'label_mask has shape {keep.shape}, labels have {labels.shape}'
    )
  return labels, np.asarray(scores, np.float64), keep
