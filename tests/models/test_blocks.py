"""Fast blocks against the textbook ones, in compiled float64.

Compiled, because autodiff of a max-pool written as the maximum of two slices
was wrong under jit on CPU and right without it.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ecgjax.models import batch_norm, blocks, convolution

# taps, inputs, outputs, length, stride, dilation, padding
CONVOLUTIONS = (
  (3, 1, 8, 20, 1, 1, (1, 1)),  # sum of taps
  (3, 8, 16, 21, 1, 1, (0, 2)),
  (3, 16, 16, 20, 1, 1, (1, 1)),
  (3, 8, 32, 20, 1, 1, (1, 1)),
  (5, 12, 32, 21, 2, 1, (2, 2)),
  (5, 12, 8, 20, 2, 1, (2, 2)),
  (1, 6, 40, 20, 1, 1, (0, 0)),
  (3, 4, 36, 23, 1, 4, (4, 4)),
  (16, 3, 5, 26, 4, 1, (6, 7)),
)
# taps, inputs, outputs, length, stride, relu, pool
BLOCKS = (
  (3, 1, 8, 20, 1, True, False),
  (3, 4, 8, 21, 1, True, True),  # odd length
  (3, 8, 32, 20, 1, True, True),
  (5, 3, 32, 21, 2, True, False),
  (1, 4, 6, 10, 1, False, False),
  (3, 2, 4, 20, 1, False, True),
)


def library(x, kernel, stride, dilation, padding):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride,),
    [padding],
    rhs_dilation=(dilation,),
    dimension_numbers=('NWC', 'WIO', 'NWC'),
  )


class Textbook(nn.Module):
  """linen's own layers."""

  features: int
  taps: int
  stride: int
  relu: bool
  pool: bool

  @nn.compact
  def __call__(self, x):
    pad = self.taps // 2
    x = nn.Conv(
      self.features,
      (self.taps,),
      self.stride,
      [(pad, pad)],
      param_dtype=x.dtype,
    )(x)
    x = nn.BatchNorm(
      use_running_average=False,
      momentum=0.9,
      epsilon=1e-5,
      param_dtype=x.dtype,
    )(x)
    x = nn.relu(x) if self.relu else x
    return nn.max_pool(x, (2,), (2,)) if self.pool else x


def assert_close(got, expected, tolerance=1e-9):
  """Largest error relative to the largest entry of each array."""
  pairs = zip(
    jax.tree.leaves_with_path(jax.device_get(got)),
    jax.tree.leaves(jax.device_get(expected)),
    strict=True,
  )
  for (path, a), b in pairs:
    error = np.abs(a - b).max() / (np.abs(b).max() + 1e-30)
    assert error < tolerance, (jax.tree_util.keystr(path), error)


def test_convolve_equals_the_library_values_and_gradients():
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    cases = []
    for taps, inputs, outputs, length, *rest in CONVOLUTIONS:
      x = rng.normal(size=(4, length, inputs))
      kernel = rng.normal(size=(taps, inputs, outputs))
      shape = jax.eval_shape(lambda x, k, r=rest: library(x, k, *r), x, kernel)
      cases.append((x, kernel, rng.normal(size=shape.shape)))

    def everything(convolve, cases):
      results = []
      for (x, kernel, weights), (*_, stride, dilation, padding) in zip(
        cases, CONVOLUTIONS
      ):
        f = lambda x, k, r=(stride, dilation, padding): convolve(x, k, *r)
        y, pullback = jax.vjp(f, x, kernel)
        results.append((y, *pullback(weights)))
      return results

    fast = jax.jit(lambda c: everything(convolution.convolve, c))(cases)
    slow = jax.jit(lambda c: everything(library, c))(cases)
    assert_close(fast, slow)


