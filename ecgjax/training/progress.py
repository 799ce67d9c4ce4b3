"""What the loop asks at every step: when to stop, and how it is going."""

import math
import time
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from ecgjax.runtime import processes
from ecgjax.training import metric_writers


class NonFiniteLoss(Exception):
  """The loss or its gradient is not finite; no state after it is saved."""


class Clock(NamedTuple):
  """When a run logs, evaluates and ends, in steps.

  Attributes:
    num_steps: updates of the whole run.
    steps_per_dispatch: most that are run as one program.
    log_every: steps between two rows of metrics.
    eval_every: steps between two evaluations; 0: as `evaluations` says.
    evaluations: in the whole run, equally far apart.
  """

  num_steps: int
  steps_per_dispatch: int
  log_every: int
  eval_every: int
  evaluations: int

  def next(self, step: int) -> tuple[int, bool, bool]:
    """Steps to run at once after `step`; whether to log and to evaluate then.

    No dispatch goes past a step at which something is due, and every
    evaluation is logged as well.
    """
    most, last = self.steps_per_dispatch, self.num_steps
    share = most * math.ceil(last / (self.evaluations * most))
    periods = self.log_every, self.eval_every or share
    count = min(most, last - step, *(n - step % n for n in periods))
    logs, evaluates = ((step + count) % n == 0 for n in periods)
    evaluates |= step + count == last
    return count, logs or evaluates, evaluates


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


class Progress:
  """What the loop has seen: rows of metrics, losses, speed, and a bar.

  A context that closes the bar and `metrics.jsonl`.

  Attributes:
    losses: of the steps since the last evaluation, as far as fetched.
  """

  def __init__(self, workdir, begun, clock, batch_size: int, description: str):
    """Cuts the rows after the step that is begun with, and shows the bar.

    Args:
      workdir: of the run.
      begun: `resume.Beginning`.
      clock: `Clock` of the run.
      batch_size: ECGs of a step, on all devices.
      description: before the bar.
    """
    self._workdir, self._saved = workdir, int(begun.state.step)
    self._batch_size, self._speed = batch_size, Speed(batch_size)
    self._windows, self.losses = metric_writers.Windows(), begun.losses
    self._writer = processes.on_all(
      lambda: metric_writers.MetricWriter(workdir, self._saved)
    )
    self._bar = tqdm.tqdm(
      total=clock.num_steps,
      initial=self._saved,
      desc=description,
      unit='step',
      disable=None if jax.process_index() == 0 else True,
    )

  def __enter__(self):
    return self

  def __exit__(self, *exception) -> None:
    self._bar.close()
    self._writer.__exit__(*exception)

  def add(self, metrics: dict, count: int) -> None:
    """Takes the metrics of a dispatch of `count` steps, each [count]."""
    self._windows.add(metrics)
    self._bar.update(count)

  def close(self, step: int, wait: bool) -> dict[str, float]:
    """Ends the window of `step` and writes the rows of those before it.

    Args:
      step: the last one of the window.
      wait: for the device, which may be at the window still.

    Returns:
      The row of `step`, not written yet, if `wait`; else {}.

    Raises:
      NonFiniteLoss: if a fetched loss or gradient is not finite.
    """
    self._windows.close(step)
    row = {}
    for at, fetched in self._windows.fetch(keep=0 if wait else 1):
      if fetched.pop('nonfinite').any():
        raise NonFiniteLoss(
          f'loss or gradient not finite at or before step {at}; '
          f'{self._workdir} holds '
          + (f'step {self._saved}' if self._saved else 'no step yet')
          + '; lower config.optimizer.learning_rate or look at the data'
        )
      self.losses += fetched['loss'].tolist()
      row = {k: float(v[-1]) for k, v in fetched.items()}
      rate = (self._bar.format_dict['rate'] or 0) * self._batch_size
      self._bar.set_postfix_str(f'loss {row["loss"]:.4g}, {rate:.0f} ECG/s')
      self._speed.start(step)
      if at < step:
        self._writer.write(at, row)
    if not wait:
      return {}
    self._speed.stop(step)
    return row

  def mean_loss(self) -> float:
    """Mean over the steps since the last evaluation; the next begins."""
    mean, self.losses = float(np.mean(self.losses)), []
    return mean

  def write(self, step: int, row: dict[str, float]) -> None:
    """Writes the row of a step that was waited for."""
    self._writer.write(step, row)

  def go_on(self, step: int) -> None:
    """Says that the step is evaluated and saved."""
    self._saved = step
    self._speed.start(step)

  def ecgs_per_second(self) -> float:
    """Median over the stretches between saves; 0 if there was none."""
    return self._speed.median()
