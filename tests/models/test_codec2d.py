"""Pages to tokens and back: patches, margins of white, what reaches what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import codec2d

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
