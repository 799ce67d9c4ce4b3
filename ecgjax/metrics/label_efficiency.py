"""Label-efficiency factor (docs/evaluation.md).

factor(s*) = n_scratch(s*) / n_arm(s*), where n(s*) is the number of labelled
records at which an arm reaches the score s*. Every bootstrap draw has its own
curves, so every draw gives a factor. Curves are never extrapolated: where an
arm is above s* at its smallest n, or below it at its largest, the draw only
bounds the factor, and the share of such draws is reported.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ecgjax.metrics import bootstrap, metrics

_ROUNDING = 1e-12  # of means on a flat stretch of a curve
TARGETS = (0.1, 0.25, 1.0)  # fractions at which the reference sets s*


def isotonic(curves: np.ndarray) -> np.ndarray:
  """Least-squares non-decreasing fit along the last axis.

  Uses max over j <= i of min over k >= i of mean(j..k), which vectorises over
  draws.

  Args:
    curves: [..., F].

  Returns:
    [..., F].
  """
  size = curves.shape[-1]
  sums = np.cumsum(curves, axis=-1)
  sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
  fitted = np.full(curves.shape, -np.inf)
  for j in range(size):
    # Means of j..k for every k >= j, then the smallest over k >= i.
    means = (sums[..., j + 1 :] - sums[..., j : j + 1]) / np.arange(
      1, size - j + 1
    )
    lowest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    fitted[..., j:] = np.maximum(fitted[..., j:], lowest)
  return fitted


def records_needed(
  num_records: Sequence[int], curves: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Bounds the number of records at which monotone curves reach a target.

  Linear interpolation in log n.

  Args:
    num_records: [F] increasing.
    curves: [D, F] non-decreasing.
    targets: [D].

  Returns:
    lowest and highest possible number, both [D]: equal where the curve crosses
    the target; (0, n_1) where it starts at or above it; (n_F, inf) where it
    never reaches it.
  """
  log_n = np.log(np.asarray(num_records, np.float64))
  reached = curves >= targets[:, None] - _ROUNDING
  first = np.argmax(reached, axis=1)  # 0 also where nothing is reached
  inside = first > 0
  after = np.maximum(first, 1)
  rows = np.arange(len(curves))
  left, right = curves[rows, after - 1], curves[rows, after]
  step = np.divide(
    targets - left, right - left, out=np.zeros_like(left), where=inside
  )
  crossing = np.exp(log_n[after - 1] + step * (log_n[after] - log_n[after - 1]))
  never = ~reached[:, -1]
  smallest, largest = num_records[0], num_records[-1]
  low = np.where(inside, crossing, np.where(never, largest, 0.0))
  high = np.where(inside, crossing, np.where(never, np.inf, smallest))
  return low, high


def factor_draws(
  num_records: Sequence[int],
  reference: np.ndarray,
  curves: np.ndarray,
  target: float,
) -> tuple[np.ndarray, np.ndarray]:
  """Bounds the label-efficiency factor in every draw.

  Args:
    num_records: [F] increasing.
    reference: [D, F] curves of the reference arm.
    curves: [D, F] of the other arm, same draws.
    target: fraction of the largest number of records at which the (monotone)
      reference sets the score to be reached; must be one of the grid.

  Returns:
    lowest and highest possible factor, both [D], in [0, inf].

  Raises:
    ValueError: if the target fraction is not on the grid (within 20 %: subsets
      are drawn by patient, so that their records vary).
  """
  position = _grid_position(num_records, target)
  reference = isotonic(reference)
  score = reference[:, position]
  ref_low, ref_high = records_needed(num_records, reference, score)
  arm_low, arm_high = records_needed(num_records, isotonic(curves), score)
  highest = np.divide(
    ref_high, arm_low, out=np.full_like(ref_high, np.inf), where=arm_low > 0
  )
  return ref_low / arm_high, highest


def _grid_position(num_records: Sequence[int], target: float) -> int:
  """Index of the grid point nearest to a fraction of the largest one."""
  ratio = np.asarray(num_records) / (target * num_records[-1])
  position = int(np.argmin(np.abs(np.log(ratio))))
  if not 0.8 < ratio[position] < 1.2:
    raise ValueError(
      f'target fraction {target} is not on the grid of labelled records '
      f'{list(num_records)}'
    )
  return position


