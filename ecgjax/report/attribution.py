"""Attributions as a section of the report and as tables."""

from collections.abc import Mapping, Sequence

from ecgjax.report import page, tables


def section(
  part: Mapping[str, Mapping],
  titles: Mapping[str, str],
  pictures=(),
  first: str = 'model',
) -> page.Section:
  """Tables of the shares, and the plots.

  Args:
    part: name of the examples -> from `measure`.
    titles: the same names -> what they are, for the captions.
    pictures: `page.Picture`s with attributions.
    first: name of the model under test.
  """
  parts = []
  for name, measured in part.items():
    if measured['classes']:
      parts.append(_table(measured, titles[name], first))
    else:
      parts.append(f'{titles[name]}: no class could be measured.')
  return page.Section('Where the classifier looks', [*parts, *pictures])


def _titles(keys: Sequence[str], first: str) -> list[str]:
  """Column titles of the keys of an `_entry`."""
  names = {'attribution': first, 'num_records': 'recordings'}
  return [
    names.get(key, key).replace('minus_', f'{first} - ', 1) for key in keys
  ]


def _table(measured: Mapping, title: str, first: str) -> tables.Table:
  """One row a class."""
  entries = {**measured['classes'], 'all': measured['all']}
  keys = [k for k in measured['all'] if k not in ('num_records', 'waves')]
  rows = [
    [label, ' '.join(entry['waves']), str(entry['num_records']),
     *(tables.cell(entry[key]) for key in keys)]
    for label, entry in entries.items()
  ]  # fmt: skip
  gap = ', '.join(
    f'{model} {value:.1%}'
    for model, value in measured['completeness_gap'].items()
  )
  skipped = ', '.join(measured['skipped'])
  caption = (
    f'{title}: share of |attribution| inside the waves that define the class, '
    'beside the share of time and of |signal| there; mean over recordings with '
    'the class, 95 % intervals by patient. Completeness gap (95th percentile): '
    f'{gap}.'
  )
  caption += f' Not measured: {skipped}.' if skipped else ''
  header = ['class', 'waves', 'recordings', *_titles(keys, first)]
  return tables.Table(header, rows, caption)


def size_table(
  parts: Mapping[str, Mapping], title: str, first: str
) -> tables.Table:
  """One row per number of labels, over all classes together.

  Args:
    parts: size in words -> from `measure`.
    title: what the recordings are.
    first: name of the model under test.
  """
  everything = {
    size: measured['all'] for size, measured in parts.items()
    if 'all' in measured
  }  # fmt: skip
  keys = [k for k in next(iter(everything.values()), ()) if k != 'waves']
  rows = [
    [size, *(str(entry[k]) if k == 'num_records' else tables.cell(entry[k])
             for k in keys)]
    for size, entry in everything.items()
  ]  # fmt: skip
  seeds = max(
    (e['attribution'].get('num_seeds', 1) for e in everything.values()),
    default=1,
  )
  over = tables.resampled({'num_seeds': seeds})
  caption = (
    f'{title}: share of |attribution| inside the waves that define the class; '
    f'all classes, mean over recordings, 95 % intervals over {over}.'
  )
  return tables.Table(['labels', *_titles(keys, first)], rows, caption)
