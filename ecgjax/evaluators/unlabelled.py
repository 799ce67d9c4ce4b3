"""What can be said of a run on recordings without any labels.

There is nothing to probe, so that the test split stays unused: the results are
the validation loss of the checkpoint, and the training curves.
"""

import logging
import pathlib

from ecgjax.report import page
from ecgjax.report.results import assemble, write
from ecgjax.training import metric_writers

logger = logging.getLogger(__name__)


def evaluate_unlabelled(
  loss: float, known: dict, workdir: pathlib.Path
) -> dict:
  """Writes results and report of a pretraining run without a label task.

  Args:
    loss: on validation, of the checkpoint that counts.
    known: further fields of the results, from `evaluate.facts`.
    workdir: `report.html` and, last, `results.json` are written here.

  Returns:
    The results.
  """
  results = assemble(
    {
      'metrics': {'validation_loss': {'value': loss, 'ci95': None}},
      'per_class': {},
      'arms': {},
      'differences': {},
    },
    protocol='no labels',
    **known,
  )
  page.write_report(
    workdir / 'report.html',
    results,
    history=metric_writers.read_metrics(workdir / 'metrics.jsonl'),
  )
  write(workdir / 'results.json', results)
  logger.info(
    'Validation loss %.4g at step %d; no labels to probe', loss, known['step']
  )
  logger.info('Results: %s', workdir / 'results.json')
  logger.info('Report:  %s', workdir / 'report.html')
  return results
