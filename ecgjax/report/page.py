"""One self-contained HTML page: tables and figures of a run or a study.

`write_report` turns results into sections; `write_page` is the general part,
for galleries and other pages. Figures are inline SVG, or PNG where asked for;
the page loads nothing from elsewhere.
"""

import base64
import html
import importlib.resources
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jinja2
import markupsafe
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from ecgjax.ecg import plot
from ecgjax.metrics import metrics
from ecgjax.report import figures, tables
from ecgjax.report.results import check, write_text

# Measured with configs/lcd.py: while validation_loss rose from 1.75 to 1.93,
# constant_loss rose from 1.53 to 1.95 and the probe's validation AUROC from
# .918 to .952; untrained, the effective rank is 9.
MOVING_TARGET = (
  'The target of the loss learns too. constant_loss is what the same '
  'prediction for every ECG would cost (without decorrelation): it rises as '
  'the projections of the target spread, and the loss with it, though the '
  'predictions get better if the distance between the two grows. The effective '
  'rank of the projections is low before training, rises while decorrelation '
  'dominates and falls as they gather in what the views share; a collapse '
  'would take constant_loss to 0 or the rank to 1.'
)


class Picture(NamedTuple):
  """A figure with a caption; `png=True` for figures with very many marks."""

  figure: Figure
  caption: str = ''
  png: bool = False


class Section(NamedTuple):
  """A heading and what stands below it.

  Attributes:
    title: the heading.
    parts: paragraphs (str), `tables.Table` and `Picture`, in order.
  """

  title: str
  parts: Sequence


class Mistake(NamedTuple):
  """A test record on which the model is confidently wrong.

  Attributes:
    index: row of the test set.
    label: position of the label.
    missed: True for a missed positive, False for a false alarm.
    score: the model's probability.
    confidence: distance from the threshold, 1 at the far end of the scale.
  """

  index: int
  label: int
  missed: bool
  score: float
  confidence: float


def confident_errors(
  labels: np.ndarray,
  scores: np.ndarray,
  thresholds: np.ndarray,
  count: int = 6,
  label_mask: np.ndarray | None = None,
) -> list[Mistake]:
  """The most confident errors, false alarms and misses in turn.

  Args:
    labels: [N, K] in {0, 1}.
    scores: [N, K] probabilities.
    thresholds: [K] from validation; labels with NaN are left out.
    count: how many.
    label_mask: [N, K], 0 where a label was not annotated.

  Returns:
    At most `count` errors, most confident first within their kind; a record
    appears once.
  """
  labels = np.asarray(labels) > 0
  keep = np.ones_like(labels) if label_mask is None else label_mask > 0
  above = (scores - thresholds) / np.maximum(1 - thresholds, 1e-12)
  below = (thresholds - scores) / np.maximum(thresholds, 1e-12)
  called = scores >= thresholds
  kinds = []
  for missed, wrong, confidence in (
    (False, ~labels & called & keep, above),
    (True, labels & ~called & keep & ~np.isnan(thresholds), below),
  ):
    rows, columns = np.nonzero(wrong)
    found = [
      Mistake(int(i), int(k), missed, float(scores[i, k]), float(c))
      for i, k, c in zip(rows, columns, confidence[rows, columns])
    ]
    kinds.append(sorted(found, key=lambda m: (-m.confidence, m.index)))
  chosen, seen = [], set()
  while any(kinds) and len(chosen) < count:
    for kind in kinds:
      while kind and kind[0].index in seen:
        kind.pop(0)
      if kind and len(chosen) < count:
        chosen.append(kind.pop(0))
        seen.add(chosen[-1].index)
  return chosen


