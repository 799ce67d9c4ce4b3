"""How much generated ECGs are like real ones, and unlike those they came from.

Distances of features of a frozen encoder (Frechet, kernel), precision, recall,
density and coverage by nearest neighbours, a classifier two-sample test, the
memorisation ratio, and what can be read off the tracings: rate, QRS, ST,
spectrum, Einthoven. NumPy throughout; a number between real
sets stands beside each, or it would say nothing (docs/evaluation.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import signal, stats

from ecgjax.ecg import beats, leads

NEIGHBOURS = 5
BAND = (0.5, 40.0)  # Hz
SUSPICIOUS = 0.9  # memorisation ratio
_REPEATS = 20  # subsamples of the larger of two sets
_FOLDS = 5


class Ecgs(NamedTuple):
  """A set of ECGs with their features and patients.

  Attributes:
    features: [N, D] of a frozen encoder.
    ecg: [N, L, 12] mV.
    patients: [N]; of a generated ECG, that of its first parent.
  """

  features: np.ndarray
  ecg: np.ndarray
  patients: np.ndarray


def standardise(reference: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
  """Features in units of the reference's standard deviation, [N, D] each."""
  mean, sd = reference.mean(axis=0), reference.std(axis=0)
  sd = np.where(sd < 1e-6, 1.0, sd)
  return [(x - mean) / sd for x in (reference, *others)]


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
  """|m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)) of two Gaussians.

  Args:
    x: [N, D].
    y: [M, D].
  """
  sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
  values, vectors = np.linalg.eigh(sx)
  root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
  # (S_x S_y) and S_x^(1/2) S_y S_x^(1/2) have the same eigenvalues.
  product = np.linalg.eigvalsh(root @ sy @ root)
  shift = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
  cross = np.sqrt(np.maximum(product, 0)).sum()
  return float(shift + np.trace(sx) + np.trace(sy) - 2 * cross)


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
  """Unbiased squared MMD with the kernel (x y / D + 1)^3 (KID).

  It may be negative where the two distributions are the same.

  Args:
    x: [N, D].
    y: [M, D].
  """
  kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
  inside = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
  between = kernel(x, y).mean()
  return float(inside(kernel(x, x)) + inside(kernel(y, y)) - 2 * between)


