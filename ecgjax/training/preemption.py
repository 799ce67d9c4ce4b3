"""Tells the loop when to save and stop."""

import signal

import jax


class Preemption:
  """Context that notes SIGTERM instead of dying of it.

  With several processes JAX's own preemption service makes all of them stop
  at the same step; alone, it never reports anything, so that the signal is
  caught here.
  """

  def __enter__(self):
    self._received = False
    if jax.process_count() == 1:
      self._previous = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *exception):
    if jax.process_count() == 1:
      signal.signal(signal.SIGTERM, self._previous)

  def _note(self, signum, frame):
    del signum, frame
    self._received = True

  def requested(self, step: int) -> bool:
    """Whether to save and stop after this step; the same on all processes."""
    if jax.process_count() == 1:
      return self._received
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)
