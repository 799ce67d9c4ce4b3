"""Throughput of a loop."""

import time

import numpy as np


class Speed:
  """ECGs per second between log points; the first window compiles."""

  def __init__(self, batch_size: int):
    self._batch_size = batch_size
    self._rates = []
    self._mark = None

  def update(self, step: int) -> float:
    now = time.monotonic()
    if self._mark is not None and step > self._mark[0]:
      steps, seconds = step - self._mark[0], now - self._mark[1]
      self._rates.append(steps * self._batch_size / seconds)
    self._mark = (step, now)
    return self._rates[-1] if self._rates else 0.0

  def pause(self, step: int) -> None:
    """Leaves the time of an evaluation out."""
    self._mark = (step, time.monotonic())

  def median(self) -> float:
    return float(np.median(self._rates)) if self._rates else 0.0
