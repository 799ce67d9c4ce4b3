"""XResNet-1D and ViT-1D: shapes, sizes, gradients, no leaks over rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import vit1d, xresnet1d

KEY = jax.random.key(0)


def count(module, length=1000, leads=12):
  x = jax.ShapeDtypeStruct((2, length, leads), jnp.float32)
  init = lambda x: module.init(KEY, x, False)['params']
  return sum(a.size for a in jax.tree.leaves(jax.eval_shape(init, x)))


def output_shape(module, length, leads=12):
  x = jax.ShapeDtypeStruct((2, length, leads), jnp.float32)
  init = lambda x: module.init_with_output(KEY, x, False)[0]
  return jax.eval_shape(init, x).shape


def conv_norm(taps, fan_in, out):
  return taps * fan_in * out + 2 * out


def xresnet_parameters(leads, depths, width, bottleneck):
  """Counted from the description, layer by layer."""
  total = conv_norm(5, leads, 32) + conv_norm(5, 32, 32) + conv_norm(5, 32, 64)
  channels, out = 64, width * (4 if bottleneck else 1)
  for depth in depths:
    for _ in range(depth):
      if bottleneck:
        total += conv_norm(1, channels, width) + conv_norm(5, width, width)
        total += conv_norm(1, width, out)
      else:
        total += conv_norm(5, channels, width) + conv_norm(5, width, out)
      if channels != out:
        total += conv_norm(1, channels, out)
      channels = out
  return total


def test_xresnet_has_the_parameters_of_its_description():
  small, large = xresnet1d.make('small'), xresnet1d.make('101')
  assert count(small) == xresnet_parameters(12, (2, 2, 2, 2), 64, False)
  assert count(large) == xresnet_parameters(12, (3, 4, 23, 3), 64, True)


def test_vit_has_the_parameters_of_its_description():
  d, patch = 192, 20
  layer = 4 * (d * d + d) + 2 * 2 * d + (d * 4 * d + 4 * d) + (4 * d * d + d)
  assert count(vit1d.make()) == (patch * 12 * d + d) + 6 * layer + 2 * d


@pytest.mark.parametrize('length, steps', [(1000, 32), (257, 9), (2048, 64)])
def test_xresnet_shapes(length, steps):
  assert output_shape(xresnet1d.make('small'), length) == (2, steps, 64)
  assert output_shape(xresnet1d.make('101'), length) == (2, steps, 256)


def test_vit_shapes():
  assert output_shape(vit1d.make(), 1000, 8) == (2, 50, 192)
  with pytest.raises(ValueError, match='20 of vit1d does not divide .* 2048'):
    output_shape(vit1d.make(), 2048)


def test_unknown_size_lists_the_choices():
  with pytest.raises(ValueError, match="'50'; choose one of small, 101"):
    xresnet1d.make('50')


ENCODERS = {
  'xresnet1d': lambda: xresnet1d.make('small'),
  'vit1d': lambda: vit1d.make(width=32, depth=2, heads=2, patch=8),
}


@pytest.fixture(scope='module', params=sorted(ENCODERS))
def trained(request):
  """An encoder, its variables after one gradient step, and an input."""
  model = ENCODERS[request.param]()
  x = jax.random.normal(KEY, (4, 96, 3))
  variables = jax.jit(lambda x: model.init(KEY, x, False))(x)
  stats = {k: v for k, v in variables.items() if k != 'params'}

  @jax.jit
  def gradient(params):
    def loss(params):
      h, state = model.apply(
        {'params': params, **stats}, x, True, mutable=['batch_stats']
      )
      return (h[:, :, ::2] ** 2).mean(), state

    return jax.grad(loss, has_aux=True)(params)

  gradients, state = gradient(variables['params'])
  params = jax.tree.map(
    lambda p, g: p - 0.1 * g, variables['params'], gradients
  )
  return model, {'params': params, **state}, x, gradients


def test_gradients_are_finite_and_reach_every_kind_of_parameter(trained):
  _, _, _, gradients = trained
  norms = {
    jax.tree_util.keystr(path): float(jnp.abs(g).max())
    for path, g in jax.tree.leaves_with_path(gradients)
  }
  assert all(np.isfinite(n) for n in norms.values())
  assert any(n > 0 for path, n in norms.items() if 'kernel' in path)
  assert any(n > 0 for path, n in norms.items() if 'scale' in path)


def test_rows_do_not_see_each_other_in_inference(trained):
  model, variables, x, _ = trained
  encode = jax.jit(lambda x: model.apply(variables, x, False))
  h = encode(x)
  assert float(jnp.std(h)) > 0
  other = encode(x.at[1:].set(-x[1:]))
  np.testing.assert_allclose(other[0], h[0], rtol=1e-5, atol=1e-5)
  assert not np.allclose(other[1], h[1])


def test_odd_last_sample_of_a_shortcut_is_its_own_average():
  x = jnp.arange(5.0).reshape(1, 5, 1)
  pooled = xresnet1d._average_pairs(x)
  np.testing.assert_array_equal(pooled[0, :, 0], [0.5, 2.5, 4.0])