def summarise(low: np.ndarray, high: np.ndarray) -> dict:
  """Sums up a factor that every draw knows within a range.

  Args:
    low: [D] lowest possible factor of each draw.
    high: [D] highest possible one.

  Returns:
    `median` with `bound` '=', '>=' or '<=' (a null median with bound 'none'
    says that the draws do not even bound it), `interval` [low, high], 95 %,
    null where open, and `shares` of the draws that are exact, bounded from
    below only, from above only, or not bounded.
  """
  floor, ceiling = np.median(low), np.median(high)
  if np.isclose(floor, ceiling, rtol=1e-9):
    median, bound = floor, '='
  elif floor > 0:
    median, bound = floor, '>='
  elif np.isfinite(ceiling):
    median, bound = ceiling, '<='
  else:
    median, bound = None, 'none'
  # 'lower' and 'higher' pick a draw: no interpolation towards infinity.
  left = np.quantile(low, 0.025, method='lower')
  right = np.quantile(high, 0.975, method='higher')
  below, above = low > 0, np.isfinite(high)
  exact = low == high
  return {
    'median': None if median is None else float(median),
    'bound': bound,
    'interval': [
      float(left) if left > 0 else None,
      float(right) if np.isfinite(right) else None,
    ],
    'shares': {
      'exact': float(np.mean(exact)),
      'lower_bound': float(np.mean(below & ~above)),
      'upper_bound': float(np.mean(~below & above)),
      'range': float(np.mean(below & above & ~exact)),
      'unbounded': float(np.mean(~below & ~above)),
    },
  }


def label_efficiency(
  arms: Mapping[str, np.ndarray],
  num_records: Sequence[int],
  labels: np.ndarray,
  patients: Sequence,
  class_names: Sequence[str],
  *,
  reference: str = 'scratch',
  targets: Sequence[float] = TARGETS,
  label_mask: np.ndarray | None = None,
  draws: int = bootstrap.DRAWS,
  seed: int = 0,
  margin: float = 0.0,
) -> dict:
  """Computes learning curves with bands, and the factor of every arm.

  Patients and seeds are crossed: a draw resamples the test patients and weighs
  the training seeds (`bootstrap.seed_weights`), which in every arm share their
  nested label subsets. Curves, differences and factors are of the same draws.

  Args:
    arms: arm -> test probabilities [F, S, N, K] for F label subsets, S seeds.
    num_records: [F] labelled training records, increasing.
    labels: [N, K] of the test set.
    patients: [N].
    class_names: K names.
    reference: the arm that others are compared with.
    targets: fractions of the largest subset at which the reference sets s*.
    label_mask: [N, K], 0 where a label was not annotated.
    draws: number of bootstrap draws.
    seed: int, of the bootstrap; the same for everything in one table.
    margin: of an equivalence test of macro differences; 0: no such test.

  Returns:
    `num_records`, `curves` (arm -> list over subsets of value, ci95, seed_sd;
    supported-macro AUROC), `factors` (arm -> target -> `summarise`),
    `differences` (arm -> list over subsets of value, ci95, p against the
    reference; p_holm over all arms and subsets; with a margin `equivalence`,
    see `bootstrap.equivalence`), `reference`, `num_labels`, `num_seeds`;
    for every supported label `curves_per_class` and `differences_per_class`
    (label -> arm -> the same; p_holm over all labels too), and
    `not_reportable` (any other label -> positive test patients).

  Raises:
    ValueError: if the reference is missing, the numbers of records do not
      increase, or no label has enough support.
  """
  num_records = [int(n) for n in num_records]
  if reference not in arms:
    raise ValueError(
      f'arm {reference!r} is missing; label efficiency is measured against it'
    )
  if len(num_records) < 2 or np.any(np.diff(num_records) <= 0):
    raise ValueError(f'numbers of records must increase, got {num_records}')
  support = metrics.support(labels, patients, label_mask)
  supported = support['supported']
  if not supported.any():
    raise ValueError('no label has 10 positive and 10 negative test patients')
  counts = bootstrap.patient_counts(patients, draws, seed)
  num_seeds = {np.shape(scores)[1] for scores in arms.values()}
  if len(num_seeds) != 1:
    raise ValueError(f'arms have different numbers of seeds: {num_seeds}')
  (num_seeds,) = num_seeds
  weights = bootstrap.seed_weights(num_seeds, draws, seed)
  points, crossed, label_points, label_crossed = {}, {}, {}, {}
  for name, scores in arms.items():
    if len(scores) != len(num_records):
      raise ValueError(
        f'arm {name} has {len(scores)} label subsets, not {len(num_records)}'
      )
    label_points[name], label_crossed[name] = _aurocs(
      scores, labels, patients, class_names, label_mask, supported, counts,
      weights,
    )  # [F, S, K], [F, D, K]  # fmt: skip
    points[name] = label_points[name].mean(axis=2)  # [F, S]
    crossed[name] = np.stack(
      [
        bootstrap.macro_draws(own.mean(axis=0), drawn.T)
        for own, drawn in zip(label_points[name], label_crossed[name])
      ]
    )  # [F, D]
  others = [name for name in arms if name != reference]
  differences = _differences(points, crossed, reference, margin)
  _correct([differences])
  per_class, changes = {}, {}
  for k, label in enumerate(np.asarray(class_names)[supported].tolist()):
    own = {name: values[..., k] for name, values in label_points.items()}
    drawn = {name: values[..., k] for name, values in label_crossed.items()}
    per_class[label] = _curves(own, drawn)
    changes[label] = _differences(own, drawn, reference)
  _correct(changes.values())
  return {
    'reference': reference,
    'num_records': num_records,
    'num_labels': int(supported.sum()),
    'num_seeds': num_seeds,
    'curves': _curves(points, crossed),
    'curves_per_class': per_class,
    'not_reportable': {
      name: int(count)
      for name, count, kept in zip(
        class_names, support['num_positive_patients'], supported
      )
      if not kept
    },
    'factors': {
      name: {
        str(target): summarise(
          *factor_draws(
            num_records, crossed[reference].T, crossed[name].T, target
          )
        )
        for target in targets
      }
      for name in others
    },
    'differences': differences,
    'differences_per_class': changes,
  }


