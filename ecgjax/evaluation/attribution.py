"""Where a classifier looks: integrated gradients, and how much of it is right.

Integrated gradients (Sundararajan, Taly and Yan 2017) of one class's logit
with respect to the normalised ECG, from the flat line to the recording:

  a = x * mean over alpha in (0, 1) of d logit(alpha x) / d(alpha x)

They add up to logit(x) - logit(0) (completeness), so that they say what the
logit is made of. Measured is the share of |a| inside the waves that define the
class (`waves.DEFINING`), against what would be there without looking:

  time       the share of the samples that those waves take
  amplitude  the share of |x| inside them; a model that weighs every sample
             alike has this share, for QRS is the largest part of any ECG
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.evaluation import bootstrap, report, tables, waves

NUM_STEPS = 32
BATCH_SIZE = 32
MIN_RECORDS = 5  # below, a class is not measured


def make_integrated_gradients(
  logits: Callable, num_steps: int = NUM_STEPS
) -> Callable:
  """Makes the attribution function, compiled once per shape.

  Args:
    logits: (variables, ecg [B, L, C]) -> [B, K].
    num_steps: of the midpoint rule on the straight path.

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
  """Recordings with known waves.

  Attributes:
    name: e.g. 'ludb'.
    ecg: [N, L, C] normalised, as the model sees it.
    patients: [N].
    labels: N sets of class names.
    known: N `waves.Waves`.
  """

  name: str
  ecg: np.ndarray
  patients: np.ndarray
  labels: tuple[frozenset[str], ...]
  known: tuple[waves.Waves, ...]


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


def measurable(class_name: str, known: waves.Waves) -> bool:
  """Whether the waves that define a class would have been marked."""
  kinds = waves.DEFINING.get(class_name, ())
  return bool(kinds) and set(kinds) <= set(known.kinds)


def measure(
  models: Mapping[str, Callable],
  examples: Examples,
  contract,
  class_names,
  draws: int = bootstrap.DRAWS,
) -> dict:
  """Shares inside the defining waves, per class and over all of them.

  Every recording counts once for each of its classes that waves define.

  Args:
    models: name -> (ecg [B, L, C], classes [B]) -> attributions, as from
      `make_integrated_gradients` with its variables; the first is the one
      under test, differences are the first minus each other.
    examples: the recordings.
    contract: their `InputContract` (rate, length and leads are used).
    class_names: of the classifier, K.
    draws: of the patient bootstrap.

  Returns:
    JSON-able: `num_records`, `classes` and `all` (see `_entry`), `skipped`
    (class -> why), `completeness_gap` (model -> 95th percentile over the
    recordings of |sum of attributions - logit change| / |logit change|).
  """
  pairs = [
    (row, k)
    for k, name in enumerate(class_names)
    for row, (labels, known) in enumerate(zip(examples.labels, examples.known))
    if name in labels and measurable(name, known)
  ]
  found = {name: [] for name in class_names}
  gaps = {name: [] for name in models}
  for start in range(0, len(pairs), BATCH_SIZE):
    chunk = pairs[start : start + BATCH_SIZE]
    filled = chunk + chunk[:1] * (BATCH_SIZE - len(chunk))
    rows, classes = (np.array(column) for column in zip(*filled))
    marked = [
      waves.masks(
        examples.known[row], waves.DEFINING[class_names[k]],
        contract.leads, contract.rate, contract.length,
      )
      for row, k in chunk
    ]  # fmt: skip
    inside, span = (np.stack(part) for part in zip(*marked))
    ecg = examples.ecg[rows]
    size = len(chunk)
    shares = {
      'time': share_inside(np.ones_like(span), inside, span),
      'amplitude': share_inside(np.abs(ecg[:size]), inside, span),
    }
    for name, attribute in models.items():
      values, change = (np.asarray(x)[:size] for x in attribute(ecg, classes))
      shares[name] = share_inside(np.abs(values), inside, span)
      gaps[name] += list(
        np.abs(values.sum(axis=(1, 2)) - change)
        / np.maximum(np.abs(change), 1e-6)
      )
    for at, (row, k) in enumerate(chunk):
      one = {name: share[at] for name, share in shares.items()}
      # A recording without such a wave (no P in fibrillation) says nothing.
      if inside[at].any() and not np.isnan(list(one.values())).any():
        found[class_names[k]].append((examples.patients[row], one))
  classes = {
    name: _entry(list(models), rows, draws, waves.DEFINING[name])
    for name, rows in found.items()
    if len(rows) >= MIN_RECORDS
  }
  everything = [row for name in classes for row in found[name]]
  result = {
    'num_records': len(examples.ecg),
    'classes': classes,
    'skipped': {
      name: f'{len(rows)} recordings with marked waves'
      if name in waves.DEFINING
      else 'no wave defines it'
      for name, rows in found.items()
      if name not in classes
    },
    'completeness_gap': {
      name: float(np.quantile(gap, 0.95)) for name, gap in gaps.items() if gap
    },
  }
  if everything:
    result['all'] = _entry(list(models), everything, draws)
  return result


def _entry(models, rows, draws: int, kinds=()) -> dict:
  """Mean shares with intervals.

  Args:
    models: names, the one under test first.
    rows: (patient, {share name: value}) of each recording.
    draws: of the patient bootstrap.
    kinds: the defining waves.

  Returns:
    `num_records`, `waves`, `attribution`, `time`, `amplitude`, the paired
    differences `minus_time` and `minus_amplitude`, and for each other model
    its share and the difference to it, `minus_<model>`.
  """
  patients = [patient for patient, _ in rows]
  column = lambda name: np.array([one[name] for _, one in rows])
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


def section(
  part: Mapping[str, Mapping], titles: Mapping[str, str], pictures
) -> report.Section:
  """Tables of the shares, and the plots.

  Args:
    part: name of the examples -> from `measure`.
    titles: the same names -> what they are, for the captions.
    pictures: `report.Picture`s with attributions.
  """
  parts = []
  for name, measured in part.items():
    entries = dict(measured['classes'])
    if 'all' in measured:
      entries['all'] = measured['all']
    if not entries:
      parts.append(f'{titles[name]}: no class could be measured.')
      continue
    shares = [
      key for key in next(iter(entries.values()))
      if key not in ('num_records', 'waves')
    ]  # fmt: skip
    rows = [
      [label, ' '.join(entry['waves']), str(entry['num_records']),
       *(tables.cell(entry[key]) for key in shares)]
      for label, entry in entries.items()
    ]  # fmt: skip
    gap = ', '.join(
      f'{model} {value:.1%}'
      for model, value in measured['completeness_gap'].items()
    )
    skipped = ', '.join(measured['skipped'])
    caption = (
      f'{titles[name]}: share of |attribution| inside the waves that define '
      'the class, beside the share of time and of |signal| there; mean over '
      'recordings with the class, 95 % intervals by patient. Completeness gap '
      f'(95th percentile): {gap}.'
    )
    caption += f' Not measured: {skipped}.' if skipped else ''
    header = ['class', 'waves', 'recordings', *shares]
    parts.append(
      tables.Table([h.replace('_', ' ') for h in header], rows, caption)
    )
  return report.Section('Where the classifier looks', [*parts, *pictures])
