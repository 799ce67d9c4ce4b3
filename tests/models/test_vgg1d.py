"""VGG16-1D against the textbook linen network, in compiled float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import heads, vgg1d


class TextbookVGG(nn.Module):
  """linen's own layers, written down from docs/methods.md."""

  dtype: type = jnp.float32

  @nn.compact
  def __call__(self, x, train):
    for channels, depth in ((8, 2), (16, 2), (32, 3), (64, 3), (64, 3)):
      for _ in range(depth):
        x = nn.Conv(channels, (3,), padding=1, param_dtype=self.dtype)(x)
        x = nn.BatchNorm(
          use_running_average=not train,
          momentum=0.9,
          epsilon=1e-5,
          param_dtype=self.dtype,
        )(x)
        x = nn.relu(x)
      x = nn.max_pool(x, (2,), (2,))
    return x


def params_to_textbook(params):
  """Our parameters in the names of linen's layers."""
  named = {}
  for name, block in params.items():
    i = name.split('_')[1]
    named[f'Conv_{i}'] = {k: block[k] for k in ('kernel', 'bias')}
    named[f'BatchNorm_{i}'] = {'scale': block['scale'], 'bias': block['shift']}
  return named


def stats_to_textbook(stats):
  return {name.replace('ConvNorm', 'BatchNorm'): stats[name] for name in stats}


def to_textbook(variables):
  return {
    'params': params_to_textbook(variables['params']),
    'batch_stats': stats_to_textbook(variables['batch_stats']),
  }


def loss_and_gradients(model):
  """Compiled function of (variables, x, weights [B, T, D])."""

  def loss(params, stats, x, weights):
    variables = {'params': params, 'batch_stats': stats}
    h, state = model.apply(variables, x, True, mutable=['batch_stats'])
    return (weights * h**2).sum(), (h, state['batch_stats'])

  grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 2), has_aux=True))
  return lambda v, x, w: grad(v['params'], v['batch_stats'], x, w)


def random_variables(model, x, rng):
  """Variables in which no scale, shift or statistic has its start value."""
  init = jax.jit(model.init, static_argnums=2)
  variables = init(jax.random.key(0), x, False)
  variables = jax.tree.map(lambda a: np.array(a, x.dtype), variables)
  for block in variables['params'].values():
    block['scale'] = rng.normal(1, 0.5, block['scale'].shape)  # some negative
    block['shift'] = rng.normal(0, 0.5, block['shift'].shape)
  for block in variables['batch_stats'].values():
    block['mean'] = rng.normal(0, 0.1, block['mean'].shape)
    block['var'] = rng.uniform(0.5, 2, block['var'].shape)
  return variables


@pytest.fixture(scope='module')
def case():
  """Float64 variables and input, and what both networks make of them."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    x = rng.normal(size=(3, 101, 1))
    model = vgg1d.make()
    variables = random_variables(model, x, rng)
    weights = rng.normal(size=(3, 3, 64))
    ours = loss_and_gradients(model)(variables, x, weights)
    textbook = loss_and_gradients(TextbookVGG(dtype=jnp.float64))(
      to_textbook(variables), x, weights
    )
  return variables, x, *jax.device_get((ours, textbook))


def assert_close(got, expected, tolerance=1e-9):
  """Largest error relative to the largest entry of each array."""
  for (path, a), b in zip(
    jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True
  ):
    scale = np.abs(b).max() + 1e-30
    error = np.abs(np.asarray(a) - np.asarray(b)).max() / scale
    assert error < tolerance, (jax.tree_util.keystr(path), error)


def test_training_values_and_statistics_equal_the_textbook(case):
  _, _, ((loss, (h, stats)), _), ((loss_t, (h_t, stats_t)), _) = case
  assert h.dtype == np.float64
  assert_close((loss, h), (loss_t, h_t))
  assert_close(stats_to_textbook(stats), stats_t)


def test_gradients_equal_the_textbook(case):
  _, _, (_, (params, x)), (_, (params_t, x_t)) = case
  assert_close(x, x_t)
  params = params_to_textbook(params)
  for i in range(13):
    # BatchNorm removes the bias: the textbook's gradient is rounding noise.
    assert not np.any(params[f'Conv_{i}'].pop('bias'))
    assert np.abs(params_t[f'Conv_{i}'].pop('bias')).max() < 1e-8
  assert_close(params, params_t)


def test_evaluation_equals_the_textbook(case):
  variables, x, _, _ = case
  with jax.enable_x64(True):
    ours, textbook = (
      jax.jit(model.apply, static_argnums=2)
      for model in (vgg1d.make(), TextbookVGG(dtype=jnp.float64))
    )
    h = ours(variables, x, False)
    assert_close(h, textbook(to_textbook(variables), x, False))


def test_has_the_published_number_of_parameters():
  def count(module, *shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    init = lambda x: module.init(jax.random.key(0), x, False)['params']
    return sum(a.size for a in jax.tree.leaves(jax.eval_shape(init, x)))

  encoder = vgg1d.make()
  projector = count(heads.ProjectionMLP(), 2, 64)
  assert count(encoder, 2, 1000, 1) == 78_216
  assert projector == 296_960
  assert count(encoder, 2, 1000, 1) + projector == 375_176
  assert count(heads.ProjectionMLP(), 2, 512) == 526_336

  # Eight leads share an encoder, or each has its own; five classes.
  features = jax.ShapeDtypeStruct((2, 8, 64), jnp.float32)
  init = lambda h: heads.Classifier(5).init(jax.random.key(0), h)
  params = jax.eval_shape(init, features)['params']
  classifier = sum(a.size for a in jax.tree.leaves(params))
  assert count(encoder, 2, 1000, 1) + classifier == 80_781


def test_length_is_divided_by_32():
  for length, steps in ((1000, 31), (2048, 64), (2500, 78)):
    x = jax.ShapeDtypeStruct((2, length, 1), jnp.float32)
    h, _ = jax.eval_shape(
      lambda x: vgg1d.make().init_with_output(jax.random.key(0), x, False), x
    )
    assert h.shape == (2, steps, 64)


def test_bfloat16_keeps_parameters_and_statistics_wide(case):
  variables, x, ((_, (h, _)), _), _ = case
  variables = jax.tree.map(lambda a: a.astype(np.float32), variables)
  model = vgg1d.make(dtype=jnp.bfloat16)
  rough, state = jax.jit(
    lambda v, x: model.apply(v, x, True, mutable=['batch_stats'])
  )(variables, x.astype(np.float32))
  assert rough.dtype == jnp.bfloat16
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(state))
  error = np.linalg.norm(np.asarray(rough, np.float64) - h) / np.linalg.norm(h)
  assert error < 0.1  # thirteen layers of 8-bit mantissas
