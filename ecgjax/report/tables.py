"""Tables of the report, as text cells; also as Markdown for READMEs.

Every figure comes from a result record or a study's output; nothing is typed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ecgjax.metrics.metrics import METRICS, MIN_PATIENTS

NOT_REPORTABLE = 'n/r'


class Table(NamedTuple):
  """A table of text cells.

  Attributes:
    header: column names.
    rows: cells.
    caption: what the reader must know.
  """

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  caption: str = ''

  def markdown(self) -> str:
    """The table as GitHub Markdown, the caption below it."""

    def line(cells):
      return '| ' + ' | '.join(map(_as_text, cells)) + ' |'

    lines = [line(self.header), line(['---'] * len(self.header))]
    lines += [line(row) for row in self.rows]
    return '\n'.join(lines + (['', self.caption] if self.caption else []))


def _as_text(cell: str) -> str:
  """A cell that Markdown shows as it is: no HTML, no link, no cell's end."""
  cell = ' '.join(cell.replace('|', '\\|').split('\n'))
  cell = re.sub(r'<(?=[A-Za-z/!?])', '&lt;', cell)
  return cell.replace('](', ']\\(')


def cell(entry: Mapping | None) -> str:
  """'.834 [.801, .866]', with the spread between seeds where there is one."""
  if entry is None or entry.get('value') is None:
    return NOT_REPORTABLE
  text = number(entry['value'])
  if entry.get('ci95') is not None:
    text += ' [' + ', '.join(number(end) for end in entry['ci95']) + ']'
  if 'seed_sd' in entry:
    text += f' (seeds ±{number(entry["seed_sd"])})'
  return text


def number(value: float) -> str:
  """Three decimals below ten, else three significant digits."""
  return f'{value:.3f}' if abs(value) < 10 else f'{value:.3g}'


def p_text(p: float) -> str:
  """'p 0.031'; below a thousandth 'p < 0.001', as no p is zero."""
  return 'p < 0.001' if p < 0.001 else f'p {p:.3f}'


def difference_cell(entry: Mapping | None) -> str:
  """'+.031 [+.010, +.052], p .002 (Holm p .006)'."""
  if entry is None:
    return NOT_REPORTABLE
  low, high = entry['ci95']
  text = f'{entry["value"]:+.3f} [{low:+.3f}, {high:+.3f}], '
  text += p_text(entry['p'])
  return text + (
    f' (Holm {p_text(entry["p_holm"])})' if 'p_holm' in entry else ''
  )


def seeds_text(num_seeds: int) -> str:
  """'one seed' or '3 seeds'."""
  return 'one seed' if num_seeds == 1 else f'{num_seeds} seeds'


ONE_SEED = (
  'One seed: the intervals are over patients and do not cover retraining.'
)


def num_seeds(results: Mapping) -> int:
  """Training seeds behind a result record."""
  return len(results.get('seeds', [results['seed']]))


def resampled(part: Mapping) -> str:
  """What the intervals of a table are over.

  Args:
    part: has `num_seeds` where draws weigh seeds: `bootstrap` of a result
      record, or a label-efficiency study. Files from before that have not.
  """
  number = part.get('num_seeds')
  if number is None:
    return 'patients (training seeds held fixed)'
  if number == 1:
    return 'patients (one seed: retraining is not in them)'
  return f'patients and {number} seeds'


def provenance(results: Mapping) -> Table:
  """What was run, on what, and how to recognise it."""
  fields = (
    'method', 'dataset', 'protocol', 'split', 'step', 'num_examples',
    'num_patients', 'device', 'git',
  )  # fmt: skip
  rows = [[name, str(results[name])] for name in fields]
  seeds = results.get('seeds', [results['seed']])
  rows.append(['training seeds', ', '.join(map(str, seeds))])
  rows.append(['examples_per_second', number(results['examples_per_second'])])
  rows.append(['wall_seconds', number(results['wall_seconds'])])
  rows += [[f'{k} sha256', v] for k, v in results['hashes'].items()]
  versions = ', '.join(f'{k} {v}' for k, v in results['versions'].items())
  return Table(['field', 'value'], [*rows, ['versions', versions]])


def metrics_table(results: Mapping) -> Table:
  """Metrics of the method under test."""
  rows = [
    [name, cell(entry), str(entry.get('num_labels', ''))]
    for name, entry in results['metrics'].items()
  ]
  boot = results.get('bootstrap', {})
  caption = f'95 % intervals: bootstrap over {resampled(boot)}'
  if boot:
    caption += (
      f', {boot["draws"]} draws of {boot["num_patients"]} patients, seed '
      f'{boot["seed"]} of the draws'
    )
  caption += (
    '. Macro means are over labels with at least '
    f'{MIN_PATIENTS} positive and {MIN_PATIENTS} '
    'negative test patients; macro_auroc_all is over every label with both '
    'classes.'
  )
  return Table(['metric', 'value [95 % interval]', 'labels'], rows, caption)


def arms_table(results: Mapping) -> Table:
  """Macro metrics of every arm."""
  names = [name for name in results['metrics'] if name.startswith('macro_')]
  rows = [
    [arm, *(cell(parts['metrics'].get(name)) for name in names)]
    for arm, parts in results['arms'].items()
  ]
  return Table(['arm', *names], rows, 'All arms on the same bootstrap draws.')


