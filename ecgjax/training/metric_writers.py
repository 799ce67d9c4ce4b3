"""Metrics of a run: fetched late, written as JSON lines.

TensorBoard gets them as well, where it is installed.
"""

import importlib.util
import json
import logging
import math
import os
import pathlib
from collections.abc import Iterator

import jax
import numpy as np

from ecgjax.checkpoints import best_mode
from ecgjax.runtime import processes

logger = logging.getLogger(__name__)


def read_metrics(path) -> list[dict]:
  """Rows of a metrics file, oldest first; a torn last line is left out.

  Raises:
    ValueError: if another line is damaged; names file and line.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    return []
  rows, lines = [], path.read_bytes().splitlines()
  for number, line in enumerate(lines, 1):
    try:
      row = json.loads(line)
      if not isinstance(row, dict) or 'step' not in row:
        raise ValueError('no row of metrics')
      rows.append(row)
    except ValueError as error:
      if number < len(lines):
        raise ValueError(
          f'{path}, line {number} is damaged ({error}); mend or remove the file'
        ) from None
  return rows


def exhausted(workdir, step: int, metric: str, patience: int) -> bool:
  """Whether `patience` evaluations have passed without a better `metric`.

  The first process decides for all of them.
  An evaluation without a finite figure is never the best, but it counts.

  Args:
    workdir: of the run; its rows up to `step` count.
    step: at which the run is.
    metric: `config.best_metric`.
    patience: `config.patience`; 0: endless.
  """
  return processes.from_first(
    lambda: bool(patience) and _exhausted(workdir, step, metric, patience)
  )


def _exhausted(workdir, step, metric, patience) -> bool:
  sign = 1 if best_mode(metric) == 'min' else -1
  values = [
    math.inf if row[metric] is None else sign * row[metric]  # see MetricWriter
    for row in read_metrics(pathlib.Path(workdir) / 'metrics.jsonl')
    if metric in row and row['step'] <= step
  ]
  if not values:
    return False
  return len(values) - 1 - int(np.argmin(values)) >= patience


class Windows:
  """Metrics of the steps between two log points, fetched one window late.

  A device need not wait then until the host has looked at its last step.
  """

  def __init__(self):
    self._open, self._closed = [], []

  def add(self, metrics: dict) -> None:
    """Takes the metrics of a dispatch, each [k] on the device."""
    self._open.append(metrics)

  def close(self, step: int) -> None:
    """Ends the window with the metrics of `step`."""
    self._closed.append((step, self._open))
    self._open = []

  def fetch(self, keep: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Last step and metrics [steps] of each closed window but `keep`."""
    while len(self._closed) > keep:
      step, window = self._closed.pop(0)
      join = lambda *x: np.concatenate(x)
      yield step, jax.tree.map(join, *jax.device_get(window))


class MetricWriter:
  """Appends one JSON object per call to `<workdir>/metrics.jsonl`.

  Rows after `step` are cut off when the file exists: a resumed run repeats
  them. Non-finite values are written as null. Only process 0 writes.
  """

  def __init__(self, workdir, step: int):
    self._file = self._board = None
    if jax.process_index():
      return
    workdir = pathlib.Path(workdir)
    path = workdir / 'metrics.jsonl'
    rows = [r for r in read_metrics(path) if r['step'] <= step]
    if step and not rows:
      logger.warning(
        '%s has no row up to step %d, at which this run resumes: they are '
        'lost, and config.patience counts from here',
        path,
        step,
      )
    temporary = path.with_suffix('.tmp')
    temporary.write_text(''.join(json.dumps(r) + '\n' for r in rows))
    os.replace(temporary, path)
    self._file = open(path, 'a')
    if importlib.util.find_spec('tensorboardX'):
      import tensorboardX

      self._board = tensorboardX.SummaryWriter(
        str(workdir / 'tensorboard'), purge_step=step + 1
      )

  def write(self, step: int, metrics: dict[str, float]) -> None:
    if self._file is None:
      return
    row = {'step': step} | {
      k: v if math.isfinite(v) else None for k, v in metrics.items()
    }
    self._file.write(json.dumps(row) + '\n')
    self._file.flush()
    if self._board:
      for name, value in metrics.items():
        self._board.add_scalar(name, value, step)

  def __enter__(self):
    return self

  def __exit__(self, *exception) -> None:
    for file in (self._file, self._board):
      if file is not None:
        file.close()
