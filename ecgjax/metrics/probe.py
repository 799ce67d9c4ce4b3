"""Linear probes on frozen features (docs/evaluation.md, Probe).

`standardised_lr`, the protocol's, standardises features with the training
subset and gives each label an L2 logistic regression; one C serves all labels:
the one with the best macro AUROC on validation. `reference` is the LCD authors'
recipe. Fitting sees training and validation data only; the test split is scored
afterwards, by `predict`.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy import special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ecgjax.metrics import metrics

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
  """Fits the protocol's probe; the same data give the same probe.

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
  mean = np.asarray(np.mean(train_features, axis=0, dtype=np.float64))
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
    val_auroc[c] = metrics.macro(
      metrics.auroc(val_labels, scores, val_label_mask)
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
  scores = special.expit(logits)
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


class ReferenceProbe(NamedTuple):
  """A linear softmax classifier on raw features.

  Attributes:
    weights: [D, K].
    bias: [K].
    epoch: the one with the lowest validation loss, from 1.
    num_dropped: training records without exactly one label.
  """

  weights: np.ndarray
  bias: np.ndarray
  epoch: int
  num_dropped: int

  def predict(self, features: np.ndarray) -> np.ndarray:
    """Softmax probabilities [N, K] of features [N, D]."""
    logits = np.asarray(features, np.float64) @ self.weights + self.bias
    return special.softmax(logits, axis=1)


def reference(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  val_features: np.ndarray,
  val_labels: np.ndarray,
  *,
  train_label_mask: np.ndarray | None = None,
  val_label_mask: np.ndarray | None = None,
  epochs: int = 100,
  batch_size: int = 128,
  learning_rate: float = 1e-3,
  seed: int = 0,
) -> ReferenceProbe:
  """Fits the LCD authors' probe, as in their code; for parity runs only.

  One linear layer on features that are not standardised, softmax cross-entropy,
  Adam, the epoch with the lowest validation loss. Records without exactly one
  label, all annotated, are dropped, as the authors do.

  Args:
    train_features: [N, D].
    train_labels: [N, K] in {0, 1}.
    val_features: [M, D].
    val_labels: [M, K].
    train_label_mask: [N, K], 0 where a label was not annotated.
    val_label_mask: [M, K].
    epochs: over the training records.
    batch_size: the last, smaller batch is kept.
    learning_rate: Adam's.
    seed: int; order of the records and first weights follow from it.

  Returns:
    The classifier.

  Raises:
    ValueError: if no training or no validation record has exactly one label.
  """
  train, rows = _single_label(train_labels, train_label_mask)
  val, val_rows = _single_label(val_labels, val_label_mask)
  if not (len(train) and len(val)):
    raise ValueError(
      'the reference probe needs records with exactly one label in train and '
      'validation; use standardised_lr for multi-label data'
    )
  inputs = np.asarray(train_features, np.float64)[rows]
  val_inputs = np.asarray(val_features, np.float64)[val_rows]
  size, classes = inputs.shape[1], np.shape(train_labels)[1]
  generator = np.random.default_rng(seed)
  bound = 1 / np.sqrt(size)  # the default of a PyTorch linear layer
  theta = generator.uniform(-bound, bound, (size + 1, classes))  # bias last
  first, second, step = np.zeros_like(theta), np.zeros_like(theta), 0
  best = (np.inf, 0, theta)
  for epoch in range(1, epochs + 1):
    order = generator.permutation(len(inputs))
    for start in range(0, len(inputs), batch_size):
      batch = order[start : start + batch_size]
      error = special.softmax(inputs[batch] @ theta[:-1] + theta[-1], axis=1)
      error[np.arange(len(batch)), train[batch]] -= 1
      error /= len(batch)
      gradient = np.vstack([inputs[batch].T @ error, error.sum(axis=0)])
      step += 1
      first = 0.9 * first + 0.1 * gradient
      second = 0.999 * second + 0.001 * gradient**2
      scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
      theta = theta - learning_rate * first / (1 - 0.9**step) / scale
    logits = val_inputs @ theta[:-1] + theta[-1]
    log_p = special.log_softmax(logits, axis=1)
    loss = -log_p[np.arange(len(val)), val].mean()
    if loss < best[0]:
      best = (loss, epoch, theta)
  _, epoch, theta = best
  dropped = len(train_labels) - len(train)
  return ReferenceProbe(theta[:-1], theta[-1], epoch, dropped)


def _single_label(labels, label_mask) -> tuple[np.ndarray, np.ndarray]:
  """Class and row of the records with exactly one label, all annotated."""
  labels = np.asarray(labels) > 0
  single = labels.sum(axis=1) == 1
  if label_mask is not None:
    single &= np.asarray(label_mask).astype(bool).all(axis=1)
  rows = np.flatnonzero(single)
  return labels[rows].argmax(axis=1), rows
