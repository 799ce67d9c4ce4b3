"""Facts of generated ECGs as a table."""

from ecgjax.report import tables


def overview(facts: dict) -> tables.Table:
  """What was made for each class, from the summary of a generate run."""
  rows = []
  for name, row in facts['classes'].items():
    measured = facts['measures']['classes'].get(name, {})
    rows.append([
      name,
      str(row['real']),
      str(row['made']),
      _cell(measured.get('beats_ratio')),
      _cell(measured.get('changed')),
    ])  # fmt: skip
  refused = ', '.join(f'{v} {k}' for k, v in facts['rejected'].items())
  return tables.Table(
    ['class', 'real', 'generated', 'beats / parents', 'changed indices'],
    rows,
    f'Refused proposals: {refused or "none"}',
  )


def _cell(value) -> str:
  return '-' if value is None else f'{value:.3f}'
