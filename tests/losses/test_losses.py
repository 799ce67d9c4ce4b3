"""Every loss against an independent NumPy version, in float64."""

import jax
import numpy as np
import pytest

from ecgjax.losses import decorrelation


@pytest.fixture(autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


def numpy_correlation(h, divisor):
  z = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
  return z.T @ z / divisor


def numpy_decorrelation(h, divisor, weight=0.0051, on_diagonal=False):
  c = numpy_correlation(h, divisor)
  off = c - np.diag(np.diag(c))
  return weight * np.sum(off**2) + on_diagonal * np.sum((np.diag(c) - 1) ** 2)


def test_cosine_distance():
  rng = np.random.default_rng(0)
  u, w = rng.normal(size=(2, 7, 5))
  norm = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  expected = np.sum((norm(u) - norm(w)) ** 2, axis=1)
  np.testing.assert_allclose(decorrelation.cosine_distance(u, w), expected)
  eye = np.eye(3)
  np.testing.assert_allclose(decorrelation.cosine_distance(u, u), 0, atol=1e-9)
  np.testing.assert_allclose(decorrelation.cosine_distance(u, -u), 4)
  np.testing.assert_allclose(decorrelation.cosine_distance(eye[0], eye[1]), 2)
  gradient = jax.grad(lambda q: decorrelation.cosine_distance(q, eye[0]))(
    np.zeros(3)
  )
  assert np.isfinite(gradient).all()


def test_constant_distance():
  """Of the nearest of all constants: found by descent on the sphere."""
  w = np.random.default_rng(5).normal(0.4, 1, size=(8, 3))
  best = np.ones(3)
  slope = jax.jit(
    jax.grad(lambda c: decorrelation.cosine_distance(c, w).mean())
  )
  for _ in range(500):
    best = best - slope(best)
  found = decorrelation.constant_distance(w)
  np.testing.assert_allclose(
    found, decorrelation.cosine_distance(best, w).mean()
  )
  np.testing.assert_allclose(
    decorrelation.constant_distance(w[:1] + 0 * w), 0, atol=1e-9
  )
  mapped = jax.pmap(
    lambda x: decorrelation.constant_distance(x, 'batch'), 'batch'
  )
  np.testing.assert_allclose(mapped(w.reshape(4, 2, 3)), [found] * 4)


@pytest.mark.parametrize('n, width', [(6, 20), (30, 10)])
@pytest.mark.parametrize('divisor', [None, 32])
@pytest.mark.parametrize('on_diagonal', [False, True])
def test_decorrelation(n, width, divisor, on_diagonal):
  h = np.random.default_rng(1).normal(2, 3, (n, width))
  found = decorrelation.decorrelation_loss(
    h, divisor=divisor, on_diagonal=on_diagonal
  )
  expected = numpy_decorrelation(h, divisor or n, on_diagonal=on_diagonal)
  np.testing.assert_allclose(found, expected)


def test_decorrelation_over_devices():
  h = np.random.default_rng(2).normal(size=(8, 12))
  found = jax.pmap(
    lambda x: decorrelation.decorrelation_loss(x, axis_name='batch'), 'batch'
  )(h.reshape(4, 2, 12))
  np.testing.assert_allclose(found, [numpy_decorrelation(h, 8)] * 4)


def test_embedding_health():
  rng = np.random.default_rng(3)
  spread = decorrelation.embedding_health(rng.normal(size=(4096, 16)))
  assert spread['embedding_std'] == pytest.approx(1, abs=0.02)
  assert spread['effective_rank'] == pytest.approx(16, abs=0.5)
  line = rng.normal(size=(64, 1)) * np.ones((1, 16))
  assert decorrelation.embedding_health(line)[
    'effective_rank'
  ] == pytest.approx(1)
  point = np.ones((64, 16)) + 1e-3 * rng.normal(size=(64, 16))
  assert decorrelation.embedding_health(point)['embedding_std'] < 0.01


def numpy_classification(z, y, m, single, weights, s):
  weights = np.ones(z.shape[1]) if not weights else np.asarray(weights)
  total, count = 0.0, 0.0
  for i in range(len(z)):
    if single:
      if m[i].min() == 0:
        continue
      log_p = z[i] - np.log(np.exp(z[i]).sum())
      t = (1 - s) * y[i] + s / z.shape[1]
      total -= (t * log_p).sum() * (y[i] * weights).sum()
      count += 1
    else:
      for k in range(z.shape[1]):
        p = 1 / (1 + np.exp(-z[i, k]))
        t = (1 - s) * y[i, k] + s / 2
        term = -weights[k] * t * np.log(p) - (1 - t) * np.log(1 - p)
        total += m[i, k] * term
        count += m[i, k]
  return total / count


@pytest.mark.parametrize('single', [False, True])
@pytest.mark.parametrize('weights, s', [((), 0.0), ((2.0, 0.5, 1.0), 0.1)])
def test_classification_loss(single, weights, s):
  rng = np.random.default_rng(4)
  z = rng.normal(size=(8, 3))
  y = np.eye(3)[rng.integers(0, 3, 8)]
  if not single:
    y = rng.integers(0, 2, (8, 3)).astype(float)
  m = (rng.random((8, 3)) < 0.9).astype(float)
  expected = numpy_classification(z, y, m, single, weights, s)
  options = dict(single_label=single, class_weights=weights, label_smoothing=s)
  found = decorrelation.classification_loss(z, y, m, **options)
  np.testing.assert_allclose(found, expected)
  split = lambda x: x.reshape(4, 2, 3)
  mapped = jax.pmap(
    lambda z, y, m: decorrelation.classification_loss(
      z, y, m, **options, axis_name='batch'
    ),
    'batch',
  )(split(z), split(y), split(m))
  np.testing.assert_allclose(mapped, [expected] * 4)