def errors_section(
  mistakes: Sequence[Mistake],
  class_names: Sequence[str],
  load: Callable[[int], Mapping],
) -> Section:
  """12-lead plots of the most confident errors.

  Args:
    mistakes: what `confident_errors` returned.
    class_names: K names.
    load: row of the test set -> arguments of `plot.plot_ecg`.
  """
  parts = []
  for mistake in mistakes:
    kind = 'missed' if mistake.missed else 'false alarm'
    caption = (
      f'{class_names[mistake.label]}: {kind}, probability {mistake.score:.3f}'
    )
    drawn = load(mistake.index)
    parts.append(
      Picture(plot.plot_ecg(**drawn), caption, 'attribution' in drawn)
    )
  return Section('Most confident errors', parts or ['There is no error.'])


def write_page(
  path: str | os.PathLike,
  title: str,
  sections: Sequence[Section],
  synthetic: bool = False,
) -> None:
  """Writes one self-contained HTML file, all or nothing.

  Args:
    path: the file.
    title: heading of the page.
    sections: in order.
    synthetic: True puts a banner on the page.
  """
  template = jinja2.Environment(
    autoescape=True, trim_blocks=True, lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  ).from_string(
    importlib.resources.files('ecgjax.report')
    .joinpath('page.html')
    .read_text(encoding='utf-8')
  )  # fmt: skip
  number = iter(range(1_000_000))
  prepared = [
    {
      'title': section.title,
      'parts': [_prepare(part, next(number)) for part in section.parts],
    }
    for section in sections
  ]
  text = template.render(title=title, sections=prepared, synthetic=synthetic)
  write_text(path, text)


def _prepare(part, number: int) -> dict:
  """A part as the template wants it."""
  if isinstance(part, str):
    return {'kind': 'text', 'text': part}
  if isinstance(part, tables.Table):
    rows = [[_keep_together(cell) for cell in row] for row in part.rows]
    return {'kind': 'table', **part._replace(rows=rows)._asdict()}
  return {
    'kind': 'figure',
    'caption': part.caption,
    'markup': markupsafe.Markup(_markup(part, number)),
  }


def _keep_together(cell: str) -> str:
  """Lets no line break into an interval, a bracket or a p value."""
  return re.sub(
    r'\[[^]]*\]|\([^)]*\)|p (?:< )?\S+',
    lambda match: match.group().replace(' ', '\u00a0'),
    cell,
  )


def _markup(picture: Picture, number: int) -> str:
  """Inline SVG, or PNG as a data URI; the same bytes for the same figure."""
  label = html.escape(picture.caption or 'figure', quote=True)
  for text in picture.figure.findobj(Text):
    text.set_parse_math(False)  # labels may hold '$'
  buffer = io.BytesIO()
  if picture.png:
    picture.figure.savefig(
      buffer, format='png', dpi=110, metadata={'Software': None}
    )
    data = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'<img alt="{label}" src="data:image/png;base64,{data}">'
  # The salt keeps the ids of several figures on one page apart.
  style = {'svg.hashsalt': str(number), 'svg.fonttype': 'none'}
  with matplotlib.rc_context(style):
    picture.figure.savefig(buffer, format='svg', metadata={'Date': None})
  svg = buffer.getvalue().decode('utf-8')
  svg = svg[svg.index('<svg') :]
  svg = re.sub(r'<g id="[^"]*"', '<g', svg)  # the same in every figure
  return svg.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)


def write_report(
  path: str | os.PathLike,
  results: Mapping,
  *,
  title: str = '',
  predictions: Mapping | None = None,
  history: Sequence[Mapping] = (),
  sections: Sequence[Section] = (),
) -> None:
  """Writes the report of a run or a study.

  Args:
    path: the HTML file.
    results: a result record (see `results`); checked first.
    title: default: method and data set.
    predictions: arguments of `results.write_predictions`; gives the curves,
      the confusion matrices and the reliability diagrams.
    history: rows of `metrics.jsonl`; gives the training curves.
    sections: between arms and curves, e.g. those of a `finding.Finding`.

  Raises:
    ValueError: if the results break a rule of the protocol.
  """
  check(results)
  pages = [_overview(results)]
  if results['arms']:
    pages.append(_arms_section(results))
  pages += sections
  if predictions is not None:
    pages.append(_curves_section(predictions))
  if history:
    pages.append(training_section(history))
  title = title or f'{results["method"]} on {results["dataset"]}'
  synthetic = results.get('synthetic', False)
  write_page(path, title, pages, synthetic)


