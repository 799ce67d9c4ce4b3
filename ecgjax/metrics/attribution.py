"""Where a classifier looks: integrated gradients, and how much of it is right.

Integrated gradients (Sundararajan, Taly and Yan 2017) of one class's logit
with respect to the normalised ECG, from the flat line to the recording:

  a = x * mean over alpha in (0, 1) of d logit(alpha x) / d(alpha x)

They add up to logit(x) - logit(0) (completeness), so that they say what the
logit is made of. Measured is the share of |a| inside the waves that define the
class (`delineation.DEFINING`), against what would be there without looking:

  time       the share of the samples that those waves take
  amplitude  the share of |x| inside them; a model that weighs every sample
             alike has this share, for QRS is the largest part of any ECG
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg import delineation
from ecgjax.metrics import bootstrap

NUM_STEPS = 16
BATCH_SIZE = 32
MIN_RECORDS = 5  # below, a class is not measured


def make_integrated_gradients(
  logits: Callable, num_steps: int = NUM_STEPS
) -> Callable:
  """Makes the attribution function, compiled once per shape.

  Args:
    logits: (variables, ecg [B, L, C]) -> [B, K].
    num_steps: points of the midpoint rule on the straight path.

  Returns:
    (variables, ecg [B, L, C], classes [B] int) -> attributions [B, L, C], and
    logit(ecg) - logit(0) [B], which they add up to as `num_steps` grows.
  """

  @jax.jit
  def attribute(variables, ecg, classes):
    def chosen(x):
      return jnp.take_along_axis(
        logits(variables, x), classes[:, None], axis=1
      )[:, 0]

    gradient = jax.grad(lambda x: chosen(x).sum())
    add = lambda m, total: total + gradient((m + 0.5) / num_steps * ecg)
    total = jax.lax.fori_loop(0, num_steps, add, jnp.zeros_like(ecg))
    return ecg * total / num_steps, chosen(ecg) - chosen(jnp.zeros_like(ecg))

  return attribute


class Examples(NamedTuple):
  """Recordings whose waves are known, with their labels.

  Attributes:
    name: e.g. 'ludb'.
    ecg: [N, L, C] normalised, as the model sees it.
    patients: [N].
    labels: N sets of class names.
    known: N `delineation.Waves`.
  """

  name: str
  ecg: np.ndarray
  patients: np.ndarray
  labels: tuple[frozenset[str], ...]
  known: tuple[delineation.Waves, ...]


def share_inside(weight, inside, span) -> np.ndarray:
  """Share [B] of a non-negative weight [B, L, C] that lies in `inside`.

  Args:
    weight: what is shared out.
    inside: [B, L, C] bool.
    span: [B, L, C] bool; outside of it nothing counts.

  Returns:
    [B]; nan where there is no weight within the span.
  """
  weight = np.asarray(weight, np.float64) * span
  total = weight.sum(axis=(1, 2))
  part = (weight * inside).sum(axis=(1, 2))
  return np.divide(part, total, out=np.full(len(part), np.nan), where=total > 0)


def measurable(class_name: str, known: delineation.Waves) -> bool:
  """True if the waves that define a class would have been marked."""
  kinds = delineation.DEFINING.get(class_name, ())
  return bool(kinds) and set(kinds) <= set(known.kinds)


def shares(
  models: Mapping[str, Callable], examples: Examples, contract, class_names
) -> dict:
  """Share of the attribution inside the defining waves, recording by recording.

  Every recording counts once for each of its classes that waves define.

  Args:
    models: name -> (ecg [B, L, C], classes [B]) -> attributions, as from
      `make_integrated_gradients` with its variables.
    examples: the recordings.
    contract: their `InputContract` (rate, length and leads are used).
    class_names: the K classes, in the order of the logits.

  Returns:
    JSON-able: `num_records`; `completeness_gap` (model -> 95th percentile over
    the recordings of |sum of attributions - logit change| / |logit change|);
    `shares`, class -> list of {'row', 'patient', 'time', 'amplitude', and one
    for each model}.
  """
  pairs = [
    (row, k)
    for k, name in enumerate(class_names)
    for row, (labels, known) in enumerate(zip(examples.labels, examples.known))
    if name in labels and measurable(name, known)
  ]
  found: dict[str, list] = {name: [] for name in class_names}
  gaps: dict[str, list] = {name: [] for name in models}
  for start in range(0, len(pairs), BATCH_SIZE):
    chunk = pairs[start : start + BATCH_SIZE]
    filled = chunk + chunk[:1] * (BATCH_SIZE - len(chunk))
    rows, classes = (np.array(column) for column in zip(*filled))
    marked = [
      delineation.masks(
        examples.known[row], delineation.DEFINING[class_names[k]],
        contract.leads, contract.rate, contract.length,
      )
      for row, k in chunk
    ]  # fmt: skip
    inside, span = (np.stack(part) for part in zip(*marked))
    ecg = examples.ecg[rows]
    size = len(chunk)
    parts = {
      'time': share_inside(np.ones_like(span), inside, span),
      'amplitude': share_inside(np.abs(ecg[:size]), inside, span),
    }
    for name, attribute in models.items():
      values, change = (np.asarray(x)[:size] for x in attribute(ecg, classes))
      parts[name] = share_inside(np.abs(values), inside, span)
      gaps[name] += list(
        np.abs(values.sum(axis=(1, 2)) - change)
        / np.maximum(np.abs(change), 1e-6)
      )
    for at, (row, k) in enumerate(chunk):
      one = {name: float(part[at]) for name, part in parts.items()}
      # A recording without such a wave (no P in fibrillation) says nothing.
      if inside[at].any() and not np.isnan(list(one.values())).any():
        who = {'row': row, 'patient': int(examples.patients[row])}
        found[class_names[k]].append(who | one)
  return {
    'num_records': len(examples.ecg),
    'completeness_gap': {
      name: float(np.quantile(gap, 0.95)) for name, gap in gaps.items() if gap
    },
    'shares': found,
  }


def measure(
  runs: Sequence[Mapping], models: Sequence[str], draws: int = bootstrap.DRAWS
) -> dict:
  """Mean shares per class and over all of them, with intervals.

  Args:
    runs: from `shares` on the same recordings, one for each training seed;
      intervals are over patients and seeds.
    models: names; the first is the one under test, differences are the first
      minus each other.
    draws: number of bootstrap draws over patients.

  Returns:
    JSON-able: `num_records`, `classes` and `all` (see `_entry`), `skipped`
    (class -> why), `completeness_gap` (model -> the largest of the runs).
  """
  found = {
    name: _over_runs([run['shares'][name] for run in runs])
    for name in runs[0]['shares']
  }
  classes = {
    name: _entry(models, rows, draws, delineation.DEFINING[name])
    for name, rows in found.items()
    if len(rows) >= MIN_RECORDS
  }
  everything = [row for name in classes for row in found[name]]
  result = {
    'num_records': runs[0]['num_records'],
    'classes': classes,
    'skipped': {
      name: f'{len(rows)} recordings with marked waves'
      if name in delineation.DEFINING
      else 'no wave defines it'
      for name, rows in found.items()
      if name not in classes
    },
    'completeness_gap': {
      name: max(run['completeness_gap'][name] for run in runs)
      for name in runs[0]['completeness_gap']
    },
  }
  if everything:
    result['all'] = _entry(models, everything, draws)
  return result


def _over_runs(runs: Sequence[Sequence[Mapping]]) -> list[dict]:
  """For each recording that has a share in every run: name -> [S] values."""
  by_row = [{one['row']: one for one in run} for run in runs]
  common = set.intersection(*(set(rows) for rows in by_row))
  return [
    {
      name: np.array([rows[one['row']][name] for rows in by_row])
      for name in one
    }
    for one in runs[0]
    if one['row'] in common
  ]


def _entry(models, rows, draws: int, kinds=()) -> dict:
  """Mean shares with intervals.

  Args:
    models: names, the one under test first.
    rows: share name -> [S] values, and `patient`, of each recording.
    draws: number of bootstrap draws over patients.
    kinds: the defining waves.

  Returns:
    `num_records`, `waves`, `attribution`, `time`, `amplitude`, the paired
    differences `minus_time` and `minus_amplitude`, and for each other model
    its share and the difference to it, `minus_<model>`.
  """
  column = lambda name: np.stack([one[name] for one in rows], axis=1)  # [S, N]
  patients = column('patient')[0]
  mean = lambda values: bootstrap.mean_with_interval(values, patients, draws)
  first, *others = models
  entry = {
    'num_records': len(rows),
    'waves': list(kinds),
    'attribution': mean(column(first)),
  }
  for name in ('time', 'amplitude', *others):
    entry[name] = mean(column(name))
    entry[f'minus_{name}'] = mean(column(first) - column(name))
  return entry
