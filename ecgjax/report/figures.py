"""Figures of the report. Every function returns a matplotlib Figure.

No pyplot: no global state, no display. Colours belong to arms, and are told
apart with colour-blind eyes (Okabe and Ito's palette).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ecgjax.metrics import bootstrap, metrics

_PALETTE = (
  '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000',
)  # fmt: skip
_ARM_COLOURS = {
  'probe': '#0072b2', 'finetune': '#d55e00', 'scratch': '#009e73',
  'random_probe': '#7f7f7f', 'attentive_probe': '#56b4e9',
  'supervised_full': '#000000',
}  # fmt: skip
MOST = 2 * len(_PALETTE)  # labels that a figure tells apart


def _colour(name: str, position: int) -> str:
  return _ARM_COLOURS.get(name, _PALETTE[position % len(_PALETTE)])


def _bare(axes) -> None:
  axes.spines[['top', 'right']].set_visible(False)
  axes.grid(True, linewidth=0.4, alpha=0.5)
  axes.set_axisbelow(True)


def _figure(width: float, height: float) -> Figure:
  return Figure(figsize=(width, height), layout='constrained')


def _panels(count: int, size: float = 2.3):
  """A grid of square panels; returns the figure and `count` axes."""
  columns = min(count, 5)
  rows = -(-count // columns)
  figure = _figure(size * columns, size * rows)
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for spare in axes[count:]:
    spare.set_axis_off()
  return figure, axes[:count]


def class_bars(arms: Mapping[str, Mapping], metric: str = 'auroc') -> Figure:
  """Metric per label and arm, with 95 % intervals.

  Args:
    arms: the part `arms` of a result record.
    metric: one of `metrics.METRICS`.
  """
  tables = {name: parts['per_class'] for name, parts in arms.items()}
  labels = [
    label
    for label, entry in next(iter(tables.values())).items()
    if metric in entry
  ]
  chance = 0.5 if metric == 'auroc' else 0.0  # where bars begin
  step = 0.8 / len(tables)
  figure = _figure(7.5, 0.9 + len(labels) * (0.16 + 0.16 * len(tables)))
  axes = figure.subplots()
  for position, (name, table) in enumerate(tables.items()):
    values = np.array([table[label][metric]['value'] for label in labels])
    ends = np.array([table[label][metric]['ci95'] for label in labels])
    axes.barh(
      np.arange(len(labels)) + (position - (len(tables) - 1) / 2) * step,
      values - chance, step * 0.9, left=chance,
      color=_colour(name, position), label=name,
      xerr=np.abs(ends.T - values), error_kw={'lw': 0.9, 'capsize': 2},
    )  # fmt: skip
  names = [
    label + ('' if next(iter(tables.values()))[label]['supported'] else ' †')
    for label in labels
  ]
  axes.set_yticks(range(len(labels)), names)
  axes.set_xlim(right=1)
  axes.invert_yaxis()
  axes.set_xlabel(metric.upper() if metric.startswith('au') else metric)
  axes.axvline(chance, color='black', linewidth=0.8)
  _bare(axes)
  figure.legend(loc='outside upper center', ncols=len(tables), frameon=False)
  return figure


def class_groups(
  labels: np.ndarray, keep: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
  """All labels that can be drawn, in figures of similar numbers of them.

  Args:
    labels: [N, K] bool.
    keep: [N, K] bool.

  Returns:
    Groups of at most `MOST` positions of labels that have both classes, and
    the positions of all other labels.
  """
  positive = (labels & keep).sum(axis=0)
  both = (positive > 0) & (positive < keep.sum(axis=0))
  drawn = np.flatnonzero(both)
  groups = np.array_split(drawn, -(-len(drawn) // MOST)) if len(drawn) else []
  return groups, np.flatnonzero(~both)


def roc_pr(
  labels: np.ndarray,
  scores: np.ndarray,
  keep: np.ndarray,
  class_names: Sequence[str],
  classes: Sequence[int],
) -> Figure:
  """ROC and precision-recall curves per label, averaged over seeds.

  Args:
    labels: [N, K] bool.
    scores: [S, N, K].
    keep: [N, K] bool.
    class_names: K names.
    classes: at most `MOST` positions of the labels that are drawn.
  """
  figure = _figure(9, 4.2)
  roc, pr = figure.subplots(1, 2)
  grid = np.linspace(0, 1, 201)
  for position, k in enumerate(classes):
    y = labels[keep[:, k], k]
    curves = [_curves(y, s[keep[:, k], k], grid) for s in scores]
    tpr, precision = np.mean(curves, axis=0)
    colour = _PALETTE[position % len(_PALETTE)]
    style = '-' if position < len(_PALETTE) else '--'
    roc.plot(grid, tpr, style, color=colour, label=class_names[k], lw=1.4)
    pr.plot(grid, precision, style, color=colour, lw=1.4)
    pr.plot([0.97, 1], [y.mean()] * 2, color=colour, lw=2.5)
  roc.plot([0, 1], [0, 1], ':', color='black', lw=0.8)
  roc.set(xlabel='1 - specificity', ylabel='sensitivity', title='ROC')
  pr.set(
    xlabel='sensitivity (recall)', ylabel='precision', ylim=(0, 1.02),
    title='Precision-recall (mark: prevalence)',
  )  # fmt: skip
  for axes in (roc, pr):
    _bare(axes)
  figure.legend(loc='outside right upper', frameon=False, fontsize=8)
  return figure


def _curves(y, scores, grid) -> tuple[np.ndarray, np.ndarray]:
  """Sensitivity over 1 - specificity and precision over recall, on a grid."""
  order = np.argsort(-scores, kind='stable')
  last = np.append(np.diff(scores[order]) != 0, True)
  true_pos = np.cumsum(y[order])[last]
  false_pos = np.cumsum(~y[order])[last]
  tpr, fpr = true_pos / y.sum(), false_pos / (~y).sum()
  sensitivity = np.interp(grid, np.append(0, fpr), np.append(0, tpr))
  # Step-wise precision, as in average precision: the next threshold's value.
  at = np.searchsorted(tpr, np.clip(grid, 1e-9, tpr[-1]))
  return sensitivity, (true_pos / (true_pos + false_pos))[at]


def single_label(labels: np.ndarray, keep: np.ndarray) -> bool:
  """Whether every record has exactly one positive, of several labels."""
  one = np.all(labels.sum(axis=1) == 1)
  return bool(labels.shape[1] > 1 and keep.all() and one)


def confusion_matrix(
  labels: np.ndarray, scores: np.ndarray, class_names: Sequence[str]
) -> Figure:
  """Label against highest score for single-label data, mean over seeds.

  Args:
    labels: [N, K] bool, one positive a record.
    scores: [S, N, K].
    class_names: K names.
  """
  size = labels.shape[1]
  counts = np.zeros((size, size))
  for s in scores:
    np.add.at(counts, (labels.argmax(axis=1), s.argmax(axis=1)), 1)
  figure = _figure(2 + 0.6 * size, 1.6 + 0.5 * size)
  axes = figure.subplots()
  _matrix(axes, counts / len(scores), class_names, class_names)
  axes.tick_params(axis='x', rotation=45)
  return figure


def confusion(
  labels: np.ndarray,
  scores: np.ndarray,
  keep: np.ndarray,
  thresholds: np.ndarray,
  class_names: Sequence[str],
  classes: Sequence[int],
) -> Figure:
  """A 2 x 2 matrix per label at the validation thresholds, mean over seeds.

  Args:
    labels: [N, K] bool.
    scores: [S, N, K].
    keep: [N, K] bool.
    thresholds: [S, K].
    class_names: K names.
    classes: positions of the labels that are drawn; each has its thresholds.
  """
  figure, panels = _panels(len(classes))
  for axes, k in zip(panels, classes):
    rows = keep[:, k]
    truth = labels[rows, k].astype(int)
    counts = np.zeros((2, 2))
    for s, cut in zip(scores, thresholds):
      np.add.at(counts, (truth, (s[rows, k] >= cut[k]).astype(int)), 1)
    _matrix(axes, counts / len(scores), ('no', 'yes'), ('no', 'yes'))
    axes.set_title(class_names[k], fontsize=10)
  return figure


def _matrix(axes, counts, row_names, column_names) -> None:
  """Counts, shaded by the share of the row."""
  share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  axes.imshow(share, cmap='Blues', vmin=0, vmax=1, aspect='auto')
  for (i, j), count in np.ndenumerate(counts):
    axes.text(
      j, i, f'{count:.4g}', ha='center', va='center', fontsize=9,
      color='white' if share[i, j] > 0.6 else 'black',
    )  # fmt: skip
  axes.set_xticks(range(len(column_names)), column_names, fontsize=8)
  axes.set_yticks(range(len(row_names)), row_names, fontsize=8)
  axes.set_xlabel('called', fontsize=8)
  axes.set_ylabel('reference', fontsize=8)


def reliability(
  labels: np.ndarray,
  scores: np.ndarray,
  keep: np.ndarray,
  patients: Sequence,
  class_names: Sequence[str],
  classes: Sequence[int],
  draws: int = 500,
) -> Figure:
  """Observed against predicted probability, equal-mass bins.

  Bars are 95 % patient-bootstrap intervals of the observed share; the strip
  below shows where the scores lie. First seed.

  Args:
    labels: [N, K] bool.
    scores: [S, N, K].
    keep: [N, K] bool.
    patients: [N].
    class_names: K names.
    classes: positions of the labels that are drawn.
    draws: number of bootstrap draws over patients.
  """
  figure, panels = _panels(len(classes))
  counts = bootstrap.patient_counts(patients, draws).astype(np.float64)
  for axes, k in zip(panels, classes):
    rows = keep[:, k]
    y, s, weights = labels[rows, k], scores[0, rows, k], counts[rows]
    bins = metrics.calibration_bins(s)
    members = (bins == np.unique(bins)[:, None]).astype(np.float64)  # [B, N]
    size = members.sum(axis=1)
    observed = members @ y / size
    with np.errstate(invalid='ignore'):  # a bin may be empty in a draw
      resampled = ((members * y) @ weights) / (members @ weights)
    low, high = np.nanquantile(resampled, (0.025, 0.975), axis=1)
    spread = np.maximum([observed - low, high - observed], 0)
    axes.plot([0, 1], [0, 1], ':', color='black', lw=0.8)
    axes.errorbar(
      members @ s / size, observed, spread, fmt='o', ms=3, lw=0.8,
      color=_PALETTE[0],
    )  # fmt: skip
    axes.plot(s, np.full(len(s), -0.06), '|', ms=4, alpha=0.3, color='black')
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.1, 1.02))
    axes.set_title(class_names[k], fontsize=10)
    axes.tick_params(labelsize=7)
    _bare(axes)
  figure.supxlabel('predicted probability', fontsize=9)
  figure.supylabel('share of positives', fontsize=9)
  return figure


def label_curves(efficiency: Mapping) -> Figure:
  """Macro AUROC against labelled records, with 95 % bands.

  Args:
    efficiency: what `label_efficiency.label_efficiency` returned.
  """
  figure = _figure(7.5, 4.4)
  axes = figure.subplots()
  n = efficiency['num_records']
  for position, (name, curve) in enumerate(efficiency['curves'].items()):
    colour = _colour(name, position)
    low, high = np.array([point['ci95'] for point in curve]).T
    axes.plot(
      n, [p['value'] for p in curve], 'o-', color=colour, label=name, ms=4
    )
    axes.fill_between(n, low, high, color=colour, alpha=0.15, linewidth=0)
  axes.set_xscale('log')
  axes.set_xticks(n, [str(count) for count in n])
  axes.minorticks_off()
  axes.set(xlabel='labelled records', ylabel='macro AUROC')
  _bare(axes)
  axes.legend(frameon=False)
  return figure


def training_curves(history: Sequence[Mapping]) -> Figure:
  """Losses on one panel, every other logged quantity on its own.

  Args:
    history: rows of `metrics.jsonl`: `step` and scalars; null is left out.
  """
  names = dict.fromkeys(name for row in history for name in row)
  names.pop('step')
  losses = [name for name in names if name.endswith('loss')]
  groups = [losses] if losses else []
  groups += [[name] for name in names if name not in losses]
  figure, panels = _panels(len(groups), size=2.7)
  for axes, group in zip(panels, groups):
    for position, name in enumerate(group):
      rows = [row for row in history if row.get(name) is not None]
      axes.plot(
        [row['step'] for row in rows], [row[name] for row in rows],
        color=_PALETTE[position % len(_PALETTE)], label=name, lw=1.2,
      )  # fmt: skip
    axes.set_title(group[0] if len(group) == 1 else 'losses', fontsize=9)
    axes.set_xlabel('step', fontsize=8)
    axes.tick_params(labelsize=7)
    if len(group) > 1:
      axes.legend(frameon=False, fontsize=7)
    _bare(axes)
  return figure
