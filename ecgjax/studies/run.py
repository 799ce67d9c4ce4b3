"""A study: a grid of runs on one data set, one table and one report.

`config.study.name` says which (a module of `ecgjax.studies`). `<workdir>/runs/`
holds one folder per cell of the grid and what cells share; `results.json` and
`report.html` of the study are made from those files alone. Every piece that is
there is not made again.
"""

import logging
import pathlib
import time

import tqdm

from ecgjax.config import check
from ecgjax.data.batches import run_data
from ecgjax.report.ending import publish
from ecgjax.runtime.resolve import resolve
from ecgjax.training import workdir as workdir_lib

logger = logging.getLogger(__name__)


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
