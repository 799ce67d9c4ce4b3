"""Tables of corpus facts, for a terminal and for docs/data.md."""

from collections.abc import Mapping

from ecgjax.ecg.recording import REASONS
from ecgjax.report.tables import Table

_NOTHING = '-'


def _number(value) -> str:
  """Three significant digits, whole numbers whole."""
  if value is None:
    return _NOTHING
  if isinstance(value, float) and value != round(value):
    text = f'{value:.3g}'
    return f'{value:.0f}' if 'e+' in text else text
  return f'{value:.0f}'


def _spread(facts: Mapping, name: str, scale: float = 1) -> str:
  """'median (lowest to highest)'."""
  found = facts['spread'][name]
  if not found:
    return _NOTHING
  median, low, high = (
    _number(float(found[k]) * scale) for k in ('median', 'low', 'high')
  )
  return median if low == high else f'{median} ({low} to {high})'


def _median(facts: Mapping, name: str, scale: float = 1) -> str:
  found = facts['spread'][name]
  return _number(float(found['median']) * scale) if found else _NOTHING


def _counts(found: Mapping) -> str:
  return ', '.join(f'{name} {n}' for name, n in found.items()) or _NOTHING


def _sources(facts: Mapping):
  """(title, facts) of every source of every corpus."""
  for corpus, found in facts['corpora'].items():
    for source, part in found['sources'].items():
      yield source if source == corpus else f'{corpus} {source}', part


def recordings(facts: Mapping) -> Table:
  rows = [
    [
      title,
      str(part['records']),
      ', '.join(_number(rate) for rate in part['rates']),
      _spread(part, 'seconds'),
      f'{100 * part["late_share"]:.1f} %',
      _counts(part['refused']),
    ]
    for title, part in _sources(facts)
  ]
  for corpus, found in facts['corpora'].items():
    if found.get('unreadable'):
      reasons = _counts(found['unreadable'])
      rows.append([f'{corpus}, unreadable', reasons, *[_NOTHING] * 4])
  return Table(
    ['source', 'recordings', 'Hz', 'seconds', 'after 10 s', 'refused'],
    rows,
    'Medians with the lowest and the highest value of a recording; "after '
    '10 s": share of all seconds that a builder cuts off; "refused": by the '
    'rules that hold for any corpus.',
  )


