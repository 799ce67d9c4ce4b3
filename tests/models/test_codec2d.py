"""Pages to tokens and back: patches, margins of white, what reaches what."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import codec1d, codec2d, codec_trunk

SHAPE = (20, 26)  # rows and columns of pixels
PATCH = (8, 10)


@pytest.fixture(scope='module')
def codec():
  encoder = codec2d.make(dim=3, width=8, depth=1, patch=PATCH)
  decoder = codec2d.make_decoder(encoder, SHAPE)
  x = jax.random.uniform(jax.random.key(0), (2, *SHAPE))
  params = jax.jit(encoder.init)(jax.random.key(1), x)
  encode = jax.jit(lambda x: encoder.apply(params, x))
  z = encode(x)
  weights = jax.jit(decoder.init)(jax.random.key(2), z)
  return x, encode, z, jax.jit(lambda z: decoder.apply(weights, z))


@pytest.mark.parametrize(
  ('module', 'shape', 'first', 'kernel', 'dilations'),
  [
    (codec1d, (16, 2), 'Conv_0', (3,), [(1,), (2,), (4,), (8,), (1,)]),
    (codec2d, SHAPE, 'Dense_0', (3, 3), [(1, 1), (1, 2), (1, 4), (1, 1)]),
  ],
)
def test_layers_and_their_names_in_checkpoints(
  module, shape, first, kernel, dilations
):
  depth = len(dilations)
  encoder = module.make(dim=3, width=8, depth=depth)
  trunk = module.trunk(8, depth, None)
  tokens = jnp.zeros((1, *(9,) * len(kernel), 8))
  params = jax.eval_shape(trunk.init, jax.random.key(0), tokens)['params']
  blocks = [f'Block_{k}' for k in range(depth)]
  assert set(params) == {first, 'LayerNorm_0', *blocks}
  for block in blocks:
    assert set(params[block]) == {'Conv_0', 'Dense_0', 'LayerNorm_0'}
    assert params[block]['Conv_0']['kernel'].shape == (*kernel, 8, 8)
  whole = jax.eval_shape(
    encoder.init, jax.random.key(0), jnp.zeros((1, *shape))
  )
  assert set(whole['params']) == {'Trunk_0', 'Dense_0'}
  seen = []

  def look(call, args, kwargs, context):
    if isinstance(context.module, codec_trunk.Block):
      seen.append(context.module.dilation)
    return call(*args, **kwargs)

  with nn.intercept_methods(look):
    jax.eval_shape(trunk.apply, {'params': params}, tokens)
  assert seen == dilations


def test_sizes():
  assert codec2d.grid((240, 500), (20, 20)) == (12, 25)
  assert codec2d.grid(SHAPE, PATCH) == (3, 3)
  assert codec2d.margins((240, 500), (20, 20)) == [(0, 0), (0, 0)]
  assert codec2d.margins(SHAPE, PATCH) == [(2, 2), (2, 2)]
  assert codec2d.margins((17, 26), PATCH) == [(3, 4), (2, 2)]


def test_margins_are_white(codec):
  x, encode, z, decode = codec
  assert z.shape == (2, 9, 3)
  assert decode(z).shape == x.shape
  wide = jnp.pad(x, ((0, 0), (2, 2), (2, 2)))  # a multiple of the patch
  np.testing.assert_allclose(encode(wide), z, atol=1e-5)


def test_a_token_is_a_patch(codec):
  """Without convolutions, a pixel reaches its token alone, and back."""
  x, _, _, _ = codec
  encoder = codec2d.make(dim=3, width=8, depth=0, patch=PATCH)
  params = encoder.init(jax.random.key(1), x)
  base = encoder.apply(params, x)
  decoder = codec2d.make_decoder(encoder, SHAPE)
  weights = decoder.init(jax.random.key(2), base)
  for pixel, token in (((0, 0), 0), ((5, 7), 0), ((6, 8), 4), ((19, 25), 8)):
    moved = encoder.apply(params, x.at[(0, *pixel)].add(1.0)) - base
    tokens = np.flatnonzero(jnp.abs(moved[0]).max(axis=-1))
    np.testing.assert_array_equal(tokens, [token])
    change = base.at[0, token].add(1.0)
    page = decoder.apply(weights, change) - decoder.apply(weights, base)
    rows, columns = np.nonzero(np.asarray(page[0]))
    assert pixel[0] in rows and pixel[1] in columns
    assert np.ptp(rows) < PATCH[0] and np.ptp(columns) < PATCH[1]


def test_starts_from_white_paper(codec):
  _, _, z, decode = codec
  assert jax.nn.sigmoid(decode(z)).mean() < 0.2
