"""Tables of the report, as text cells; also as Markdown for READMEs.

Every figure comes from a result record or a study's output; nothing is typed.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ecgjax.evaluation import metrics as metrics_lib

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
      return '| ' + ' | '.join(c.replace('|', '\\|') for c in cells) + ' |'

    lines = [line(self.header), line(['---'] * len(self.header))]
    lines += [line(row) for row in self.rows]
    return '\n'.join(lines + (['', self.caption] if self.caption else []))


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


def difference_cell(entry: Mapping | None) -> str:
  """'+.031 [+.010, +.052], p .002 (Holm .006)'."""
  if entry is None:
    return NOT_REPORTABLE
  low, high = entry['ci95']
  text = f'{entry["value"]:+.3f} [{low:+.3f}, {high:+.3f}], p {entry["p"]:.3f}'
  return text + (f' (Holm {entry["p_holm"]:.3f})' if 'p_holm' in entry else '')


def provenance(results: Mapping) -> Table:
  """What was run, on what, and how to recognise it."""
  fields = (
    'method', 'dataset', 'protocol', 'split', 'seed', 'step', 'num_examples',
    'num_patients', 'device', 'git',
  )  # fmt: skip
  rows = [[name, str(results[name])] for name in fields]
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
  caption = '95 % intervals: patient bootstrap'
  if 'bootstrap' in results:
    boot = results['bootstrap']
    caption += (
      f', {boot["draws"]} draws of {boot["num_patients"]} patients, seed '
      f'{boot["seed"]}'
    )
  caption += (
    '. Macro means are over labels with at least '
    f'{metrics_lib.MIN_PATIENTS} positive and {metrics_lib.MIN_PATIENTS} '
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
  pairs = list(results['differences'])
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
      f'Paired patient bootstrap; Holm over each row, a family of {family}.',
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
          'Supported labels, paired patient bootstrap; Holm over the table, a '
          f'family of {family}.',
        )
      )
  return built


def class_table(results: Mapping) -> Table:
  """Metrics per label of the method under test."""
  entries = results['per_class']
  names = [
    name
    for name in metrics_lib.METRICS
    if any(name in entry for entry in entries.values())
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


def efficiency_tables(efficiency: Mapping) -> list[Table]:
  """Curves, paired differences and factors of a label-efficiency study."""
  n, reference = efficiency['num_records'], efficiency['reference']
  header = [f'{count} records' for count in n]
  curves = [
    [name, *(cell(point) for point in curve)]
    for name, curve in efficiency['curves'].items()
  ]
  changes = [
    [f'{name}-{reference}', *(difference_cell(entry) for entry in row)]
    for name, row in efficiency['differences'].items()
  ]
  family = sum(len(row) for row in efficiency['differences'].values())
  targets = dict.fromkeys(
    t for row in efficiency['factors'].values() for t in row
  )
  factors = [
    [name, *(_factor_cell(row[target]) for target in targets)]
    for name, row in efficiency['factors'].items()
  ]
  return [
    Table(
      ['arm', *header], curves,
      f'Macro AUROC over {efficiency["num_labels"]} supported labels.',
    ),
    Table(
      ['difference', *header], changes,
      f'Paired patient bootstrap; Holm over the table, family of {family}.',
    ),
    *_label_tables(efficiency, header),
    Table(
      ['arm', *(_target_name(target, reference) for target in targets)],
      factors,
      f'Label-efficiency factor: labelled records that {reference} needs over '
      'those that the arm needs for the same score; median and 95 % interval '
      'over patient and seed draws, and the share of draws that only bound it. '
      'A claimed factor counts as shown only if the lower end exceeds it.',
    ),
  ]  # fmt: skip


def _label_tables(efficiency: Mapping, header: Sequence[str]) -> list[Table]:
  """Curves and differences of every label."""
  if 'curves_per_class' not in efficiency:
    return []
  curves = [
    [label, name, *(cell(point) for point in curve)]
    for label, arms in efficiency['curves_per_class'].items()
    for name, curve in arms.items()
  ]
  changes = [
    [
      label, f'{name}-{efficiency["reference"]}',
      *(difference_cell(entry) for entry in row),
    ]
    for label, arms in efficiency['differences_per_class'].items()
    for name, row in arms.items()
  ]  # fmt: skip
  absent = ', '.join(
    f'{label} ({count} positive test patients)'
    for label, count in efficiency['not_reportable'].items()
  )
  caption = 'AUROC per label.' + (
    f' Not reportable: {absent}; the rule asks for {metrics_lib.MIN_PATIENTS} '
    'positive and as many negative ones.' if absent else ''
  )  # fmt: skip
  family = len(changes) * len(header)
  return [
    Table(['label', 'arm', *header], curves, caption),
    Table(
      ['label', 'difference', *header], changes,
      f'Paired patient bootstrap; Holm over the table, family of {family}.',
    ),
  ]  # fmt: skip


def identity_tables(identity: Mapping) -> list[Table]:
  """What frozen features know of people, see `evaluate_identity`."""
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


def _target_name(target: str, reference: str) -> str:
  return f'score of {reference} with {100 * float(target):g} % of labels'


def _factor_cell(entry: Mapping) -> str:
  """'>= 3.2 [1.7, open], 40 % bounded'."""
  if entry['median'] is None:
    return NOT_REPORTABLE
  sign = '' if entry['bound'] == '=' else entry['bound'] + ' '
  ends = ['open' if end is None else f'{end:.2g}' for end in entry['interval']]
  text = f'{sign}{entry["median"]:.2g} [{", ".join(ends)}]'
  bounded = 1 - entry['shares']['exact']
  return text + (f', {100 * bounded:.0f} % bounded' if bounded else '')


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
