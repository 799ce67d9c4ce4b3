"""A study: a grid of runs on one data set, one table and one report.

`config.study.name` says which (a module of `ecgjax.studies`). `<workdir>/runs/`
holds one folder per cell of the grid and what cells share; `results.json` and
`report.html` of the study are made from those files alone. Every piece that is
there is not made again.
"""

import logging
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from ecgjax import evaluate, train
from ecgjax.checkpoints import best_mode
from ecgjax.config import check, from_json, to_json
from ecgjax.data.batches import run_data
from ecgjax.metrics import metrics as metrics_lib
from ecgjax.model import Model, load, over_split
from ecgjax.report import results
from ecgjax.report.ending import Ending, publish
from ecgjax.runtime.resolve import resolve
from ecgjax.training import workdir as workdir_lib

logger = logging.getLogger(__name__)


class Study(NamedTuple):
  """A grid of cells that are run one by one, and what is made of them.

  Attributes:
    cells: names, one folder each, in the order of running.
    run_cell: (name, folder) -> None; writes `<folder>/results.json` when
      everything else of the cell is there.
    summarise: (folders, seconds) -> what is published, from the files of all
      cells alone; `folders` maps names to folders, `seconds` is what this
      process has spent.
  """

  cells: Sequence[str]
  run_cell: Callable[[str, pathlib.Path], None]
  summarise: Callable[[Mapping[str, pathlib.Path], float], Ending]


def run_study(config, workdir) -> dict:
  """Runs what is missing of the grid, then writes table and report.

  Args:
    config: has `study`, of which `name` is a module of `ecgjax.studies`; the
      other fields are described there.
    workdir: folder of the study.

  Returns:
    The study's results.

  Raises:
    ValueError: if config, data or work folder are off.
  """
  started = time.monotonic()
  workdir = pathlib.Path(workdir)
  if 'study' not in config:
    raise ValueError(
      '--mode=study needs a study config, e.g. '
      'configs/study_label_efficiency.py'
    )
  check.check(config, 'study')
  run_data.require_task(config.data.task)
  module = resolve('studies', config.study.name)
  workdir_lib.check(config, workdir)
  finished = workdir_lib.read_results(workdir)
  if finished:
    logger.info('%s is finished; see %s', workdir, workdir / 'results.json')
    return finished
  study = module.make(config, run_data.open_data(config.data), workdir)
  workdir_lib.create(config, workdir)
  folders = {name: workdir / 'runs' / name for name in study.cells}
  bar = tqdm.tqdm(folders.items(), desc='study', unit='cell', disable=None)
  for name, folder in bar:
    if not (folder / 'results.json').is_file():
      study.run_cell(name, folder)
  ending = study.summarise(folders, time.monotonic() - started)
  return publish(workdir / 'results.json', ending)


def check_support(test) -> None:
  """Refuses a study whose headline could not be computed."""
  columns = test.columns
  support = metrics_lib.support(
    columns['label'], columns['patient'], columns['label_mask']
  )
  if not support['supported'].any():
    raise ValueError(
      'study: no label has 10 positive and 10 negative test patients among '
      f'{len(np.unique(columns["patient"]))}; use a larger data set'
    )


def facts(config, data, method: str, seconds: float) -> dict:
  """Fields that the results of cells and of the study share."""
  test = data.labelled['test']
  return {
    'method': method,
    'dataset': config.data.name,
    'protocol': config.study.name,
    'split': 'test',
    'num_examples': len(test),
    'num_patients': len(np.unique(test.columns['patient'])),
    'device': results.describe_device(),
    'wall_seconds': seconds,
    'synthetic': data.synthetic,
    'leak_allowed': bool(config.data.allow_leak),
  }


def run_config(config, without: Sequence[str] = (), **changes):
  """The config of one run of a study: its own fields, the study's data.

  Args:
    config: of the study.
    without: further groups that the run has no use for.
    **changes: fields of the run.
  """
  fields = to_json(config)
  for name in ('study', 'pretrain', *without):
    fields.pop(name)
  return from_json(fields | {'mode': 'train'} | changes)


def goodness(metric: str, metrics: dict) -> float:
  """The `metric` of a checkpoint, turned so that more is better."""
  value = metrics[metric]
  if math.isnan(value):
    return -math.inf
  return value if best_mode(metric) == 'max' else -value


def best_model(config, folder: pathlib.Path, arm: str) -> Model:
  """The best on validation of the trainings of an arm."""
  rates = config.study[f'{arm}_learning_rates']
  return max(
    (load(folder / run_name(arm, rate)) for rate in rates),
    key=lambda model: goodness(config.best_metric, model.figures),
  )


def run_name(arm: str, learning_rate: float) -> str:
  """Of the folder of one training in its cell."""
  return f'{arm}-rate{learning_rate:g}'


def train_classifier(
  config,
  data,
  folder: pathlib.Path,
  arm: str,
  *,
  seed: int,
  init_from: str = '',
  learning_rates: Sequence[float],
):
  """Trains a classifier with each rate; the best on validation counts.

  Args:
    config: of the study, a supervised one.
    data: `data.batches.run_data.RunData`; its labelled splits are used.
    folder: of the cell; each training gets a folder in it and is resumed.
    arm: name of the trainings.
    seed: of the trainings.
    init_from: work folder of a pretraining, or ''.
    learning_rates: to be tried.

  Returns:
    Validation and test probabilities, each [N, K].
  """
  # A power of two, so that small subsets run on several devices too.
  largest = 1 << (len(data.labelled['train']).bit_length() - 1)
  found = []
  for rate in learning_rates:
    optimizer = to_json(config.optimizer) | {'learning_rate': rate}
    run = run_config(
      config, seed=seed, init_from=init_from, optimizer=optimizer,
      batch_size=min(config.batch_size, largest),
    )  # fmt: skip
    name = run_name(arm, rate)
    trained = train.train_on(run, folder / name, data, f'{folder.name} {name}')
    model = evaluate.choose_model(run, trained)
    scores = tuple(
      over_split(model, data.labelled[split], arm).probabilities
      for split in ('validation', 'test')
    )
    found.append((goodness(run.best_metric, model.figures), scores))
  return max(found, key=lambda pair: pair[0])[1]
