"""Generated ECGs: what can be checked of them, and a page that shows them."""

import collections
from collections.abc import Sequence

import numpy as np

from ecgjax.ecg import beats, leads, plot
from ecgjax.generation import operators
from ecgjax.report import page
from ecgjax.report.generated import overview


def keep_rate(rejected: dict, kept: int) -> float:
  """Share of what reached the teacher that it let pass."""
  return kept / (kept + rejected.get('implausible', 0))


def measure(context: operators.Context, made: Sequence[operators.Made]) -> dict:
  """What can be checked of generated ECGs.

  Args:
    context: that they were made in.
    made: at least one.

  Returns:
    `einthoven_uv`, largest violation of the limb-lead relations; per class that
    ECGs were made for, `number`, `beats_ratio` (R peaks found / the mean number
    of the parents', summed over its ECGs; null without parents), and the mean
    of `changed` and of `weight`.
  """
  stored = [np.rint(1000 * x.ecg) for x in made]
  largest = max(leads.limb_residual(np, x).max() for x in stored)
  columns = list(leads.indices(leads.INDEPENDENT_LEADS))
  found = collections.defaultdict(lambda: collections.defaultdict(list))
  for x in made:
    row = found[x.made_for]
    row['changed'].append(x.changed)
    row['weight'].append(x.weight)
    if x.first < 0:
      continue
    second = x.second if x.second >= 0 else x.first
    row['beats'].append(len(beats.r_peaks(x.ecg[:, columns], context.rate)))
    row['parents'].append((context.count[x.first] + context.count[second]) / 2)
  classes = {}
  for name, row in found.items():
    changed = float(np.mean(row['changed']))
    classes[name] = {
      'number': len(row['weight']),
      'beats_ratio': (
        float(np.sum(row['beats']) / np.sum(row['parents']))
        if row['beats']
        else None
      ),
      'changed': None if np.isnan(changed) else changed,
      'weight': float(np.mean(row['weight'])),
    }
  return {'einthoven_uv': float(largest), 'classes': classes}


def describe(summary: dict) -> str:
  """What was made, for the log."""
  lines = [
    f'{summary["num_examples"]} GENERATED ECGs by operator '
    f'{summary["operator"]}, Einthoven residual at most '
    f'{summary["measures"]["einthoven_uv"]:.1f} uV'
  ]
  for name, row in summary['classes'].items():
    measured = summary['measures']['classes'].get(name, {})
    ratio = measured.get('beats_ratio')
    lines.append(
      f'  {name}: {row["made"]} of {row["wanted"]} for {row["real"]} real'
      + (f', beats / parents {ratio:.3f}' if ratio else '')
    )
  if summary['keep_rate'] is not None:
    lines.append(f'  teacher keeps {summary["keep_rate"]:.1%}')
  if summary['rejected']:
    refused = ', '.join(f'{v} {k}' for k, v in summary['rejected'].items())
    lines.append(f'  refused: {refused}')
  return '\n'.join(lines)


def write_gallery(path, facts: dict, children: Sequence[dict]) -> None:
  """Writes one self-contained HTML page, labelled generated throughout.

  Args:
    path: the file.
    facts: what is known of the data set: `operator`, `source`, `classes`,
      `rejected`, `measures`.
    children: `ecg` [L, 12] mV, `rate` Hz, `labels`, `made_for`, `weight`,
      `parents` (each `name` and `ecg`) and `parents_synthetic`.
  """
  sections = [page.Section('What was made', [overview(facts)])]
  for number, child in enumerate(children, 1):
    names = ', '.join(child['labels']) or 'no statement'
    pictures = [
      _picture(
        parent['ecg'], child['rate'], child['parents_synthetic'],
        f'Parent {letter}: {parent["name"]}',
      )
      for letter, parent in zip('ab', child['parents'])
    ]  # fmt: skip
    share = ''
    if len(child['parents']) == 2:
      share = f', {child["weight"]:.2f} of a'
    pictures.append(
      _picture(
        child['ecg'], child['rate'], True, f'Generated ECG: {names}{share}'
      )
    )
    sections.append(
      page.Section(f'Generated for {child["made_for"]} ({number})', pictures)
    )
  page.write_page(
    path,
    f'Generated ECGs, operator {facts["operator"]}, from {facts["source"]}',
    sections,
    synthetic=True,
  )


def _picture(ecg, rate, synthetic, title) -> page.Picture:
  figure = plot.plot_ecg(ecg, rate, title=title, synthetic=synthetic)
  return page.Picture(figure, title)
