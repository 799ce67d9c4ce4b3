"""What is split over devices, and what it costs to begin."""

import jax
import numpy as np
import pytest

from ecgjax.runtime import parallel


def test_uneven_batch_is_refused():
  step = parallel.data_parallel(lambda s, b, axis_name: (s, {}), 'pmap')
  with pytest.raises(ValueError, match='cannot be split over 4 devices'):
    step({}, {'ecg': np.zeros((6, 2))})


@pytest.mark.parametrize('mode', parallel.MODES)
def test_a_step_is_compiled_once(mode):
  """Though the first state lies elsewhere than those that the step returns."""
  traced = []

  def add(state, batch, axis_name=None):
    traced.append(state)
    return state + batch.sum() * 0, {}

  step = parallel.data_parallel(add, mode, jax.devices()[:4])
  state = jax.numpy.ones(3)
  for _ in range(3):
    state, _ = step(state, np.ones((4, 3), np.float32))
  assert len(traced) == 1