def feature_distance(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
  """`kernel`, and `frechet` where both sets have 10 rows per dimension."""
  found = {'kernel': kernel_distance(x, y)}
  if min(len(x), len(y)) >= 10 * x.shape[1]:
    found['frechet'] = frechet_distance(x, y)
  return found


def manifold(
  real: np.ndarray, fake: np.ndarray, k: int = NEIGHBOURS
) -> dict[str, float]:
  """How two clouds of features cover each other.

  Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem
  et al. 2020).

  Args:
    real: [N, D].
    fake: [M, D].
    k: nearest neighbour whose distance is the radius of a ball.
  """

  def radii(x):
    return np.sort(_distances(x, x), axis=1)[:, min(k, len(x) - 1)]

  between = _distances(fake, real)  # [M, N]
  inside = between <= radii(real)
  return {
    'precision': float(inside.any(axis=1).mean()),
    'recall': float((between.T <= radii(fake)).any(axis=1).mean()),
    'density': float(inside.sum(axis=1).mean() / k),
    'coverage': float(inside.any(axis=0).mean()),
  }


def two_sample_test(
  real: Ecgs, fake: Ecgs, *, permutations: int = 200, seed: int = 0
) -> dict[str, float]:
  """Tests whether a linear classifier tells generated from real ECGs.

  Balanced accuracy of a logistic regression, cross-validated so that no patient
  is on both sides; p by permuting real and generated among the patients.

  Args:
    real, fake: of patients that are not the same, or not related; every patient
      is either real or a parent's.
    permutations: the smallest p is 1 / (permutations + 1).
    seed: int, of the folds and the permutations.

  Returns:
    `accuracy`, `discriminative_score` (|accuracy - .5|) and `p`.
  """
  x = np.concatenate([real.features, fake.features])
  names = [f'r{p}' for p in real.patients] + [f'f{p}' for p in fake.patients]
  _, group = np.unique(names, return_inverse=True)
  truth = np.repeat([0, 1], [len(real.features), len(fake.features)])
  label = np.zeros(group.max() + 1, int)
  label[group] = truth  # of each patient
  rng = np.random.Generator(np.random.Philox(seed))
  accuracy = _cross_validated(x, label[group], group, label, rng)
  shuffled = []
  for _ in range(permutations):
    other = rng.permutation(label)
    shuffled.append(_cross_validated(x, other[group], group, other, rng))
  higher = np.sum(np.array(shuffled) >= accuracy)
  return {
    'accuracy': accuracy,
    'discriminative_score': abs(accuracy - 0.5),
    'p': float((higher + 1) / (permutations + 1)),
  }


def _cross_validated(x, y, group, label, rng) -> float:
  """Balanced accuracy over folds of patients, stratified by their label."""
  fold = np.empty(len(label), int)
  for side in (0, 1):
    members = rng.permutation(np.flatnonzero(label == side))
    fold[members] = np.arange(len(members)) % _FOLDS
  called = np.zeros(len(y), bool)
  for number in range(_FOLDS):
    held = fold[group] == number
    if held.any() and len(np.unique(y[~held])) == 2:
      called[held] = _linear_calls(x[~held], y[~held], x[held])
  return float(np.mean([np.mean(called[y == side] == side) for side in (0, 1)]))


def _linear_calls(x, y, new) -> np.ndarray:
  """Ridge classifier with classes of equal weight: fast, without a solver."""
  weight = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
  mean = np.average(x, axis=0, weights=weight)
  centred = x - mean
  penalty = len(x) * np.eye(x.shape[1])
  slope = np.linalg.solve(
    (centred.T * weight) @ centred + penalty,
    (centred.T * weight) @ (2.0 * y - 1),
  )
  return (new - mean) @ slope > 0


def memorisation(
  fake: np.ndarray,
  train: np.ndarray,
  held_out: np.ndarray,
  parents: np.ndarray | None = None,
  *,
  seed: int = 0,
) -> dict[str, dict[str, float]]:
  """Compares the distance to training ECGs with that to ECGs of strangers.

  The larger of the two real sets is cut to the size of the smaller one, since
  the nearest of many is nearer; means over 20 such cuts.

  Args:
    fake: [S, D] features or median beats.
    train: [N, D].
    held_out: [M, D].
    parents: [S, P] rows of `train`, -1 for none.
    seed: int, of the random cuts into two halves.

  Returns:
    `with_parents` and `without_parents` (a child's own parents left out) ->
    `ratio`: median d1(s, train) over median d1(s, held-out), 1 is expected and
    below .9 suspicious; `near_share`: share of s nearer to the training set
    than 1 % of the held-out ECGs are. One entry without parents.
  """
  if parents is None:
    parents = np.full((len(fake), 1), -1)
  to_train, to_held = _distances(fake, train), _distances(fake, held_out)
  real = _distances(held_out, train)
  child, place = np.nonzero(parents >= 0)
  own = np.zeros(to_train.shape, bool)
  own[child, parents[child, place]] = True
  size = min(len(train), len(held_out))
  rng = np.random.Generator(np.random.Philox(seed))
  kinds = ('with_parents', 'without_parents') if own.any() else ('all',)
  rows: dict[str, list] = {kind: [] for kind in kinds}
  for _ in range(_REPEATS):
    a = np.isin(np.arange(len(train)), rng.permutation(len(train))[:size])
    b = rng.permutation(len(held_out))[:size]
    cut = np.quantile(real[:, a].min(axis=1), 0.01)
    away = to_held[:, b].min(axis=1)
    for kind in kinds:
      use = (a & ~own) if kind == 'without_parents' else (a | own)
      near = np.where(use, to_train, np.inf).min(axis=1)
      ratio = np.median(near) / max(np.median(away), 1e-12)
      rows[kind].append((ratio, np.mean(near < cut)))
  return {
    kind: dict(zip(('ratio', 'near_share'), map(float, np.mean(found, axis=0))))
    for kind, found in rows.items()
  }


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Euclidean distances, [N, M] float64; exactly zero on equal rows."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  square = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
  scale = 1e-12 * ((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1))
  return np.sqrt(np.where(square <= scale, 0.0, square))


def measure(ecg: np.ndarray, rate: float) -> dict[str, np.ndarray]:
  """Measures rate, QRS, ST and R of every record.

  Args:
    ecg: [N, L, 12] mV.
    rate: Hz.

  Returns:
    name -> [N], NaN where it cannot be read: `heart_rate` (1/min), `rr_sd_ms`,
    `qrs_ms`, `r_mv` (largest lead), `st_uv` (mean of absolute values).
  """
  names = ('heart_rate', 'rr_sd_ms', 'qrs_ms', 'r_mv', 'st_uv')
  found = np.full((len(ecg), len(names)), np.nan)
  for row, tracing in enumerate(ecg):
    peaks = beats.r_peaks(tracing, rate)
    if len(peaks) >= 3:
      intervals = np.diff(peaks) / rate
      found[row, :2] = 60 / np.median(intervals), 1000 * intervals.std()
    beat = beats.median_beat(tracing, rate, peaks)
    if beat is not None:
      found[row, 2:] = (
        beat.qrs_ms,
        beat.r_mv.max(),
        1000 * np.abs(beat.st_mv).mean(),
      )
  return dict(zip(names, found.T))


def compare_measures(real: dict, fake: dict) -> dict[str, float]:
  """Wasserstein distance of each histogram, in the measure's own unit."""
  found = {}
  for name, values in real.items():
    ours, theirs = (v[~np.isnan(v)] for v in (values, fake[name]))
    if len(ours) and len(theirs):
      found[name] = float(stats.wasserstein_distance(ours, theirs))
  return found


def log_spectrum(ecg: np.ndarray, rate: float) -> np.ndarray:
  """Mean power spectrum in `BAND`.

  Args:
    ecg: [N, L, C] mV.
    rate: Hz.

  Returns:
    [F, C] dB re 1 uV^2/Hz.
  """
  window = min(ecg.shape[1], round(4 * rate))
  hertz, density = signal.welch(1000 * ecg, rate, nperseg=window, axis=1)
  inside = (hertz >= BAND[0]) & (hertz <= BAND[1])
  return 10 * np.log10(density[:, inside].mean(axis=0) + 1e-6)


def einthoven_uv(ecg: np.ndarray) -> float:
  """Largest violation of the limb leads' relations, uV."""
  ecg = np.asarray(ecg, np.float64)
  return float(1000 * leads.limb_residual(np, ecg).max())


def median_beats(ecg: np.ndarray, rate: float) -> np.ndarray:
  """Median beats aligned at R, as rows.

  Args:
    ecg: [N, L, C] mV.
    rate: Hz.

  Returns:
    [N, D] at 100 Hz, all leads one after the other; NaN without two beats.
  """
  forms = []
  for tracing in ecg:
    form = beats.median_form(tracing, rate, beats.r_peaks(tracing, rate))
    forms.append(None if form is None else form[::10].ravel())
  width = next((len(form) for form in forms if form is not None), 1)
  empty = np.full(width, np.nan)
  return np.stack([empty if form is None else form for form in forms])


def summarise(
  fake: Ecgs,
  train: Ecgs,
  held_out: Ecgs,
  rate: float,
  parents: np.ndarray | None = None,
) -> dict:
  """Computes all of this module for one generator.

  Args:
    fake: generated ECGs.
    train: real ECGs of the training fold, of the classes that were generated.
    held_out: real ECGs of other patients, of the same classes.
    rate: Hz.
    parents: [S, P] rows of `train`, -1 for none.

  Returns:
    JSON-able figures; `real` holds the same for train against held-out.
  """
  reference, real, ours = standardise(
    train.features, held_out.features, fake.features
  )
  measures = [measure(x.ecg, rate) for x in (train, held_out, fake)]
  spectra = [log_spectrum(x.ecg, rate) for x in (train, held_out, fake)]
  forms = [median_beats(x.ecg, rate) for x in (fake, train, held_out)]
  usable = [~np.isnan(form).any(axis=1) for form in forms]
  found = {
    'num_generated': len(fake.ecg),
    'features': feature_distance(ours, real) | manifold(real, ours),
    'two_sample': two_sample_test(
      held_out._replace(features=real), fake._replace(features=ours)
    ),
    'measures': compare_measures(measures[1], measures[2]),
    'spectrum_db': float(np.abs(spectra[2] - spectra[1]).mean()),
    'einthoven_uv': einthoven_uv(fake.ecg),
    'memorisation': memorisation(ours, reference, real, parents),
    'real': {
      'features': feature_distance(reference, real) | manifold(real, reference),
      'measures': compare_measures(measures[1], measures[0]),
      'spectrum_db': float(np.abs(spectra[0] - spectra[1]).mean()),
      'einthoven_uv': einthoven_uv(held_out.ecg),
    },
  }
  if all(rows.any() for rows in usable):
    mine, theirs, others = (form[rows] for form, rows in zip(forms, usable))
    if parents is not None:
      parents = _renumber(parents[usable[0]], usable[1])
    found['memorisation_of_beats'] = memorisation(mine, theirs, others, parents)
  return found


def _renumber(parents: np.ndarray, kept: np.ndarray) -> np.ndarray:
  """Rows of the whole training set -> rows among those kept, else -1."""
  place = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
  return place[parents]


def flagged(memorised: Sequence[dict]) -> bool:
  """True if any memorisation ratio without own parents is suspicious."""
  return any(
    entry['ratio'] < SUSPICIOUS
    for found in memorised
    for kind, entry in found.items()
    if kind != 'with_parents'
  )