def training_section(history: Sequence[Mapping]) -> Section:
  """Training curves; see `write_report`."""
  moving = any('constant_loss' in row for row in history)
  curves = figures.training_curves(history)
  return Section('Training', [Picture(curves, MOVING_TARGET if moving else '')])


def _overview(results: Mapping) -> Section:
  head = [tables.ONE_SEED] if tables.num_seeds(results) == 1 else []
  parts = [*head, tables.provenance(results), tables.metrics_table(results)]
  if results['metrics'].get('macro_auroc', {}).get('num_labels') == 0:
    parts.append(
      f'No label has {metrics.MIN_PATIENTS} positive and '
      f'{metrics.MIN_PATIENTS} negative test patients, so that the supported '
      'macro metrics are not reportable.'
    )
  return Section('Result', parts)


def _arms_section(results: Mapping) -> Section:
  parts = [tables.arms_table(results), *tables.difference_tables(results)]
  parts.append(tables.class_table(results))
  if any('auroc' in entry for entry in results['per_class'].values()):
    parts.append(
      Picture(
        figures.class_bars(results['arms']),
        'AUROC per label, bars from chance; 95 % intervals. †: fewer than '
        f'{metrics.MIN_PATIENTS} positive or negative test patients, left out '
        'of the headline.',
      )
    )
  return Section('Arms', parts)


def _curves_section(predictions: Mapping) -> Section:
  """ROC, PR, confusion and reliability of every arm, of all labels."""
  parts = []
  for name, scores in predictions['arms'].items():
    labels, scores, keep = metrics.check_inputs(
      predictions['labels'], scores, predictions['patients'],
      predictions['class_names'], predictions.get('label_mask'),
    )  # fmt: skip
    names = predictions['class_names']
    groups, absent = figures.class_groups(labels, keep)
    if not groups:
      parts.append(f'{name}: no label has both classes.')
      continue
    if len(absent):
      listed = ', '.join(names[k] for k in absent)
      parts.append(f'{name}: not drawn, as one class is absent: {listed}.')
    cuts = np.broadcast_to(
      predictions['thresholds'][name], (len(scores), len(names))
    )
    parts += _arm_pictures(
      name, labels, scores, keep, cuts, predictions['patients'], names, groups
    )
  return Section('Curves', parts)


def _arm_pictures(
  name, labels, scores, keep, cuts, patients, names, groups
) -> list[Picture]:
  """Figures of one arm, as many of each kind as there are groups of labels."""
  seeds = tables.seeds_text(len(scores))
  mean = seeds if len(scores) == 1 else f'mean of {seeds}'
  first = seeds if len(scores) == 1 else f'the first of {seeds}'
  found = [
    Picture(
      figures.roc_pr(labels, scores, keep, names, group),
      f'{name}: curves per label, {mean}.',
    )
    for group in groups
  ]
  caption = f'{name}: records at the thresholds chosen on validation, {mean}.'
  if figures.single_label(labels, keep):
    matrix = figures.confusion_matrix(labels, scores, names)
    found.append(Picture(matrix, f'{name}: highest score, {mean}.'))
  else:
    with_cut = ~np.isnan(cuts).any(axis=0)
    found += [
      Picture(
        figures.confusion(labels, scores, keep, cuts, names, drawn), caption
      )
      for group in groups
      if len(drawn := group[with_cut[group]])
    ]
  found += [
    Picture(
      figures.reliability(labels, scores, keep, patients, names, group),
      f'{name}: calibration in {metrics.NUM_BINS} equal-mass bins, with 95 % '
      f'intervals by patient, {first}.',
    )
    for group in groups
  ]
  return found
