"""What can be said of a run on recordings without any labels.

There is nothing to probe, so that the test split stays unused: the results are
the validation loss of the checkpoint, and the training curves.
"""

import logging
import pathlib

from ecgjax import evaluate
from ecgjax.report import page
from ecgjax.report.results import assemble, write
from ecgjax.training import metric_writers

logger = logging.getLogger(__name__)


def evaluate_unlabelled(config, trained, data, workdir) -> dict:
  """Writes results and report of a pretraining run without a label task.

  Args:
    config: of the run; `config.data.task` is empty.
    trained: from `train.train`.
    data: `data.batches.run_data.Data` of the run.
    workdir: `report.html` and, last, `results.json` are written here.

  Returns:
    The results.
  """
  workdir = pathlib.Path(workdir)
  state, step = evaluate.choose_state(config, trained)
  loss = trained.checkpointer.metadata(step)['metrics']['validation_loss']
  results = assemble(
    {
      'metrics': {'validation_loss': {'value': loss, 'ci95': None}},
      'per_class': {},
      'arms': {},
      'differences': {},
    },
    protocol='no labels',
    **evaluate.facts(config, trained, data, 'validation', state, step),
    wall_seconds=trained.wall_seconds,
  )
  page.write_report(
    workdir / 'report.html',
    results,
    history=metric_writers.read_metrics(workdir / 'metrics.jsonl'),
  )
  write(workdir / 'results.json', results)
  logger.info('Validation loss %.4g at step %d; no labels to probe', loss, step)
  logger.info('Results: %s', workdir / 'results.json')
  logger.info('Report:  %s', workdir / 'report.html')
  return results
