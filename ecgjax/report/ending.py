"""The one ending of runs, evaluations and studies: files, then the log."""

import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ecgjax.report import page
from ecgjax.report.results import write, write_predictions, write_text
from ecgjax.report.tables import Table, cell, difference_cell, resampled

logger = logging.getLogger(__name__)


class Ending(NamedTuple):
  """What is published at the end.

  Attributes:
    results: the result record, see `results.assemble`.
    predictions: arguments of `results.write_predictions`; None without labels.
    sections: further sections of the report.
    tables: in the log, below the headline.
    history: rows of `metrics.jsonl`; gives the training curves.
    title: of the report; '': method and data set.
    text: Markdown of a study, kept as a file and logged; '': the headline.
  """

  results: Mapping
  predictions: Mapping | None = None
  sections: Sequence[page.Section] = ()
  tables: Sequence[Table] = ()
  history: Sequence[Mapping] = ()
  title: str = ''
  text: str = ''


def publish(path: str | os.PathLike, ending: Ending) -> dict:
  """Writes predictions, report, text and, last, the results; logs them.

  Args:
    path: of the results. Beside `results.json` stand `report.html`,
      `predictions.npz` and `results.md`, beside any other `NAME.json` files
      `NAME.html` and so on.
    ending: what is written.

  Returns:
    The results.

  Raises:
    ValueError: if the results break a rule of the protocol.
  """
  path = pathlib.Path(path)
  report, predictions = path.with_suffix('.html'), path.with_suffix('.npz')
  if path.stem == 'results':
    report = path.with_name('report.html')
    predictions = path.with_name('predictions.npz')
  path.parent.mkdir(parents=True, exist_ok=True)
  if ending.predictions is not None:
    write_predictions(predictions, **ending.predictions)
  page.write_report(
    report,
    ending.results,
    title=ending.title,
    predictions=ending.predictions,
    history=ending.history,
    sections=ending.sections,
  )
  if ending.text:
    write_text(path.with_suffix('.md'), ending.text + '\n')
  write(path, ending.results)
  logger.info('%s', ending.text or summary(ending.results, ending.tables))
  logger.info('Results: %s', path)
  logger.info('Report:  %s', report)
  return ending.results


def summary(results: Mapping, more: Sequence[Table] = ()) -> str:
  """The headline of a result: arms and differences with intervals.

  Args:
    results: a result record.
    more: tables below it.
  """
  kind = 'SYNTHETIC ECGs' if results['synthetic'] else 'ECGs'
  of = f'{results["num_examples"]} {kind} of {results["num_patients"]} patients'
  lines = [f'{results["split"].capitalize()}, {of}:']
  if results['arms']:
    headline = 'macro_auroc'
    if results['metrics'][headline]['value'] is None:
      headline = 'macro_auroc_all'
    over = resampled(results['bootstrap'])
    lines = [f'Test {headline} of {of}, 95 % intervals over {over}:']
    for name, arm in results['arms'].items():
      lines.append(f'  {name:24} {cell(arm["metrics"][headline])}')
    for name, row in results['differences'].items():
      lines.append(f'  {name:24} {difference_cell(row[headline])}')
  lines += [
    f'  {name:24} {cell(entry)}'
    for name, entry in results['metrics'].items()
    if not name.startswith('macro_')
  ]
  return '\n'.join([*lines, *(table.markdown() for table in more)])