def steps(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    step = part['step']
    rows.append(
      [
        title,
        '; '.join(f'{k}: {n}' for k, n in step['kinds'].items()) or _NOTHING,
        '; '.join(f'{k}: {n}' for k, n in step['phases'].items()) or _NOTHING,
        _median(part, 'phase_elsewhere', 100),
        str(step['splines_over_99']) if step['phases'] else _NOTHING,
        _spread(part, 'fives', 100),
      ]
    )
  return Table(
    [
      'source', 'step of all samples', 'step at one phase',
      'next phase %', 'spline', 'multiples of 5 %',
    ],
    rows,
    'Leads I, II and V1-V6. "spline": recordings of which over 99 % of the '
    'samples are, to half a count, a cubic spline through samples of that '
    'step at 4/5 of the rate. Chance makes 20 % of the samples multiples of '
    'five counts.',
  )  # fmt: skip


def ends(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    end = part['ends']
    held = end['end_samples']
    rows.append(
      [
        title,
        f'{end["end"]} of {part["records"]}',
        f'{_number(held["median"])} ({_number(held["low"])} to '
        f'{_number(held["high"])})'
        if held
        else _NOTHING,
        str(end['start']),
        _median(part, 'last_step'),
        _spread(part, 'start_share', 100),
      ]
    )
  return Table(
    [
      'source', 'end held', 'samples', 'start held', 'last step',
      'first 0.5 s, % of the variance',
    ],
    rows,
    'Held: all leads keep a value for 10 ms or more. "last step": of lead II, '
    'over the standard deviation of its steps, median.',
  )  # fmt: skip


def limb(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    found = part['limb']
    if not found['counted']:
      rows.append([title, *[_NOTHING] * 6, _spread(part, 'einthoven_uv')])
      continue
    rows.append(
      [
        title,
        _number(found['einthoven_counts']),
        _number(float(found['einthoven_over_one_share'])),
        f'{found["avr_low"]} to {found["avr_high"]}',
        f'{found["avr_mean"]:+.2f}',
        _median(part, 'avl_mean'),
        ', '.join(found['wide']) or _NOTHING,
        _spread(part, 'einthoven_uv'),
      ]
    )
  return Table(
    [
      'source', 'max abs(I + III - II)', 'share > 1', '2 aVR + I + II',
      'its mean', '2 aVL - I + III, mean', 'apart', 'in uV',
    ],
    rows,
    'Counts, but for the last column. "apart": recordings in which aVR leaves '
    'its relation by over ten counts; they are not in the range before.',
  )  # fmt: skip


def bands(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    cells = [title]
    for line in ('50', '60'):
      found = part['mains'][line]
      cells.append(
        f'{_median(part, f"mains_{line}")}, {found["over"]}, {found["under"]}'
        if found['n']
        else _NOTHING
      )
    cells += [
      _median(part, 'high_db'),
      _median(part, 'top_hz'),
      *(_median(part, f'above_{hz}', 100) for hz in (40, 50, 100)),
      _median(part, 'quick_above_50', 100),
      _median(part, 'below_half', 100),
    ]
    rows.append(cells)
  return Table(
    [
      'source', '50 Hz', '60 Hz', '160-200 Hz, dB', 'top Hz', '> 40 Hz %',
      '> 50 Hz %', '> 100 Hz %', 'steps > 50 Hz %', '< 0.5 Hz %',
    ],
    rows,
    'Mains: density of V1-V6 at the line over that 2 to 5 Hz away: median, '
    'recordings over 3, recordings under 0.5. dB against 20-40 Hz; "top": '
    'highest frequency within 60 dB of the strongest; shares of the variance '
    'and, "steps", of that of the differences of neighbours; medians.',
  )  # fmt: skip


def offsets(facts: Mapping) -> Table:
  rows = [
    [
      title,
      _spread(part, 'offset_uv'),
      _spread(part, 'between_share', 100),
      f'{part["means"]["free"]}, {part["means"]["half_a_count"]}, '
      f'{part["means"]["offset"]}',
      _median(part, 'wander'),
    ]
    for title, part in _sources(facts)
  ]
  return Table(
    ['source', 'largest offset, uV', 'between leads %', 'means', 'wander'],
    rows,
    '"offset": largest |median| of a lead. "between leads": share of the '
    'variance that normalisation "record" divides by. "means": recordings '
    'whose largest |mean| of a lead is below 0.1 counts, within half a count, '
    'above. "wander": power 0.05-0.3 Hz over 0.6-1 Hz, median.',
  )


def flat(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    for kind, words in (('flat', 'throughout'), ('quiet', 'for a second')):
      found = part[kind]
      if found['records']:
        where = sorted(found['where'])
        names = ', '.join(where[:5]) + (', ...' if len(where) > 5 else '')
        rows.append(
          [title, words, str(found['records']), _counts(found['leads']), names]
        )
  return Table(
    ['source', 'constant', 'recordings', 'leads', 'which'],
    rows,
    'Sources that are not named have none.',
  )


def repeats(facts: Mapping) -> Table:
  rows = [
    [one, other, str(shift), _number(seconds)]
    for one, other, shift, seconds in facts['repeats']
  ]
  return Table(
    ['recording', 'again in', 'shifted by samples', 'seconds'],
    rows,
    'Stretches of about 3 s and more that are equal in all leads, at any '
    'shift, in any two recordings of the same rate or within one.',
  )


def rhythms(facts: Mapping) -> Table:
  rows = [
    [
      title,
      rhythm,
      str(found['bpm']['n']),
      _number(found['bpm']['median']),
      *(
        f'{100 * found[share]:.1f}'
        for share in ('below_60', 'from_60_to_100', 'above_100')
      ),
    ]
    for title, part in _sources(facts)
    for rhythm, found in part.get('rate_against_rhythm', {'rhythms': {}})[
      'rhythms'
    ].items()
  ]
  return Table(
    ['source', 'rhythm', 'n', 'median /min', '< 60 %', '60-100 %', '> 100 %'],
    rows,
    'Rates measured by `ecg.beats`.',
  )


def rate_bands(facts: Mapping) -> Table:
  rows = [
    [
      title,
      f'{band["low"]} to {band["high"]}',
      str(band['records']),
      str(band['bradycardia']),
      str(band['sinus rhythm']),
      str(band['tachycardia']),
    ]
    for title, part in _sources(facts)
    for band in part.get('rate_against_rhythm', {'bands': ()})['bands']
    if part['records'] >= 100
  ]
  return Table(
    ['source', '/min', 'recordings', 'bradycardia', 'sinus', 'tachycardia'],
    rows,
    'How many of the recordings with that measured rate carry the statement; '
    'sources with at least a hundred recordings.',
  )


def statements(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    found = part.get('statements')
    if found:
      special = {**found.get('scp', {}), **found.get('sinus_code', {})}
      special = {k.replace('_', ' '): n for k, n in special.items()}
      rows.append(
        [title, str(found['distinct']), str(found['without']), _counts(special)]
      )
  return Table(
    ['source', 'statements', 'without any', 'recordings with'],
    rows,
    'Of CinC: recordings with 426783006 (sinus rhythm), those with nothing '
    'else, and those with another rhythm beside it.',
  )


def versions(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    found = part.get('versions')
    if found:
      rows.append([title, 'recordings at both rates', str(found['records'])])
      rows.append([title, 'equal to the bit by any', str(found['equal'])])
      rows.append(
        [title, 'last samples, uV', ', '.join(map(_number, found['last_uv']))]
      )
      for name, values in found.items():
        if isinstance(values, Mapping):
          ends = (_number(values[k]) for k in ('median', 'p01', 'p99'))
          rows.append([title, name, '{} ({} to {})'.format(*ends)])
  return Table(
    ['source', 'measure', 'value'],
    rows,
    'rms: of a conversion of the 500 Hz file against the published 100 Hz '
    'file, uV; median (1 to 99 %).',
  )


def headers(facts: Mapping) -> Table:
  rows = []
  for title, part in _sources(facts):
    found = part.get('header_gains')
    if found:
      ratio, waves = found['ratio'], part['waves']
      rows.append(
        [
          title,
          f'{found["span_of_one"]} of {found["leads"]}',
          f'{_number(ratio["median"])} (to {_number(ratio["high"])})',
          ', '.join(f'{waves[k]} {k}' for k in ('p', 'qrs', 't')),
          f'{waves["leads_without"]} of {waves["leads"]}',
        ]
      )
  return Table(
    [
      'source', 'leads that span 1 mV by the header', 'largest gain / smallest',
      'waves in brackets', 'leads without',
    ],
    rows,
  )  # fmt: skip


def reasons(facts: Mapping) -> Table:
  """The closed list of reasons why a recording is not used."""
  del facts
  rows = [[f'`{code}`', text] for code, text in REASONS.items()]
  return Table(['reason', 'meaning'], rows)


PARTS = {
  'recordings': recordings,
  'steps': steps,
  'ends': ends,
  'limb': limb,
  'bands': bands,
  'offsets': offsets,
  'flat': flat,
  'repeats': repeats,
  'statements': statements,
  'rhythms': rhythms,
  'rate_bands': rate_bands,
  'versions': versions,
  'headers': headers,
  'reasons': reasons,
}


def text(facts: Mapping) -> str:
  """All tables that have rows, for a terminal."""
  blocks = []
  for name, build in PARTS.items():
    table = build(facts)
    if table.rows and build is not reasons:
      blocks.append(f'{name.replace("_", " ")}\n{_aligned(table)}')
  return '\n\n'.join(blocks)


def _aligned(table: Table) -> str:
  """A table in columns of equal width, two spaces apart."""
  lines = [list(table.header), *map(list, table.rows)]
  width = [max(map(len, column)) for column in zip(*lines)]
  return '\n'.join(
    '  '.join(cell.ljust(n) for cell, n in zip(line, width)).rstrip()
    for line in lines
  )
