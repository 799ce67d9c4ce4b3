"""What a table of paired differences allows to be said, in sentences.

A gain or a loss is said where the interval of THAT difference excludes zero and
its p, corrected over the family, is below .05: never because one difference is
significant and another is not. "Equal" is said where an equivalence test with a
margin stated beforehand says so, never because p is large.
"""

from collections.abc import Mapping, Sequence

from ecgjax.report import tables

LEVEL = 0.05


def sign(entry: Mapping | None) -> int:
  """1 for a gain, -1 for a loss, 0 where neither is shown."""
  if entry is None or entry['p_holm'] >= LEVEL:
    return 0
  low, high = entry['ci95']
  return (low > 0) - (high < 0)


def equivalent(entry: Mapping) -> bool:
  """Whether the difference is shown to lie within its margin."""
  test = entry.get('equivalence')
  return test is not None and test['p_holm'] < LEVEL


def words(entry: Mapping) -> str:
  """'higher', 'lower', 'equal within 0.01', 'not shown to differ', ..."""
  found = {1: ['higher'], -1: ['lower'], 0: []}[sign(entry)]
  if 'equivalence' in entry:
    margin = f'{entry["equivalence"]["margin"]:g}'
    if equivalent(entry):
      found.append(f'equal within {margin}')
    elif not found:
      found.append(f'neither shown to differ nor to be equal within {margin}')
  return ' and '.join(found) or 'not shown to differ'


def of_labels(entries: Mapping[str, Mapping], metric: str) -> dict:
  """Labels with a gain and with a loss.

  Args:
    entries: label -> metric -> a difference.
    metric: which.

  Returns:
    {'gains', 'losses'}: lists of labels.
  """
  signs = {label: sign(row.get(metric)) for label, row in entries.items()}
  return {
    'gains': [label for label, s in signs.items() if s > 0],
    'losses': [label for label, s in signs.items() if s < 0],
  }


def sentence(
  pair: str,
  macro: Mapping[str, Mapping],
  entries: Mapping[str, Mapping],
  metrics: Sequence[str],
) -> str:
  """All that one direct comparison shows: macro means, then labels.

  Args:
    pair: its name, 'a-b'.
    macro: 'macro_<metric>' -> a difference.
    entries: label -> metric -> a difference.
    metrics: which, e.g. ('f1', 'auroc').
  """
  parts = []
  for metric in metrics:
    title = metric.upper() if metric.startswith('au') else metric.capitalize()
    entry = macro.get(f'macro_{metric}')
    if entry is None:
      continue
    parts.append(f'macro {title} {words(entry)}, {_figures(entry)}')
    found = of_labels(entries, metric)
    for name, word in (('gains', 'gain'), ('losses', 'loss')):
      if found[name]:
        cells = ', '.join(
          f'{label} {_figures(entries[label][metric])}' for label in found[name]
        )
        parts.append(f'{word} in {title} for {cells}')
    tested = [label for label, row in entries.items() if metric in row]
    rest = len(tested) - len(found['gains']) - len(found['losses'])
    if rest:
      parts.append(
        f'{title}: nothing shown for {rest} of {len(tested)} classes'
      )
  return f'{pair}: {"; ".join(parts)}.'


def by_size(
  name: str, reference: str, sizes: Sequence[str], row: Sequence[Mapping]
) -> str:
  """What one arm shows against the reference at every number of labels."""
  groups = {}
  for size, entry in zip(sizes, row):
    groups.setdefault(words(entry), []).append(size)
  told = '; '.join(
    f'{word} with {", ".join(members)}' for word, members in groups.items()
  )
  return f'Macro AUROC of {name} against {reference}: {told}.'


def _figures(entry: Mapping) -> str:
  """'+0.256 [+0.166, +0.370], Holm p 0.004'."""
  low, high = entry['ci95']
  return (
    f'{entry["value"]:+.3f} [{low:+.3f}, {high:+.3f}], Holm '
    f'{tables.p_text(entry["p_holm"])}'
  )
