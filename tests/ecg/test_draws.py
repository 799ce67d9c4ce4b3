import jax
import numpy as np
import pytest

from ecgjax.ecg import draws as draws_lib


def test_a_table_of_draws_holds_the_numbers_of_each_slot():
  """Any shape begins like any other: Threefry must be partitionable."""
  key = jax.random.key(1, impl='threefry2x32')
  draws = draws_lib.Draws.of(key, 24)
  for slot, shape in ((0, ()), (19, (8, 3)), (79, (5,))):
    own = jax.random.fold_in(key, slot)
    np.testing.assert_array_equal(
      draws.normal(slot, shape), jax.random.normal(own, shape)
    )
    unit = np.asarray(jax.random.uniform(own, shape))
    np.testing.assert_allclose(
      draws.uniform(slot, 2.0, 5.0, shape), 2 + 3 * unit, rtol=1e-6
    )
    np.testing.assert_array_equal(
      draws.integer(slot, -1, 4, shape), np.floor(5 * unit) - 1
    )
  with pytest.raises(ValueError, match='24 numbers per slot'):
    draws.normal(3, (5, 5))
