"""Projector and classifier heads against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import blocks, heads

KEY = jax.random.key(0)


def linear(x, params):
  return x @ np.asarray(params['kernel']) + np.asarray(params['bias'])


def test_projection_equals_numpy_in_training_and_inference():
  h = np.random.default_rng(0).normal(1, 2, size=(16, 6)).astype(np.float32)
  head = heads.ProjectionMLP(10, 4)
  variables = head.init(KEY, h, False)
  z, state = head.apply(variables, h, True, mutable=['batch_stats'])
  params = variables['params']
  x = linear(h, params['Linear_0'])
  normal = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
  expected = linear(np.maximum(normal, 0), params['Linear_1'])
  np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)
  stats = state['batch_stats']['BatchNorm_0']
  np.testing.assert_allclose(stats['mean'], 0.1 * x.mean(0), rtol=1e-4)
  np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * x.var(0), rtol=1e-4)
  inference = head.apply(variables, h, False)
  expected = linear(np.maximum(x / np.sqrt(1 + 1e-5), 0), params['Linear_1'])
  np.testing.assert_allclose(inference, expected, rtol=1e-4, atol=1e-5)


def test_weights_and_biases_start_uniform_over_the_fan_in():
  layer = blocks.Linear(4000).init(KEY, jnp.zeros((1, 16)))['params']
  for name in ('kernel', 'bias'):
    values = np.asarray(layer[name]).ravel()
    assert np.abs(values).max() <= 0.25  # 1 / sqrt(16)
    np.testing.assert_allclose(values.std(), 0.25 / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(values.mean(), 0, atol=0.01)


def test_attention_pool_weighs_what_is_there():
  rng = np.random.default_rng(1)
  h = rng.normal(size=(3, 5, 8)).astype(np.float32)
  mask = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 1, 0]])
  pool = heads.AttentionPool(hidden=6)
  variables = pool.init(KEY, h)
  pooled, weights = pool.apply(variables, h, mask)
  params = variables['params']
  # The hidden layer is made inside the scoring one's argument.
  hidden, score = sorted(params.values(), key=lambda p: -p['kernel'].shape[1])
  scores = linear(np.tanh(linear(h, hidden)), score)[..., 0]
  expected = np.exp(scores) * mask
  expected /= expected.sum(1, keepdims=True)
  np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(
    pooled, np.einsum('bn,bnd->bd', expected, h), rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(pooled[2], h[2, 3], rtol=1e-5)


@pytest.mark.parametrize(
  'pool, inputs', [('concat', 32), ('mean', 8), ('attention', 8)]
)
def test_classifier_pools_the_leads(pool, inputs):
  features = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4, 8)))
  head = heads.Classifier(5, pool)
  logits, variables = head.init_with_output(KEY, features)
  assert logits.shape == (3, 5)
  shapes = [a.shape for a in jax.tree.leaves(variables)]
  assert (inputs, 5) in shapes
  single = head.init_with_output(KEY, features[:, 0])[0]
  assert single.shape == (3, 5)


def test_an_unknown_pool_lists_the_choices():
  with pytest.raises(ValueError, match="'max'; choose one of concat, mean"):
    heads.Classifier(5, 'max').init(KEY, jnp.zeros((2, 3, 4)))


def test_global_average_of_bfloat16_is_float32():
  h = jnp.full((1, 1000, 1), 1.0, jnp.bfloat16)
  pooled = heads.global_average(h)
  assert pooled.dtype == jnp.float32
  np.testing.assert_array_equal(pooled, [[1.0]])
