"""Tables of a codec: errors per lead or row of a page, and its codes."""

from collections.abc import Mapping

from ecgjax.report.tables import NOT_REPORTABLE, Table, cell, number


def reconstruction_tables(found: Mapping) -> list[Table]:
  """Leads and codebook of a codec, see `reconstruction.summarise`."""
  return [
    _medians('lead', found['per_lead']), codebook_table(found['codebook'])
  ]  # fmt: skip


def page_tables(found: Mapping) -> list[Table]:
  """Ink, rows and codebook of a codec of pages, see `page_errors.summarise`."""
  rows = [[name, cell(entry)] for name, entry in found['metrics'].items()]
  return [
    Table(['', 'test pages'], rows,
          'limit: the original page read back; blank: an empty one.'),
    _medians('row', found['per_row']),
    codebook_table(found['codebook']),
  ]  # fmt: skip


def _medians(what: str, found: Mapping) -> Table:
  """Name of a part -> name -> median."""
  names = list(dict.fromkeys(n for row in found.values() for n in row))
  rows = [
    [part, *(number(row[n]) if n in row else NOT_REPORTABLE for n in names)]
    for part, row in found.items()
  ]
  return Table([what, *names], rows, 'Medians over the test records.')


def codebook_table(codebook: Mapping) -> Table:
  """How the codes are used, see `reconstruction.codebook_figures`."""
  stages = codebook['stages']
  fields = list(stages[0])
  usage = [
    [str(i + 1), *(number(stage[name]) for name in fields)]
    for i, stage in enumerate(stages)
  ]
  return Table(
    ['stage', *fields],
    usage,
    f'{codebook["num_codes"]} codes per stage, '
    f'{codebook["bits_per_second"]:.0f} bit/s, '
    f'{codebook["compression"]:.0f} times less than 16-bit samples of the '
    'eight independent leads; over the whole test split.',
  )
