"""Finite scalar quantisation, coordinate by coordinate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import fsq

LEVELS = (8, 5, 5, 5)


def test_10_fsq():
  count = int(np.prod(LEVELS))
  codes = fsq.fsq_lookup(jnp.arange(count), LEVELS)
  assert len(np.unique(np.asarray(codes), axis=0)) == count
  assert np.abs(codes).max() <= 1
  for d, level in enumerate(LEVELS):
    assert len(np.unique(np.asarray(codes)[:, d])) == level
  half = np.array(LEVELS) // 2
  with jax.enable_x64(True):
    _, index = fsq.fsq_round(jnp.asarray(codes) * half, LEVELS)
  np.testing.assert_array_equal(index, np.arange(count))

  z = 3 * np.random.default_rng(9).normal(size=(500, 4)).astype(np.float32)
  found, index = jax.jit(lambda z: fsq.fsq_apply(z, LEVELS))(z)
  for row in range(0, 500, 50):  # FSQ's definition, coordinate by coordinate
    place, expected = 1, 0
    for d, level in enumerate(LEVELS):
      h = (level - 1) * 1.001 / 2
      o = 0.5 if level % 2 == 0 else 0.0
      q = np.round(h * np.tanh(float(z[row, d]) + np.arctanh(o / h)) - o)
      assert found[row, d] == pytest.approx(q / (level // 2), abs=1e-6)
      expected += (q + level // 2) * place
      place *= level
    assert int(index[row]) == expected
  gradient = jax.jit(jax.grad(lambda z: fsq.fsq_apply(z, LEVELS)[0].sum()))(
    np.float32(z / 10)
  )
  assert np.abs(gradient).min() > 0.05


def test_17_round_trip():
  index = jnp.arange(0, 1000, 7)
  codes = fsq.fsq_lookup(index, LEVELS)
  half = np.array(LEVELS) // 2
  np.testing.assert_array_equal(fsq.fsq_round(codes * half, LEVELS)[1], index)
