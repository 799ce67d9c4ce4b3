"""How much of a model is left with fewer leads (docs/evaluation.md).

Every single lead, every pair and all leads: 8 + 28 + 1 = 37 conditions with
eight leads. Two variants:

  retrained    a probe of its own per condition, on the features of its leads
  zero_filled  the probe of all leads; the missing ones are flat in the test
               ECGs

Features of each lead come from one pass over the recordings with all leads, so
every lead keeps the scale that normalisation over all leads gave it: what is
measured is the information of the leads, and a recorder with one lead knows a
little less.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ecgjax.evaluators.arms import fit_probe
from ecgjax.metrics import bootstrap, metrics
from ecgjax.model import outputs
from ecgjax.report import page, tables
from ecgjax.report.finding import Finding

VARIANTS = ('retrained', 'zero_filled')
# Named in every table, as in the field's reports.
NAMED = (('II',), ('II', 'V1'))


def check(options, model) -> None:
  """Raises a ValueError where the features are not those of single leads."""
  del options
  if not model.method.per_lead:
    raise ValueError(
      'config.evaluation.reduced_leads: this encoder sees all leads at once; '
      'the report needs one that sees a lead at a time'
    )


def evaluate(run) -> Finding:
  """Probes of the frozen features of every lead, every pair and all leads."""
  model, splits = run.model, run.data.labelled
  leads = model.contract.leads
  by_lead = lambda features: features.reshape(len(features), len(leads), -1)
  nothing = np.zeros((1, model.contract.length, len(leads)), np.float32)
  flat = outputs(model, {'ecg': nothing})['features']
  part = evaluate_reduced_leads(
    leads,
    {name: by_lead(x) for name, x in run.features('model').items()},
    by_lead(np.asarray(flat))[0],
    splits['test'].columns,
    lambda train, validation: fit_probe(run.recipe, train, validation, splits),
    run.draws,
  )
  return Finding(fields={'reduced_leads': part}, sections=[section(part)])


def conditions(leads: Sequence[str]) -> list[tuple[str, ...]]:
  """Every lead, every pair, all leads; each once."""
  found = [(lead,) for lead in leads]
  found += itertools.combinations(leads, 2)
  return list(dict.fromkeys([*found, tuple(leads)]))


def evaluate_reduced_leads(
  leads: Sequence[str],
  features: Mapping[str, np.ndarray],
  flat: np.ndarray,
  test: Mapping[str, np.ndarray],
  fit: Callable,
  draws: int = bootstrap.DRAWS,
) -> dict:
  """Probes every condition.

  Args:
    leads: C names.
    features: 'train', 'validation', 'test' -> [N, C, D] features per lead.
    flat: [C, D] features of leads without signal.
    test: columns `label`, `label_mask` and `patient` of the test split.
    fit: (train [N, d], validation [M, d]) -> object with `predict`.
    draws: number of bootstrap draws, the same ones for all conditions.

  Returns:
    JSON-able: `leads`, `num_conditions`, `metric` ('macro_auroc' over labels
    with enough support, 'macro_auroc_all' where none has it), `num_labels`,
    and per variant `conditions` (e.g. 'II+V1' -> value, ci95) and `groups`
    ('single', 'pair', 'all' -> mean, worst, best; the last two with `leads`).

  Raises:
    ValueError: if no label can be scored.
  """
  chosen = conditions(leads)
  score = _Scorer(test, draws)

  def part(split, condition):
    columns = [leads.index(lead) for lead in condition]
    return _flatten(features[split][:, columns])

  found = {variant: {} for variant in VARIANTS}
  for condition in chosen:
    probe = fit(part('train', condition), part('validation', condition))
    predicted = probe.predict(part('test', condition))
    found['retrained'][condition] = score(predicted)
  # The last condition is that of all leads.
  for condition in chosen:
    present = np.isin(leads, condition)[:, None]  # [C, 1]
    filled = np.where(present, features['test'], flat)
    found['zero_filled'][condition] = score(probe.predict(_flatten(filled)))
  return {
    'leads': list(leads),
    'num_conditions': len(chosen),
    'metric': score.metric,
    'num_labels': int(score.labels.sum()),
    **{name: _summarise(scores) for name, scores in found.items()},
  }


def _flatten(features: np.ndarray) -> np.ndarray:
  return features.reshape(len(features), -1)


class _Scorer:
  """Test probabilities [N, K] to the macro AUROC and its draws [D]."""

  def __init__(self, test, draws: int):
    labels, mask = test['label'], test['label_mask']
    patients = test['patient']
    self.truth, self.keep = np.asarray(labels) > 0, np.asarray(mask) > 0
    self.counts = bootstrap.patient_counts(patients, draws)
    self.metric = 'macro_auroc'
    self.labels = metrics.support(labels, patients, mask)['supported']  # [K]
    if not self.labels.any():
      self.metric = 'macro_auroc_all'
      self.labels = ~np.isnan(metrics.auroc(labels, mask * 0.0, mask))
    if not self.labels.any():
      raise ValueError('reduced leads: no label has both classes on test')

  def __call__(self, scores: np.ndarray) -> tuple[float, np.ndarray]:
    chosen = self.labels
    points, draws = bootstrap.label_draws(
      self.truth[:, chosen], scores[None, :, chosen], self.keep[:, chosen],
      self.counts, np.full((1, chosen.sum()), np.nan),
      bootstrap.seed_weights(1, self.counts.shape[1]),
    )  # fmt: skip
    points, draws = points[0, 0], draws[0]  # AUROC: [K], [K, D]
    return float(points.mean()), bootstrap.macro_draws(points, draws)


def _summarise(scores: Mapping) -> dict:
  """Conditions and groups of one variant.

  Args:
    scores: condition -> (value, [D] draws).
  """
  entry = lambda value, draws: {
    'value': float(value),
    'ci95': bootstrap.interval(draws),
  }
  groups, largest = {}, max(map(len, scores))
  members = {'all': [c for c in scores if len(c) == largest]}
  for name, size in (('single', 1), ('pair', 2)):
    members[name] = [c for c in scores if len(c) == size]
  for name in ('single', 'pair', 'all'):
    group = members[name]
    if group:
      mean = np.mean([scores[c][0] for c in group])
      draws = np.mean([scores[c][1] for c in group], axis=0)
      groups[name] = {'num_conditions': len(group), 'mean': entry(mean, draws)}
      ranked = sorted(group, key=lambda c: scores[c][0])
      for place, condition in (('worst', ranked[0]), ('best', ranked[-1])):
        groups[name][place] = entry(*scores[condition])
        groups[name][place]['leads'] = '+'.join(condition)
  return {
    'conditions': {'+'.join(c): entry(*scores[c]) for c in scores},
    'groups': groups,
  }


def section(part: Mapping) -> page.Section:
  """Tables and figure of the report.

  Args:
    part: what `evaluate_reduced_leads` returned.
  """
  rows = []
  for variant in VARIANTS:
    for name, group in part[variant]['groups'].items():
      places = [
        f'{group[place]["leads"]}: {tables.cell(group[place])}'
        for place in ('worst', 'best')
      ]
      rows.append(
        [variant, name, str(group['num_conditions']),
         tables.cell(group['mean']), *places]
      )  # fmt: skip
    for condition in NAMED:
      name = '+'.join(condition)
      if name in part[variant]['conditions']:
        cell = tables.cell(part[variant]['conditions'][name])
        rows.append([variant, name, '1', cell, '', ''])
  caption = (
    f'{part["metric"]} over {part["num_labels"]} labels; '
    f'{part["num_conditions"]} conditions of the leads '
    f'{", ".join(part["leads"])}. 95 % intervals by patient on the same draws; '
    'worst and best were picked by these values. retrained: a probe per '
    'condition; zero_filled: the probe of all leads, missing ones flat. Each '
    'ECG was normalised over all its leads.'
  )
  header = ('variant', 'leads', 'conditions', 'mean', 'worst', 'best')
  parts = [tables.Table(header, rows, caption)]
  if len(part['leads']) > 1:
    parts.append(
      page.Picture(
        pair_figure(part),
        f'{part["metric"]}: single leads on the diagonal, pairs beside it; '
        'below the diagonal a probe per condition, above it the probe of all '
        'leads.',
      )
    )
  return page.Section('Fewer leads', parts)


def pair_figure(part: Mapping) -> Figure:
  """Matrix of singles and pairs, one variant on each side of the diagonal."""
  leads = part['leads']
  values = np.empty((len(leads), len(leads)))
  for (i, a), (j, b) in itertools.product(enumerate(leads), repeat=2):
    variant = 'retrained' if i >= j else 'zero_filled'
    first, second = sorted((i, j))
    pair = (leads[first], leads[second])
    name = a if a == b else '+'.join(pair)
    values[i, j] = part[variant]['conditions'][name]['value']
  size = 1.5 + 0.62 * len(leads)
  figure = Figure(figsize=(size, size), layout='constrained')
  axes = figure.subplots()
  axes.imshow(values, cmap='viridis')
  axes.set_xticks(range(len(leads)), leads)
  axes.set_yticks(range(len(leads)), leads)
  middle = (values.min() + values.max()) / 2
  for (i, j), value in np.ndenumerate(values):
    colour = 'white' if value < middle else 'black'
    axes.text(
      j, i, f'{value:.3f}', ha='center', va='center', fontsize=8, color=colour
    )
  return figure