def difference_tables(results: Mapping) -> list[Table]:
  """Paired differences: macro metrics, then AUROC and F1 per label."""
  pairs, over = (
    list(results['differences']),
    resampled(results.get('bootstrap', {})),
  )
  names = dict.fromkeys(n for d in results['differences'].values() for n in d)
  rows, family = [], 0
  for name in names:
    entries = [results['differences'][pair].get(name) for pair in pairs]
    family = max(entry['family_size'] for entry in entries if entry)
    rows.append([name, *(difference_cell(entry) for entry in entries)])
  built = [
    Table(
      ['difference', *pairs],
      rows,
      f'Paired bootstrap over {over}; Holm over each row, a family of '
      f'{family}.',
    )
  ]
  for name in ('auroc', 'f1'):
    rows = {}
    for pair, table in results.get('differences_per_class', {}).items():
      for label, entry in table.items():
        if name in entry:
          rows.setdefault(label, {})[pair] = entry[name]
    if rows:
      family = next(iter(next(iter(rows.values())).values()))['family_size']
      built.append(
        Table(
          [f'{name} difference', *pairs],
          [
            [label, *(difference_cell(row.get(pair)) for pair in pairs)]
            for label, row in rows.items()
          ],
          f'Supported labels, paired bootstrap over {over}; Holm over the '
          f'table, a family of {family}.',
        )
      )
  return built


def class_table(results: Mapping) -> Table:
  """Metrics per label of the method under test."""
  entries = results['per_class']
  names = [
    name for name in METRICS if any(name in entry for entry in entries.values())
  ]
  errors = results.get('calibration', {}).get('per_class', {})
  rows = []
  for label, entry in entries.items():
    rows.append([
      label if entry['supported'] else f'{label} †',
      f'{entry["num_positive"]} ({entry["num_positive_patients"]})',
      number(entry['prevalence']) if 'prevalence' in entry else '',
      *(cell(entry.get(name)) for name in names),
      number(errors[label]) if label in errors else '',
    ])  # fmt: skip
  return Table(
    ['label', 'positive records (patients)', 'prevalence', *names, 'ece'],
    rows,
    'Method under test. F1, sensitivity and specificity at thresholds chosen '
    'on validation. The expected calibration error has no interval: it is '
    'biased upwards in every resample.',
  )


def identity_tables(identity: Mapping) -> list[Table]:
  """What frozen features know of people, see `evaluators.identity`."""
  built = []
  found = identity['retrieval']
  if found is not None:
    rows = []
    metrics = {
      'recall@1': 'recall_at_1', 'mean reciprocal rank': 'mean_reciprocal_rank'
    }  # fmt: skip
    (pair,) = found['differences']
    for title, name in metrics.items():
      cells = [cell(arm[name]) for arm in found['arms'].values()]
      change = difference_cell(found['differences'][pair][name])
      rows.append([title, *cells, change])
    strata = next(iter(found['arms'].values()))['by_gap']
    for title, name in (metrics | {'similarity': 'similarity'}).items():
      for stratum, entry in strata.items():
        cells = [cell(arm['by_gap'][stratum][name])
                 for arm in found['arms'].values()]  # fmt: skip
        gap = f'gap {stratum.replace("_", " ")}, {entry["num_pairs"]} pairs'
        rows.append([f'{title}, {gap}', *cells, ''])
    for kind in next(iter(found['arms'].values()))['label_change']:
      cells = [cell(arm['label_change'][kind])
               for arm in found['arms'].values()]  # fmt: skip
      rows.append([f'similarity, labels {kind}', *cells, ''])
    built.append(
      Table(
        ["the same patient's other ECG", *found['arms'], pair], rows,
        f'{found["num_queries"]} ECGs of {found["num_patients"]} patients '
        f'looked for among {found["num_gallery"]} ECGs of the test split; '
        'recall@1 counts the nearest one, that of a gap every ordered pair.',
      )
    )  # fmt: skip
  found = identity['confounders']
  if found is not None:
    (pair,) = found['differences']
    labels = next(iter(found['arms'].values()))
    built.append(
      Table(
        ['AUROC from the features', *found['arms'], pair],
        [
          [
            label,
            *(cell(arm[label]['auroc']) for arm in found['arms'].values()),
            difference_cell(found['differences'][pair].get(label)),
          ]
          for label in labels
        ],
        'Confounders: what else the features tell of a person.',
      )
    )
  return built


def reader_tables(readers: Mapping) -> list[Table]:
  """Readers and model, macro and per label, then model minus reader."""
  names = list(readers['rows'][0]['macro'])
  labels = ['macro', *readers['rows'][0]['per_class']]

  def entries(parts, label):
    return parts['macro'] if label == 'macro' else parts['per_class'].get(label)

  built = []
  for label in labels:
    rows = [
      [
        row['name'], row['group'], str(row['num_records']),
        *(cell((entries(row, label) or {}).get(name)) for name in names),
      ]
      for row in readers['rows']
    ]  # fmt: skip
    built.append(Table(['reader', 'group', 'records', *names], rows, label))
  rows = [
    [
      f'model-{reader}', label,
      *(
        difference_cell((entries(parts, label) or {}).get(name))
        for name in names
      ),
    ]
    for reader, parts in readers['differences'].items()
    for label in labels
  ]  # fmt: skip
  built.append(
    Table(
      ['difference', 'label', *names], rows,
      'On the records that the reader judged; Holm per metric over all rows.',
    )
  )  # fmt: skip
  return built