def _aurocs(
  scores, labels, patients, class_names, label_mask, supported, counts, weights
) -> tuple[np.ndarray, np.ndarray]:
  """AUROC of one arm and each of K supported labels.

  Returns:
    Points [F, S, K] and draws [F, D, K], NaN where a draw lacks a class.
  """
  points, draws = [], []
  for subset in scores:  # [S, N, K]
    truth, subset, keep = metrics.check_inputs(
      labels, subset, patients, class_names, label_mask
    )
    cuts = np.full((len(subset), int(supported.sum())), np.nan)
    point, draw = bootstrap.label_draws(
      truth[:, supported], subset[:, :, supported], keep[:, supported], counts,
      cuts, weights,
    )  # fmt: skip
    points.append(point[:, 0])
    draws.append(draw[0].T)
  return np.stack(points), np.stack(draws)


def _curves(points, draws) -> dict:
  """Curve of every arm: points [F, S], draws [F, D]."""
  return {
    name: [_point(*pair) for pair in zip(points[name], draws[name])]
    for name in points
  }


def _point(points: np.ndarray, draws: np.ndarray) -> dict:
  """One point of a curve: points [S], draws [D] over patients and seeds."""
  entry = {
    'value': float(points.mean()),
    'ci95': bootstrap.interval(np.clip(draws, 0, 1)),
  }
  if len(points) > 1:
    entry |= {
      'seed_sd': float(points.std(ddof=1)),
      'num_seeds': len(points),
    }
  return entry


def _differences(points, draws, reference, margin: float = 0.0) -> dict:
  """Paired differences of every other arm to the reference, per subset."""
  table: dict[str, list] = {}
  for name in points:
    if name == reference:
      continue
    values = (points[name] - points[reference]).mean(axis=1)
    table[name] = []
    for value, change in zip(values, draws[name] - draws[reference]):
      change = np.clip(change, -1, 1)
      entry = bootstrap.difference(value, change)
      if margin:
        entry['equivalence'] = bootstrap.equivalence(change, margin)
      table[name].append(entry)
  return table


def _correct(differences: Iterable[dict]) -> None:
  """Adds Holm's p over all entries of some `_differences`."""
  entries = [
    entry for one in differences for row in one.values() for entry in row
  ]
  tests = [e['equivalence'] for e in entries if 'equivalence' in e]
  for family in (entries, tests):
    bootstrap.correct(dict(enumerate(family)))
