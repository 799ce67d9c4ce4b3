"""Paired bootstrap over patients and seeds (docs/evaluation.md, Intervals).

Patients are drawn with replacement; a draw is a vector of integer counts, one
per patient, which weigh the records. Training seeds are crossed with patients:
a draw also weighs the seeds, see `seed_weights`. The same counts and weights
serve every arm, label and metric of a table, so any difference is paired.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ecgjax.metrics import metrics

DRAWS = 2000
# Records x draws handled at once: the working set stays in the CPU cache.
_CHUNK = 1 << 17


def patient_counts(
  patients: ArrayLike, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
  """Counts how often each record's patient was drawn, per draw.

  A pure function of the set of patients and the seed: the order of the
  records plays no role, and records of one patient share their counts.

  Args:
    patients: [N] patient of each record.
    draws: number of resamples.
    seed: int, of NumPy's PCG64 generator.

  Returns:
    [N, draws] int16.
  """
  unique, index = np.unique(np.asarray(patients), return_inverse=True)
  generator = np.random.default_rng(seed)
  size = len(unique)
  counts = np.empty((size, draws), np.int16)
  for draw in range(draws):
    drawn = generator.integers(0, size, size, dtype=np.int64)
    counts[:, draw] = np.bincount(drawn, minlength=size)
  return counts[index.reshape(-1)]


def seed_weights(num_seeds: int, draws: int = DRAWS, seed: int = 0):
  """Weighs the training seeds in every draw; weights of a draw sum to one.

  The weighted mean of S figures has, over the draws, Student's t distribution
  with S - 1 degrees of freedom about their mean, with their standard error as
  scale: the interval for the mean of ALL seeds where figures of seeds are
  normal. Seeds drawn with replacement would not do: three of them give an
  interval that never leaves their own range, and that misses the mean one time
  in four. Weights may be negative. One seed has the weight one, and
  says nothing about other seeds.

  Args:
    num_seeds: S.
    draws: number of draws, D.
    seed: int, of NumPy's PCG64 generator.

  Returns:
    [D, S]; a pure function of its arguments.
  """
  if num_seeds == 1:
    return np.ones((draws, 1))
  generator = np.random.default_rng([seed, 1])
  normal = generator.standard_normal((draws, num_seeds))
  normal -= normal.mean(axis=1, keepdims=True)
  chi_square = generator.chisquare(num_seeds - 1, (draws, 1))
  return 1 / num_seeds + normal / np.sqrt(num_seeds * chi_square)


def label_draws(
  labels: np.ndarray,
  scores: np.ndarray,
  keep: np.ndarray,
  counts: np.ndarray,
  thresholds: np.ndarray,
  weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the metrics of one arm: of each seed, and of every draw.

  Args:
    labels: [N, K] bool.
    scores: [S, N, K] probabilities of S training seeds.
    keep: [N, K] bool, False where a label was not annotated.
    counts: [N, D] from `patient_counts`.
    thresholds: [S, K] from validation; NaN where there is none.
    weights: [D, S] from `seed_weights`.

  Returns:
    points [S, M, K] and draws [M, K, D], M = len(metrics.METRICS), the weighted
    mean over seeds in each draw; NaN where a label lacks one of the classes, or
    a seed the threshold.
  """
  seeds, _, classes = scores.shape
  shape = (len(metrics.METRICS), classes)
  points = np.empty((seeds, *shape))
  draws = np.zeros((*shape, counts.shape[1]))
  for k in range(classes):
    rows = keep[:, k]
    positive, counts_k = labels[rows, k], counts[rows]
    ones = np.ones((len(positive), 1))
    for s in range(seeds):
      column, cut = scores[s, rows, k], thresholds[s, k]
      points[s, :, k] = metrics.label_metrics(positive, column, ones, cut)[:, 0]
      width = max(1, _CHUNK // max(1, len(positive)))
      for start in range(0, counts.shape[1], width):
        part = slice(start, start + width)
        draws[:, k, part] += weights[part, s] * metrics.label_metrics(
          positive, column, counts_k[:, part].astype(np.float64), cut
        )
  return points, draws


def macro_draws(points: np.ndarray, draws: np.ndarray) -> np.ndarray:
  """Averages over a fixed set of labels in each draw.

  A draw that lacks a class of some label says nothing about that label, which
  then enters with its point estimate: leaving it out would change the label
  set from draw to draw, and the macro mean with it. For supported labels this
  happens about once in 20,000 draws.

  Args:
    points: [K] defined point estimates.
    draws: [K, D], NaN where the draw lacks a class of the label.

  Returns:
    [D].
  """
  return np.where(np.isnan(draws), points[:, None], draws).mean(axis=0)


def interval(draws: np.ndarray, level: float = 0.95) -> list[float]:
  """Returns [low, high], percentiles of the draws that are defined.

  Raises:
    ValueError: if no draw is defined.
  """
  defined = draws[~np.isnan(draws)]
  if not len(defined):
    raise ValueError('no bootstrap draw holds both classes of the label')
  tail = (1 - level) / 2
  return [float(q) for q in np.quantile(defined, (tail, 1 - tail))]


def p_value(differences: np.ndarray) -> float:
  """Two-sided bootstrap p of a paired difference.

  p = 2 min(#(d <= 0) + 1, #(d >= 0) + 1) / (draws + 1), at most 1.

  Args:
    differences: [D] draws of the difference; undefined draws are NaN.
  """
  defined = differences[~np.isnan(differences)]
  smaller = min(np.sum(defined <= 0), np.sum(defined >= 0)) + 1
  return float(min(1.0, 2 * smaller / (len(defined) + 1)))


def equivalence(differences: np.ndarray, margin: float) -> dict:
  """Tests whether a difference lies within +-margin (two one-sided tests).

  "No difference" is claimed by this test alone; a large p of `p_value` says
  only that none was found.

  Args:
    differences: [D] draws of the difference; undefined draws are NaN.
    margin: above 0, stated before the data were seen.

  Returns:
    {'margin', 'ci90', 'p'}; p < .05 goes with a 90 % interval inside the
    margin, up to the one draw that p counts in addition.

  Raises:
    ValueError: if the margin is not above 0.
  """
  if not margin > 0:
    raise ValueError(f'margin is {margin}; an equivalence test needs one > 0')
  defined = differences[~np.isnan(differences)]
  outside = max(np.sum(defined <= -margin), np.sum(defined >= margin)) + 1
  return {
    'margin': float(margin),
    'ci90': interval(differences, 0.9),
    'p': float(outside / (len(defined) + 1)),
  }


def holm(p_values: Mapping) -> dict:
  """Adjusts the p values of one family of comparisons (Holm 1979).

  Args:
    p_values: comparison -> p; the family is all of them.

  Returns:
    comparison -> adjusted p, in the order given.

  Raises:
    ValueError: if a p is NaN or no probability; names the comparison. What was
      not tested must be left out by the caller, who knows why.
  """
  for name, p in p_values.items():
    if not 0 <= p <= 1:
      raise ValueError(f'holm: p of {name} is {p}; leave it out of the family')
  ordered = sorted(p_values, key=lambda name: p_values[name])
  adjusted, running = {}, 0.0
  for rank, name in enumerate(ordered):
    running = max(running, min(1.0, (len(ordered) - rank) * p_values[name]))
    adjusted[name] = running
  return {name: adjusted[name] for name in p_values}


def correct(family: Mapping) -> None:
  """Adds Holm's p to every entry of one family of comparisons, in place.

  Args:
    family: comparison -> {'p', ...}; each entry gets 'p_holm' and
      'family_size'.

  Raises:
    ValueError: as `holm`.
  """
  adjusted = holm({name: entry['p'] for name, entry in family.items()})
  for name, entry in family.items():
    entry |= {'p_holm': adjusted[name], 'family_size': len(family)}


def difference(value: float, draws: np.ndarray) -> dict:
  """{'value', 'ci95', 'p'} of a paired difference and its [D] draws."""
  return {
    'value': float(value),
    'ci95': interval(draws),
    'p': p_value(draws),
  }


def mean_with_interval(
  values: ArrayLike, patients: ArrayLike, draws: int = DRAWS, seed: int = 0
) -> dict:
  """Mean of a per-record quantity (a hit, an error) with its interval.

  Args:
    values: [N] one finite number per record, or [S, N] for S training seeds.
    patients: [N].
    draws: number of resamples.
    seed: int, of the bootstrap; the same for everything in one table.

  Returns:
    {'value', 'ci95'}, over patients and seeds; with several seeds also
    'seed_sd' and 'num_seeds'.
  """
  by_seed = np.atleast_2d(np.asarray(values, np.float64))
  resampled = _mean_draws(by_seed, patients, draws, seed)
  # A mean lies in the range of its values; a weighted one need not.
  resampled = np.clip(resampled, by_seed.min(), by_seed.max())
  entry = {'value': float(np.mean(by_seed)), 'ci95': interval(resampled)}
  if len(by_seed) > 1:
    entry['seed_sd'] = float(by_seed.mean(axis=1).std(ddof=1))
    entry['num_seeds'] = len(by_seed)
  return entry


def paired_difference(
  values: ArrayLike,
  others: ArrayLike,
  patients: ArrayLike,
  draws: int = DRAWS,
  seed: int = 0,
) -> dict:
  """Mean of `values` minus mean of `others`, both of the same N records.

  Args:
    values, others: [N], or [S, N] for S training seeds.
    patients: [N].
    draws: number of resamples.
    seed: int, of the bootstrap; the same for everything in one table.

  Returns:
    {'value', 'ci95', 'p'}, over patients and seeds.
  """
  change = np.atleast_2d(np.subtract(values, others, dtype=np.float64))
  resampled = _mean_draws(change, patients, draws, seed)
  return difference(change.mean(), resampled)


def _mean_draws(values, patients, draws, seed) -> np.ndarray:
  """[D] weighted means over seeds of the means over the records of a draw."""
  counts = patient_counts(patients, draws, seed).astype(np.float64)  # [N, D]
  by_seed = values @ counts / counts.sum(axis=0)  # [S, D]
  weights = seed_weights(len(values), draws, seed)
  return np.einsum('sd,ds->d', by_seed, weights)
