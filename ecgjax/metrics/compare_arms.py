"""Compares arms on one test set, all on the same bootstrap draws.

The result holds the parts `metrics`, `per_class`, `arms` and `differences` of
`results.json` (see `report.results`); the protocol is in docs/evaluation.md.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.metrics import bootstrap
from ecgjax.metrics import metrics as metrics_lib

BASELINE = 'random_probe'
EQUIVALENT = 'macro_auroc'  # the metric that a margin is about


class _Arm(NamedTuple):
  """Points and draws of one arm; macro names hold [S] and [D] arrays."""

  points: np.ndarray  # [S, M, K]
  draws: np.ndarray  # [M, K, D]
  macro_points: dict
  macro_draws: dict
  num_labels: dict
  calibration: np.ndarray  # [K]


def evaluate_arms(
  arms: Mapping[str, np.ndarray],
  labels: np.ndarray,
  patients: Sequence,
  class_names: Sequence[str],
  thresholds: Mapping[str, np.ndarray] | None = None,
  *,
  method: str,
  baseline: str = BASELINE,
  comparisons: Sequence[tuple[str, str]] = (),
  label_mask: np.ndarray | None = None,
  draws: int = bootstrap.DRAWS,
  seed: int = 0,
  margin: float = 0.0,
) -> dict:
  """Computes metrics, intervals and paired differences of several arms.

  With several training seeds a metric is averaged over seeds, and all intervals
  and p values are over patients and seeds (`bootstrap.seed_weights`); the
  standard deviation between seeds stands beside it.

  Args:
    arms: arm name -> test probabilities, [N, K] or [S, N, K] for S seeds.
    labels: [N, K] in {0, 1}.
    patients: [N] patient of each record (any sortable ids).
    class_names: K label names.
    thresholds: arm name -> [K] or [S, K] from
      `metrics.f1_thresholds(validation labels, validation scores)`; without
      them F1, sensitivity and specificity are left out.
    method: the arm under test; its metrics are the top-level ones.
    baseline: the arm that every other arm is compared with.
    comparisons: further pairs, e.g. ('finetune', 'scratch').
    label_mask: [N, K], 0 where a label was not annotated.
    draws: number of bootstrap draws; the smallest p is 2 / (draws + 1), so
      that Holm at 5 % over m comparisons needs at least 40 m draws.
    seed: int, of the bootstrap; the same for everything in one table.
    margin: of `bootstrap.equivalence` of the macro AUROC; 0: no such test.

  Returns:
    A dict without NaN, ready for JSON:
    `metrics` and `per_class` (of `method`), `arms` (arm -> both), `differences`
    ('a-b' -> metric -> value, ci95, p, p_holm; with a margin `macro_auroc` has
    `equivalence`, its p_holm over all pairs), `differences_per_class` ('a-b' ->
    label -> the same) and `bootstrap` (draws, seed, patients, number of seeds,
    and per label the draws that lacked a class). `macro_*` are over labels with
    enough support, `macro_auroc_all` over every label with both classes; where
    there is no such label the value is null.

  Raises:
    ValueError: if the baseline or the method is missing, arrays disagree, or
      arms have different numbers of seeds.
  """
  if thresholds is not None and set(thresholds) != set(arms):
    raise ValueError(
      f'thresholds are for {sorted(thresholds)}, arms are {sorted(arms)}'
    )
  pairs = _pairs(arms, method, baseline, comparisons)
  support = metrics_lib.support(labels, patients, label_mask)
  counts = bootstrap.patient_counts(patients, draws, seed)
  evaluated = {}
  for name, scores in arms.items():
    try:
      truth, scores, keep = metrics_lib.check_inputs(
        labels, scores, patients, class_names, label_mask
      )
    except ValueError as error:
      raise ValueError(f'arm {name}: {error}') from None
    cuts = np.full((len(scores), len(class_names)), np.nan)
    if thresholds is not None:
      cuts[:] = thresholds[name]
    weights = bootstrap.seed_weights(len(scores), draws, seed)
    evaluated[name] = _evaluate(
      truth, scores, keep, counts, cuts, support['supported'], weights
    )
  seeds = {name: len(arm.points) for name, arm in evaluated.items()}
  if len(set(seeds.values())) > 1:
    raise ValueError(f'arms have different numbers of seeds: {seeds}')
  return {
    **_describe(evaluated[method], class_names, support),
    'arms': {
      name: _describe(arm, class_names, support)
      for name, arm in evaluated.items()
    },
    'differences': _macro_differences(evaluated, pairs, margin),
    'differences_per_class': _class_differences(
      evaluated, pairs, class_names, support['supported']
    ),
    'bootstrap': {
      'draws': draws,
      'seed': seed,
      'num_patients': len(np.unique(np.asarray(patients))),
      'num_seeds': seeds[method],
      'skipped_draws': {
        name: int(np.isnan(evaluated[method].draws[0, k]).sum())
        for k, name in enumerate(class_names)
      },
    },
  }


def _pairs(arms, method, baseline, comparisons) -> list[tuple[str, str]]:
  """Every arm against the baseline, then the pairs that were asked for."""
  pairs = [(name, baseline) for name in arms if name != baseline]
  pairs += [pair for pair in comparisons if pair not in pairs]
  for name in [baseline, method, *(n for pair in pairs for n in pair)]:
    if name not in arms:
      raise ValueError(
        f'arm {name!r} is missing: a table needs its baseline and every arm '
        f'that it compares; there are {", ".join(arms)}'
      )
  return pairs


def _evaluate(
  labels, scores, keep, counts, thresholds, supported, weights
) -> _Arm:
  """Points, draws and macro means of one arm."""
  points, draws = bootstrap.label_draws(
    labels, scores, keep, counts, thresholds, weights
  )
  names = metrics_lib.METRICS
  chosen = {f'macro_{name}': (m, supported) for m, name in enumerate(names)}
  chosen['macro_auroc_all'] = (0, np.ones_like(supported))
  macro_points: dict[str, np.ndarray | None] = {}
  macro_draws: dict[str, np.ndarray | None] = {}
  num_labels = {}
  for name, (m, subset) in chosen.items():
    defined = subset & ~np.isnan(points[:, m]).any(axis=0)
    num_labels[name] = int(defined.sum())
    if defined.any():
      macro_points[name] = points[:, m, defined].mean(axis=1)  # [S]
      macro_draws[name] = bootstrap.macro_draws(
        points[:, m, defined].mean(axis=0), draws[m, defined]
      )
    elif m == 0 or np.isfinite(points[:, m]).all(axis=0).any():
      macro_points[name] = macro_draws[name] = None
  # Labels may be annotated for parts of the records only.
  calibration = np.mean(
    [metrics_lib.calibration_error(labels, s, keep) for s in scores], axis=0
  )
  return _Arm(points, draws, macro_points, macro_draws, num_labels, calibration)


def _describe(arm: _Arm, class_names, support) -> dict:
  """`metrics`, `per_class` and `calibration` of one arm."""
  metrics = {}
  for name, points in arm.macro_points.items():
    if points is None:
      metrics[name] = {'value': None, 'ci95': None, 'num_labels': 0}
      continue
    metrics[name] = _entry(points, arm.macro_draws[name])
    metrics[name]['num_labels'] = arm.num_labels[name]
  per_class = {}
  for k, label in enumerate(class_names):
    entries = {
      name: _entry(arm.points[:, m, k], arm.draws[m, k])
      for m, name in enumerate(metrics_lib.METRICS)
      if not np.isnan(arm.points[:, m, k]).any()
    }
    counts: dict[str, float] = {
      name: bool(v[k]) if name == 'supported' else int(v[k])
      for name, v in support.items()
    }
    annotated = counts['num_positive'] + counts['num_negative']
    if annotated:
      counts['prevalence'] = counts['num_positive'] / annotated
    per_class[label] = entries | counts
  calibration = {
    label: float(error)
    for label, error in zip(class_names, arm.calibration)
    if not np.isnan(error)
  }
  scored = arm.calibration[support['supported']]
  return {
    'metrics': metrics,
    'per_class': per_class,
    'calibration': {
      'macro_ece': float(scored.mean()) if len(scored) else None,
      'per_class': calibration,
    },
  }


def _entry(points: np.ndarray, draws: np.ndarray) -> dict:
  """{'value', 'ci95'}, and the spread between seeds where there are several.

  All metrics lie in [0, 1]; a weighted mean over seeds need not.
  """
  inside = np.clip(draws, 0, 1)
  entry = {'value': float(points.mean()), 'ci95': bootstrap.interval(inside)}
  if len(points) > 1:
    entry['seed_sd'] = float(points.std(ddof=1))
    entry['num_seeds'] = len(points)
  return entry


def _difference(points_a, points_b, draws_a, draws_b) -> dict:
  """{'value', 'ci95', 'p'} of a minus b on the same draws."""
  change = np.clip(draws_a - draws_b, -1, 1)
  return bootstrap.difference(points_a.mean() - points_b.mean(), change)


def _correct(table: dict, name: str) -> None:
  """Adds Holm's p for one metric over all rows of a table."""
  bootstrap.correct(
    {row: entry[name] for row, entry in table.items() if name in entry}
  )


