"""Tables and sentences of a label-efficiency study."""

from collections.abc import Mapping, Sequence

from ecgjax.metrics import metrics
from ecgjax.report import figures, tables, verdicts
from ecgjax.report.page import Picture, Section

SEEDS_FIXED = (
  'No conclusion is drawn from the differences: their intervals hold the '
  'training seeds fixed, so that they do not cover retraining.'
)


def claims(efficiency: Mapping) -> list[str]:
  """What the differences show, a sentence an arm."""
  if 'num_seeds' not in efficiency:
    return [SEEDS_FIXED]
  sizes = size_titles(efficiency)
  return [
    verdicts.by_size(name, efficiency['reference'], sizes, row)
    for name, row in efficiency['differences'].items()
  ]


def section(efficiency: Mapping) -> Section:
  """Curves, claims and tables of the report."""
  curves = Picture(
    figures.label_curves(efficiency),
    'Supported-macro AUROC; bands: 95 % intervals over '
    f'{tables.resampled(efficiency)}.',
  )
  parts = [curves, *claims(efficiency), *efficiency_tables(efficiency)]
  return Section('Label efficiency', parts)


def efficiency_tables(efficiency: Mapping) -> list[tables.Table]:
  """Curves, paired differences and factors of a label-efficiency study."""
  reference, header = efficiency['reference'], size_titles(efficiency)
  over = tables.resampled(efficiency)
  curves = [
    [name, *(tables.cell(point) for point in curve)]
    for name, curve in efficiency['curves'].items()
  ]
  changes = [
    [f'{name}-{reference}', *(tables.difference_cell(entry) for entry in row)]
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
    tables.Table(
      ['arm', *header], curves,
      f'Macro AUROC over {efficiency["num_labels"]} supported labels; 95 % '
      f'intervals over {over}. {validation_text(efficiency)}',
    ),
    tables.Table(
      ['difference', *header], changes,
      f'Paired bootstrap over {over}; Holm over the table, family of {family}.',
    ),
    *_label_tables(efficiency, header),
    tables.Table(
      ['arm', *(_target_name(target, reference) for target in targets)],
      factors,
      f'Label-efficiency factor: labelled records that {reference} needs over '
      'those that the arm needs for the same score; median and 95 % interval '
      'over patients and seeds, and the share of draws that only bound it. '
      'A claimed factor counts as shown only if the lower end exceeds it.',
    ),
  ]  # fmt: skip


def size_titles(efficiency: Mapping) -> list[str]:
  """'12 + 2 records' where labels of validation are counted, else '14'."""
  total = efficiency['num_records']
  if efficiency.get('validation') != 'budget':
    return [f'{count} records' for count in total]
  spent = efficiency['num_validation_records']
  return [f'{n - v} + {v} records' for n, v in zip(total, spent)]


def validation_text(efficiency: Mapping) -> str:
  """Whether the labels of validation are part of the number of labels."""
  if efficiency.get('validation') == 'budget':
    return (
      'Labels of training + validation: checkpoints, learning rates, C and '
      'thresholds are chosen on a validation subset of the same share.'
    )
  return (
    'Checkpoints, learning rates, C and thresholds are chosen on the whole '
    'validation split, whose labels are not counted.'
  )


def _label_tables(
  efficiency: Mapping, header: Sequence[str]
) -> list[tables.Table]:
  """Curves and differences of every label."""
  if 'curves_per_class' not in efficiency:
    return []
  curves = [
    [label, name, *(tables.cell(point) for point in curve)]
    for label, arms in efficiency['curves_per_class'].items()
    for name, curve in arms.items()
  ]
  changes = [
    [
      label, f'{name}-{efficiency["reference"]}',
      *(tables.difference_cell(entry) for entry in row),
    ]
    for label, arms in efficiency['differences_per_class'].items()
    for name, row in arms.items()
  ]  # fmt: skip
  absent = ', '.join(
    f'{label} ({count} positive test patients)'
    for label, count in efficiency['not_reportable'].items()
  )
  caption = 'AUROC per label.' + (
    f' Not reportable: {absent}; the rule asks for {metrics.MIN_PATIENTS} '
    'positive and as many negative ones.' if absent else ''
  )  # fmt: skip
  family = len(changes) * len(header)
  return [
    tables.Table(['label', 'arm', *header], curves, caption),
    tables.Table(
      ['label', 'difference', *header], changes,
      f'Paired bootstrap over {tables.resampled(efficiency)}; Holm over the '
      f'table, family of {family}.',
    ),
  ]  # fmt: skip


def _target_name(target: str, reference: str) -> str:
  return f'score of {reference} with {100 * float(target):g} % of labels'


def _factor_cell(entry: Mapping) -> str:
  """'>= 3.2 [1.7, open], 40 % bounded'."""
  if entry['median'] is None:
    return tables.NOT_REPORTABLE
  sign = '' if entry['bound'] == '=' else entry['bound'] + ' '
  ends = ['open' if end is None else f'{end:.2g}' for end in entry['interval']]
  text = f'{sign}{entry["median"]:.2g} [{", ".join(ends)}]'
  bounded = 1 - entry['shares']['exact']
  return text + (f', {100 * bounded:.0f} % bounded' if bounded else '')
