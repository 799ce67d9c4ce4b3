"""The probes against the conditions that define them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
from sklearn import metrics as sk
from sklearn.exceptions import ConvergenceWarning

from ecgjax.metrics import metrics, probe


def _features(seed=0, records=260, size=24, classes=3):
  """Features with scale and offset, labels that depend on them."""
  generator = np.random.default_rng(seed)
  inner = generator.normal(size=(records, size))
  labels = inner @ generator.normal(size=(size, classes)) / 3
  labels = labels + generator.normal(size=labels.shape) > 0.8
  features = 5 + inner * generator.uniform(0.1, 30, size)
  features[:, 3] = 2.0  # no variance
  return features.astype(np.float32), labels.astype(np.uint8)


@pytest.fixture(scope='module')
def data():
  x, y = _features()
  return x[:160], y[:160], x[160:], y[160:]


@pytest.fixture(scope='module')
def fitted(data):
  return probe.standardised_lr(*data)


def _mean_loss_gradient(fitted, x, y, k):
  """Gradient of sum of log losses + |w|^2 / (2 C), over the records."""
  inputs = (x.astype(np.float64) - fitted.mean) / fitted.deviation
  error = special.expit(inputs @ fitted.weights[:, k] + fitted.bias[k]) - y
  weights = inputs.T @ error + fitted.weights[:, k] / fitted.c
  return np.append(weights, error.sum()) / len(x)


def test_standardisation_uses_the_training_subset(data, fitted):
  x = data[0].astype(np.float64)
  np.testing.assert_allclose(fitted.mean, x.mean(axis=0), rtol=1e-12)
  assert fitted.deviation[3] == 1
  keep = np.arange(x.shape[1]) != 3
  np.testing.assert_allclose(
    fitted.deviation[keep], x.std(axis=0)[keep], rtol=1e-12
  )


def test_solution_is_stationary_and_the_bias_is_not_penalised(data, fitted):
  assert fitted.num_unconverged == 0
  for k in range(3):
    gradient = _mean_loss_gradient(fitted, data[0], data[1][:, k], k)
    assert np.abs(gradient).max() < 2e-5


def test_c_is_the_best_on_validation(data, fitted):
  assert list(fitted.val_auroc) == list(probe.C_GRID)
  assert fitted.val_auroc[fitted.c] == max(fitted.val_auroc.values())
  scores = fitted.predict(data[2])
  assert scores.shape == (100, 3)
  expected = sk.roc_auc_score(data[3], scores)
  assert abs(fitted.val_auroc[fitted.c] - expected) < 1e-12


def test_every_c_equals_a_cold_start(data, monkeypatch):
  """Warm starts along the path change no ranking."""
  for c in (1e-4, 1e-1, 100.0):
    monkeypatch.setattr(probe, 'C_GRID', (c,))
    cold = probe.standardised_lr(*data)
    monkeypatch.undo()
    path = probe.standardised_lr(*data).val_auroc
    assert abs(cold.val_auroc[c] - path[c]) < 1e-3


def test_ties_go_to_the_smaller_c():
  x, y = _features(size=4, classes=1)
  x[:, 1:] = 0  # one informative feature: every C gives the same ranking
  fitted = probe.standardised_lr(x[:160], y[:160], x[160:], y[160:])
  assert len(set(fitted.val_auroc.values())) == 1
  assert fitted.c == min(probe.C_GRID)


def test_deterministic(data, fitted):
  again = probe.standardised_lr(*data)
  np.testing.assert_array_equal(again.weights, fitted.weights)


def test_a_label_with_one_class_scores_its_prevalence(data):
  x, y, val_x, val_y = data
  y = np.concatenate([y, np.zeros((160, 1)), np.ones((160, 1))], axis=1)
  val_y = np.concatenate([val_y, val_y[:, :2]], axis=1)
  fitted = probe.standardised_lr(x, y, val_x, val_y)
  scores = fitted.predict(val_x)
  assert np.all(scores[:, 3] == 0) and np.all(scores[:, 4] == 1)
  aurocs = metrics.auroc(val_y, scores)
  assert aurocs[3] == aurocs[4] == 0.5


def test_label_mask_equals_leaving_records_out(data):
  x, y, val_x, val_y = data
  mask = np.ones_like(y)
  mask[100:, 1] = 0
  masked = probe.standardised_lr(x, y, val_x, val_y, train_label_mask=mask)
  # Records without the label still count in the standardisation.
  inputs = (x[:100].astype(np.float64) - masked.mean) / masked.deviation
  logits = inputs @ masked.weights[:, 1] + masked.bias[1]
  error = special.expit(logits) - y[:100, 1]
  gradient = inputs.T @ error + masked.weights[:, 1] / masked.c
  assert np.abs(gradient).max() / 100 < 2e-5
  y = np.where(mask == 0, 1 - y, y)
  other = probe.standardised_lr(x, y, val_x, val_y, train_label_mask=mask)
  np.testing.assert_array_equal(other.weights, masked.weights)


def test_fits_that_do_not_converge_are_counted(data, monkeypatch):
  monkeypatch.setattr(probe, '_MAX_ITERATIONS', 1)
  with warnings.catch_warnings():
    warnings.simplefilter('error', ConvergenceWarning)
    fitted = probe.standardised_lr(*data)
  assert 0 < fitted.num_unconverged <= 21


def test_refusals(data):
  x, y, val_x, val_y = data
  with pytest.raises(ValueError, match='validation'):
    probe.standardised_lr(x, y, val_x, np.zeros_like(val_y))
  with pytest.raises(ValueError, match='val features'):
    probe.standardised_lr(x, y, np.full_like(val_x, np.nan), val_y)


def test_reference_probe_is_a_softmax_on_raw_features():
  x, y = _features()
  x = x / 10
  single = y.sum(axis=1) == 1
  fitted = probe.reference(x[:160], y[:160], x[160:], y[160:], epochs=30)
  assert fitted.num_dropped == 160 - single[:160].sum() > 0
  scores = fitted.predict(x)
  np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)

  def loss(split):
    rows = np.flatnonzero(single)[np.isin(np.flatnonzero(single), split)]
    return sk.log_loss(y[rows].argmax(axis=1), scores[rows], labels=range(3))

  start = probe.reference(x[:160], y[:160], x[160:], y[160:], epochs=1)
  scores, first = start.predict(x), fitted.predict(x)
  before = loss(np.arange(160, 260))
  scores = first
  assert loss(np.arange(160, 260)) < before
  with pytest.raises(ValueError, match='exactly one label'):
    probe.reference(x[:160], np.ones((160, 3)), x[160:], y[160:])


def test_reference_probe_takes_the_steps_of_adam():
  """Five whole-batch epochs against optax."""
  x, y = _features(records=40)
  x = x / 30
  y = np.eye(3, dtype=int)[np.arange(40) % 3]
  arguments = dict(batch_size=40, seed=5)
  fitted = probe.reference(x, y, x, y, **arguments, epochs=5)
  assert fitted.epoch == 5  # training data as validation: still falling
  start = probe.reference(x, y, x, y, **arguments, epochs=1, learning_rate=0.0)

  def loss(theta):
    logits = x @ theta[0] + theta[1]
    return optax.softmax_cross_entropy(logits, y).mean()

  theta = (jnp.asarray(start.weights), jnp.asarray(start.bias))
  adam = optax.adam(1e-3)
  state = adam.init(theta)
  for _ in range(5):
    updates, state = adam.update(jax.grad(loss)(theta), state)
    theta = optax.apply_updates(theta, updates)
  np.testing.assert_allclose(fitted.weights, theta[0], atol=2e-6)
  np.testing.assert_allclose(fitted.bias, theta[1], atol=2e-6)