def _macro_differences(arms: dict[str, _Arm], pairs, margin) -> dict:
  """Differences of macro metrics; one Holm family per metric (column)."""
  table = {}
  for a, b in pairs:
    first, second = arms[a], arms[b]
    table[f'{a}-{b}'] = {
      name: _difference(
        points,
        second.macro_points[name],
        first.macro_draws[name],
        second.macro_draws[name],
      )
      for name, points in first.macro_points.items()
      if points is not None
    }
  for name in sorted({name for row in table.values() for name in row}):
    _correct(table, name)
  if margin:
    tests = {
      (a, b): bootstrap.equivalence(
        arms[a].macro_draws[EQUIVALENT] - arms[b].macro_draws[EQUIVALENT],
        margin,
      )
      for a, b in pairs
      if EQUIVALENT in table[f'{a}-{b}']
    }
    bootstrap.correct(tests)
    for (a, b), test in tests.items():
      table[f'{a}-{b}'][EQUIVALENT]['equivalence'] = test
  return table


def _class_differences(arms, pairs, class_names, supported) -> dict:
  """Differences per supported label; Holm over pairs and labels."""
  table = {}
  for a, b in pairs:
    first, second = arms[a], arms[b]
    for k in np.flatnonzero(supported):
      table[f'{a}-{b}', class_names[k]] = {
        name: _difference(
          first.points[:, m, k],
          second.points[:, m, k],
          first.draws[m, k],
          second.draws[m, k],
        )
        for m, name in enumerate(metrics_lib.METRICS)
        if not np.isnan(first.points[:, m, k] + second.points[:, m, k]).any()
      }
  for name in metrics_lib.METRICS:
    _correct(table, name)
  nested: dict[str, dict] = {}
  for (pair, label), entry in table.items():
    nested.setdefault(pair, {})[label] = entry
  return nested