def test_kernel_gradient_in_pieces_is_the_same(monkeypatch):
  rng = np.random.default_rng(1)
  x = rng.normal(size=(8, 10, 4)).astype(np.float32)
  gradient = rng.normal(size=(8, 10, 32)).astype(np.float32)
  kernel = np.zeros((3, 4, 32), np.float32)
  arguments = (x, kernel, gradient, 1, 1, (1, 1))
  whole = convolution._kernel_gradient(*arguments)
  monkeypatch.setattr(convolution, 'PIECE_BYTES', x.nbytes // 3)
  assert_close(convolution._kernel_gradient(*arguments), whole, 1e-5)


def conv_norm(taps, outputs, stride, relu, pool):
  return blocks.ConvNorm(outputs, taps, stride, relu, pool)


@pytest.fixture(scope='module')
def block_cases():
  """Inputs, weights and random parameters of all of `BLOCKS`, float64."""
  rng = np.random.default_rng(2)
  cases = []
  for taps, inputs, outputs, length, stride, _, pool in BLOCKS:
    steps = -(-length // stride) // (2 if pool else 1)
    cases.append(
      {
        'x': rng.normal(size=(4, length, inputs)),
        'weights': rng.normal(size=(4, steps, outputs)),
        'params': {
          'kernel': rng.normal(size=(taps, inputs, outputs)),
          'bias': rng.normal(size=outputs),
          'scale': rng.normal(size=outputs),  # half of them negative
          'shift': rng.normal(size=outputs),
        },
      }
    )
  return cases


def run_blocks(cases, axis_name=None):
  """Output, new statistics, gradients of every block."""
  results = []
  for case, (taps, _, outputs, _, stride, relu, pool) in zip(cases, BLOCKS):
    block = conv_norm(taps, outputs, stride, relu, pool)
    zero = {'mean': jnp.zeros(outputs), 'var': jnp.ones(outputs)}

    def loss(params, x, block=block, zero=zero, case=case):
      y, state = block.apply(
        {'params': params, 'batch_stats': zero},
        x,
        True,
        axis_name,
        mutable=['batch_stats'],
      )
      return (case['weights'] * y**2).sum(), (y, state['batch_stats'])

    gradients, (y, stats) = jax.grad(loss, (0, 1), has_aux=True)(
      case['params'], case['x']
    )
    results.append({'y': y, 'stats': stats, 'gradients': gradients})
  return results


def run_textbook(cases):
  results = []
  for case, (taps, _, outputs, _, stride, relu, pool) in zip(cases, BLOCKS):
    block = Textbook(outputs, taps, stride, relu, pool)
    p = case['params']
    params = {
      'Conv_0': {'kernel': p['kernel'], 'bias': p['bias']},
      'BatchNorm_0': {'scale': p['scale'], 'bias': p['shift']},
    }
    zero = {'mean': jnp.zeros(outputs), 'var': jnp.ones(outputs)}

    def loss(params, x, block=block, zero=zero, case=case):
      y, state = block.apply(
        {'params': params, 'batch_stats': {'BatchNorm_0': zero}},
        x,
        mutable=['batch_stats'],
      )
      return (case['weights'] * y**2).sum(), (y, state['batch_stats'])

    (params, x), (y, stats) = jax.grad(loss, (0, 1), has_aux=True)(
      params, case['x']
    )
    gradients = {
      'kernel': params['Conv_0']['kernel'],
      'bias': 0 * p['bias'],  # rounding noise in the textbook
      'scale': params['BatchNorm_0']['scale'],
      'shift': params['BatchNorm_0']['bias'],
    }
    results.append(
      {'y': y, 'stats': stats['BatchNorm_0'], 'gradients': (gradients, x)}
    )
  return results


@pytest.fixture(scope='module')
def one_device(block_cases):
  with jax.enable_x64(True):
    return jax.device_get(jax.jit(run_blocks)(block_cases))


def test_conv_norm_equals_the_textbook(block_cases, one_device):
  with jax.enable_x64(True):
    assert_close(one_device, jax.jit(run_textbook)(block_cases))


def test_four_devices_equal_one(block_cases, one_device):
  """A sum of per-device losses: its gradients add up, see `losses`."""
  split = lambda a: a.reshape(4, 1, *a.shape[1:])
  by_device = [
    c | {'x': split(c['x']), 'weights': split(c['weights'])}
    for c in block_cases
  ]
  axes = [{'x': 0, 'weights': 0, 'params': None} for _ in BLOCKS]
  with jax.enable_x64(True):
    run = jax.pmap(lambda c: run_blocks(c, 'b'), axis_name='b', in_axes=(axes,))
    results = jax.device_get(run(by_device))
  for got, expected in zip(results, one_device):
    params, x = got['gradients']
    joined = {
      'y': got['y'][:, 0],
      'stats': jax.tree.map(lambda a: a[0], got['stats']),
      'gradients': (jax.tree.map(lambda a: a.sum(0), params), x[:, 0]),
    }
    assert_close(joined, expected)


def test_a_batch_sharded_over_a_mesh_equals_one_device(block_cases, one_device):
  mesh = jax.make_mesh((4,), ('b',), axis_types=(AxisType.Auto,))
  place = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
  with jax.enable_x64(True):
    sharded = [
      {
        'x': place(c['x'], PartitionSpec('b')),
        'weights': place(c['weights'], PartitionSpec('b')),
        'params': place(c['params'], PartitionSpec()),
      }
      for c in block_cases
    ]
    assert_close(jax.jit(run_blocks)(sharded), one_device)


def test_no_convolution_of_a_loop_falls_to_the_slow_routine():
  """XLA finds the fast layout by itself at the top level only."""

  def loss(kernels, x):
    def body(x, kernel):
      return x + nn.relu(convolution.convolve(x, kernel)), None

    return lax.scan(body, x, kernels)[0].sum()

  for channels in (16, 32):
    kernels = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
    x = jax.ShapeDtypeStruct((2, 12, channels), jnp.float32)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(kernels, x).compile()
    labels = re.findall(
      r' convolution\(.*dim_labels=([^,\s]+)', compiled.as_text()
    )
    assert len(labels) == 3
    assert set(labels) <= {'b0f_0io->b0f', 'b01f_01io->b01f'}


def test_max_pool_and_the_fused_one_give_a_tie_to_the_first():
  x = jnp.array([3.0, 3, 1, 2, 0, -1, 7]).reshape(1, 7, 1)
  expected = [1, 0, 0, 1, 1, 0, 0]

  def pooled(x):
    return blocks.max_pool(x).sum()

  def fused(x):
    ones = jnp.ones(1)
    y, _, _ = batch_norm.normalise(x, ones, 0 * ones, None, False, True)
    # The statistics' share of the gradient, the same for the plain pool:
    z = (x - x.mean()) / jnp.sqrt(x.var() + batch_norm.EPSILON)
    plain = blocks.max_pool(z)
    return y.sum() - plain.sum()

  gradient = jax.jit(jax.grad(pooled))(x)
  np.testing.assert_array_equal(gradient[0, :, 0], expected)
  np.testing.assert_allclose(jax.jit(jax.grad(fused))(x), 0 * x, atol=1e-5)


def test_statistics_of_bfloat16_are_float32():
  x = (jnp.arange(64.0) + 256).reshape(16, 4).astype(jnp.bfloat16)
  mean, var = batch_norm.batch_moments(x, None)
  exact = np.asarray(x, np.float64)
  assert mean.dtype == var.dtype == jnp.float32
  np.testing.assert_allclose(mean[0], exact.mean(0), rtol=1e-6)
  np.testing.assert_allclose(var[0], exact.var(0), rtol=1e-5)


@pytest.mark.parametrize('offset', [300.0, 1000.0])
def test_moments_of_a_channel_far_from_zero(offset):
  """On one device, on four, and with the batch sharded over a mesh."""
  rng = np.random.default_rng(4)
  x = rng.normal(offset, 0.02**0.5, size=(8, 50, 3)).astype(np.float32)
  x[:, 0] = 0.1 * offset  # at the edge, where a convolution sees zeros
  x[:, 0, 1:] = offset
  exact = x.astype(np.float64)
  one = lambda x, axis=None: batch_norm.batch_moments(x, axis)
  mapped = jax.pmap(lambda x: one(x, 'b'), axis_name='b')
  mesh = jax.make_mesh((4,), ('b',), axis_types=(AxisType.Auto,))
  sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec('b')))
  for mean, var in (
    jax.jit(one)(x),
    jax.tree.map(lambda m: m[0], mapped(x.reshape(4, 2, 50, 3))),
    jax.jit(one)(sharded),
  ):
    np.testing.assert_allclose(mean[0], exact.mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(var[0], exact.var((0, 1)), rtol=1e-4)


def test_gradients_of_a_channel_far_from_zero():
  """Float32 against the textbook layer in float64."""
  rng = np.random.default_rng(5)
  x = rng.normal(300, 0.02**0.5, size=(8, 50, 3)).astype(np.float32)
  weights = rng.normal(size=x.shape).astype(np.float32)
  scale, shift = rng.normal(size=(2, 3)).astype(np.float32)

  def loss(x, scale, shift):
    y = batch_norm.normalise(x, scale, shift, None, False, False)[0]
    return (y * weights).sum()

  def textbook(x, scale, shift):
    y = (x - x.mean((0, 1))) / jnp.sqrt(x.var((0, 1)) + batch_norm.EPSILON)
    return ((y * scale + shift) * weights).sum()

  got = jax.jit(jax.grad(loss, (0, 1, 2)))(x, scale, shift)
  with jax.enable_x64(True):
    exact = (a.astype(np.float64) for a in (x, scale, shift))
    expected = jax.device_get(jax.jit(jax.grad(textbook, (0, 1, 2)))(*exact))
  assert_close(got, expected, 2e-4)


def grouped(x, params, weights, groups, axis_name=None):
  """Output, statistics and gradients of a block and of `BatchNorm`."""
  fused = blocks.ConvNorm(4, pool=True)
  plain = blocks.BatchNorm(4)
  zero = {'mean': jnp.zeros(4), 'var': jnp.ones(4)}

  def loss(params, x):
    y, first = fused.apply(
      {'params': params, 'batch_stats': zero},
      x, True, axis_name, groups, mutable=['batch_stats'],
    )  # fmt: skip
    norm = {'scale': params['scale'], 'bias': params['shift']}
    z, second = plain.apply(
      {'params': norm, 'batch_stats': zero},
      y, True, axis_name, groups, mutable=['batch_stats'],
    )  # fmt: skip
    return (weights * z**2).sum(), (z, (first, second))

  gradients, (z, stats) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
  return z, stats, gradients


def test_groups_are_batches_one_after_the_other():
  """On one device and on four, against one call per group, in float64."""
  rng = np.random.default_rng(6)
  groups, rows = 3, 8
  params = {
    'kernel': rng.normal(size=(3, 2, 4)),
    'bias': rng.normal(size=4),
    'scale': rng.normal(size=4),
    'shift': rng.normal(size=4),
  }
  # [row, group, time, channel]: groups alternate.
  x = (
    rng.normal(size=(rows, groups, 20, 2))
    * np.array([1, 4, 0.3])[:, None, None]
  )
  weights = rng.normal(size=(rows, groups, 10, 4))
  flat = lambda a: a.reshape(-1, *a.shape[2:])
  split = lambda a: a.reshape(4, -1, *a.shape[2:])
  with jax.enable_x64(True):
    one = jax.jit(lambda x, w: grouped(x, params, w, groups))(
      flat(x), flat(weights)
    )
    four = jax.pmap(
      lambda x, w: grouped(x, params, w, groups, 'b'), axis_name='b'
    )(split(x), split(weights))
    each = [
      jax.jit(lambda x, w: grouped(x, params, w, 1))(x[:, g], weights[:, g])
      for g in range(groups)
    ]
  one, each = jax.device_get((one, each))
  stacked = lambda arrays: flat(np.stack(arrays, axis=1))
  fresh = ({'mean': 0.0, 'var': 1.0},) * 2
  running = [{'batch_stats': dict(s)} for s in fresh]
  for _, stats, _ in each:  # 0.9 of the start is in every one
    for into, got, begin in zip(running, stats, fresh):
      for name, value in got['batch_stats'].items():
        new = value - 0.9 * begin[name]
        into['batch_stats'][name] = 0.9 * into['batch_stats'][name] + new
  expected = (
    stacked([z for z, _, _ in each]),
    tuple(running),
    (
      jax.tree.map(lambda *g: sum(g), *[g[0] for *_, g in each]),
      stacked([g[1] for *_, g in each]),
    ),
  )
  assert_close(one, expected)
  z, stats, (by_device, dx) = jax.device_get(four)
  joined = (
    z.reshape(one[0].shape),
    jax.tree.map(lambda a: a[0], stats),
    (
      jax.tree.map(lambda a: a.sum(0), by_device),
      dx.reshape(rows * groups, 20, 2),
    ),
  )
  assert_close(joined, expected)


def test_batch_norm_equals_linen():
  rng = np.random.default_rng(3)
  with jax.enable_x64(True):
    x = rng.normal(1, 2, size=(8, 6))
    params = {'scale': rng.normal(size=6), 'bias': rng.normal(size=6)}
    stats = {'mean': np.zeros(6), 'var': np.ones(6)}
    variables = {'params': params, 'batch_stats': stats}
    linen = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    got = blocks.BatchNorm(6).apply(variables, x, True, mutable=['batch_stats'])
    assert_close(got, linen.apply(variables, x, mutable=['batch_stats']))
    inference = blocks.BatchNorm(6).apply(variables, x, False)
    expected = x / np.sqrt(1 + 1e-5) * params['scale'] + params['bias']
    assert_close(inference, expected)
