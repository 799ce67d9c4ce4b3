"""Throughput of a loop."""

import time

import numpy as np


class Speed:
  """ECGs per second of the stretches between saves, where host and device meet.

  The time before `start`, in which the step is compiled, does not count.
  """

  def __init__(self, batch_size: int):
    self._batch_size = batch_size
    self._rates = []
    self._mark = None

  def start(self, step: int) -> None:
    """Begins the first stretch, or the one after a save."""
    if self._mark is None:
      self._mark = (step, time.monotonic())

  def stop(self, step: int) -> None:
    """Ends a stretch, before evaluation and save."""
    first, begun = self._mark
    if step > first:
      seconds = time.monotonic() - begun
      self._rates.append((step - first) * self._batch_size / seconds)
    self._mark = None

  def median(self) -> float:
    return float(np.median(self._rates)) if self._rates else 0.0
