"""Linear probe `standardised_lr` (specification: protocol, section 4).

Features are standardised with the training subset, each label gets an L2
logistic regression, and one C serves all labels: the one with the best macro
AUROC on validation. Fitting sees training and validation data only; the test
split is scored afterwards, by `Probe.predict`.
"""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ecgjax.evaluation import metrics as metrics_lib

C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_TOLERANCE = 1e-5  # on the gradient of the mean loss
_MAX_ITERATIONS = 1000


class Probe(NamedTuple):
  """A fitted probe: a linear map on standardised features.

  Attributes:
    mean: [D] of the training features.
    deviation: [D] of the training features; 1 where it was below 1e-6.
    weights: [D, K].
    bias: [K]; where a label had one class in training, the weights are zero
      and `constant` holds its prevalence.
    constant: [K]; NaN for labels that were fitted.
    c: the chosen inverse regularisation strength.
    val_auroc: C -> macro AUROC on validation.
    num_unconverged: fits, over all C and labels, that still missed the
      gradient tolerance when the iterations were used up.
  """

  mean: np.ndarray
  deviation: np.ndarray
  weights: np.ndarray
  bias: np.ndarray
  constant: np.ndarray
  c: float
  val_auroc: dict
  num_unconverged: int

  def predict(self, features: np.ndarray) -> np.ndarray:
    """Probabilities.

    Args:
      features: [N, D].

    Returns:
      [N, K] float64.
    """
    inputs = _standardise(features, self.mean, self.deviation)
    return _predict(inputs, self.weights, self.bias, self.constant)


def standardised_lr(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  val_features: np.ndarray,
  val_labels: np.ndarray,
  *,
  train_label_mask: np.ndarray | None = None,
  val_label_mask: np.ndarray | None = None,
) -> Probe:
  """Fits the probe; deterministic.

  Args:
    train_features: [N, D] pooled encoder output before any projector.
    train_labels: [N, K] in {0, 1}.
    val_features: [M, D].
    val_labels: [M, K].
    train_label_mask: [N, K], 0 where a label was not annotated.
    val_label_mask: [M, K].

  Returns:
    The probe with the best validation macro AUROC; ties go to the smaller C.

  Raises:
    ValueError: if a feature is not finite, or if no label has both classes on
      validation, so that C cannot be chosen.
  """
  labels = np.asarray(train_labels) > 0
  keep = np.ones_like(labels)
  if train_label_mask is not None:
    keep = np.asarray(train_label_mask) > 0
  for name, rows in (('train', train_features), ('val', val_features)):
    if not np.all(np.isfinite(rows)):
      raise ValueError(f'{name} features hold NaN or infinity')
  mean = np.mean(train_features, axis=0, dtype=np.float64)
  deviation = np.std(train_features, axis=0, dtype=np.float64)
  deviation = np.where(deviation < 1e-6, 1.0, deviation)
  inputs = _standardise(train_features, mean, deviation)
  val_inputs = _standardise(val_features, mean, deviation)

  constant = _constants(labels, keep)
  shape = (len(C_GRID), inputs.shape[1] + 1, labels.shape[1])
  path = np.zeros(shape)  # [C, D + 1, K], bias last
  unconverged = 0
  # One thread: the products are too small for more (on two busy cores two
  # threads took 30 times as long), and sums do not depend on the core count.
  with threadpool_limits(1, user_api='blas'):
    for k in np.flatnonzero(np.isnan(constant)):
      path[:, :, k], missed = _regularisation_path(
        inputs[keep[:, k]], labels[keep[:, k], k]
      )
      unconverged += missed

  val_auroc = {}
  for c, solution in zip(C_GRID, path):
    scores = _predict(val_inputs, solution[:-1], solution[-1], constant)
    val_auroc[c] = metrics_lib.macro(
      metrics_lib.auroc(val_labels, scores, val_label_mask)
    )
  values = np.array(list(val_auroc.values()))
  if np.isnan(values).any():
    raise ValueError(
      'no label has a positive and a negative on validation, so that C cannot '
      'be chosen; use a larger validation split'
    )
  best = int(np.argmax(values))  # the first of equals: the smallest C
  return Probe(
    mean, deviation, path[best, :-1], path[best, -1], constant, C_GRID[best],
    val_auroc, unconverged,
  )  # fmt: skip


def _standardise(features, mean, deviation) -> np.ndarray:
  return (np.asarray(features, np.float64) - mean) / deviation


def _predict(inputs, weights, bias, constant) -> np.ndarray:
  """Logistic scores [N, K]; the constant where a label has one."""
  logits = inputs @ weights + bias
  scores = np.exp(-np.logaddexp(0, -logits))
  return np.where(np.isnan(constant), scores, constant)


def _constants(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
  """Prevalence [K] of labels with one class in training, NaN elsewhere.

  A label that nobody annotated has no prevalence; its score is 0.
  """
  positive, annotated = (labels & keep).sum(axis=0), keep.sum(axis=0)
  single = (positive == 0) | (positive == annotated)
  return np.where(single, positive / np.maximum(annotated, 1), np.nan)


def _regularisation_path(inputs, positive) -> tuple[np.ndarray, int]:
  """Solutions [C, D + 1] of one label, each started from the one before.

  Returns:
    The solutions, bias last, and how many did not converge.
  """
  model = LogisticRegression(
    tol=_TOLERANCE, max_iter=_MAX_ITERATIONS, warm_start=True
  )
  solutions, missed = [], 0
  for c in C_GRID:
    model.set_params(C=c, max_iter=_MAX_ITERATIONS)
    if not _fit(model, inputs, positive):
      model.set_params(max_iter=10 * _MAX_ITERATIONS)  # continues
      missed += not _fit(model, inputs, positive)
    solutions.append(np.append(model.coef_[0], model.intercept_[0]))
  return np.stack(solutions), missed


def _fit(model, inputs, positive) -> bool:
  """Fits in place; True if the solver reached its tolerance."""
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always', ConvergenceWarning)
    model.fit(inputs, positive)
  converged = True
  for warning in caught:
    if issubclass(warning.category, ConvergenceWarning):
      converged = False
    else:
      warnings.warn_explicit(
        warning.message, warning.category, warning.filename, warning.lineno
      )
  return converged
