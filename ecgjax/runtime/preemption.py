"""Tells the loop when to save and stop."""

import os
import signal

import jax

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption:
  """Context that notes SIGTERM or Ctrl-C instead of dying of it.

  A second signal is not caught. With several processes JAX's own preemption
  service makes all of them stop after the same call of `requested`; it knows
  SIGTERM alone, so that Ctrl-C is passed on as one. Alone, it never reports
  anything, so that the signals are caught here.
  """

  def __enter__(self):
    self._received, self._calls, self._previous = False, 0, {}
    if jax.process_count() == 1:
      self._previous = {s: signal.signal(s, self._note) for s in SIGNALS}
    else:
      pass_on = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
      self._previous = {signal.SIGINT: signal.signal(signal.SIGINT, pass_on)}
    return self

  def __exit__(self, *exception):
    self._restore()

  def _restore(self):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, signum, frame):
    del signum, frame
    self._received = True
    self._restore()

  def requested(self) -> bool:
    """True if any process was told to stop; call it after every dispatch.

    All processes have to call it, for they agree on the answer.
    """
    if jax.process_count() == 1:
      return self._received
    from jax.experimental import multihost_utils

    self._calls += 1  # the service expects whole numbers without a gap
    return multihost_utils.reached_preemption_sync_point(self._calls)
