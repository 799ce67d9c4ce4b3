"""From facts of recordings to facts of a corpus: counts, medians, ranges."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

# Facts whose spread is told.
_SPREAD = (
  'seconds', 'einthoven_uv', 'avr_mean', 'avl_mean', 'avf_mean', 'held_start',
  'held_end', 'last_step', 'start_share', 'offset_uv', 'between_share',
  'mean_counts', 'mains_50', 'mains_60', 'high_db', 'top_hz', 'above_40',
  'above_50', 'above_100', 'quick_above_50', 'below_half', 'wander', 'fives',
  'phase_share', 'phase_elsewhere', 'spline_share', 'bpm',
)  # fmt: skip
_STORED_SECONDS = 10
_HELD = 0.01  # seconds, from which on an end counts as held
_MEAN_FREE, _HALF = 0.1, 0.5  # counts


def summarise(records: Sequence[Mapping]) -> dict:
  """Facts of one source.

  Args:
    records: facts of each recording, see `record_facts.measure`, with `name`
      and `verdict` (a reason code, '' if nothing speaks against it).

  Returns:
    A dict for a results file.
  """
  known = [r for r in records if 'einthoven_uv' in r]
  return {
    'records': len(records),
    'missing': [r['name'] for r in records if r.get('missing')],
    'refused': dict(sorted(Counter(_refused(records)).items())),
    'rates': sorted({r['rate'] for r in records}),
    'spread': {name: spread(_values(known, name)) for name in _SPREAD},
    'late_share': _late(records),
    'limb': _limb(known),
    'step': _steps(known),
    'ends': _ends(known),
    'mains': {
      line: _beyond(_values(known, f'mains_{line}'), 0.5, 3)
      for line in (50, 60)
    },
    'means': _means(known),
    'flat': _flat(known, 'flat_leads'),
    'quiet': _flat(known, 'quiet_leads'),
  }


def _refused(records) -> Iterable[str]:
  return (r['verdict'] for r in records if r['verdict'])


def _values(records, name) -> list[float]:
  return [r[name] for r in records if r.get(name) is not None]


def spread(values: Sequence[float]) -> dict | None:
  """Number, median, extremes and percentiles 1 and 99; None of nothing."""
  if not len(values):
    return None
  low, first, median, last, high = np.percentile(values, [0, 1, 50, 99, 100])
  return {
    'n': len(values),
    'median': float(median),
    'low': float(low),
    'high': float(high),
    'p01': float(first),
    'p99': float(last),
  }


def _late(records) -> float:
  """Share of all seconds that lie after the first ten of a recording."""
  seconds = np.array([r['seconds'] for r in records])
  late = np.maximum(seconds - _STORED_SECONDS, 0).sum()
  return float(late / max(seconds.sum(), 1e-9))


def _limb(records) -> dict:
  counted = [r for r in records if 'einthoven_counts' in r]
  if not counted:
    return {'counted': 0}
  over, samples = (
    sum(r[name] for r in counted) for name in ('einthoven_over_one', 'samples')
  )
  ranges = [(r['avr_low'], r['avr_high']) for r in counted]
  usual = Counter(ranges).most_common(1)[0][0]
  wide = [r['name'] for r in counted if r['avr_high'] - r['avr_low'] > 20]
  rest = [pair for r, pair in zip(counted, ranges) if r['name'] not in wide]
  return {
    'counted': len(counted),
    'einthoven_counts': max(r['einthoven_counts'] for r in counted),
    'einthoven_over_one': over,
    'einthoven_over_one_share': over / samples,
    'avr_usual': list(usual),
    'avr_low': min((low for low, _ in rest), default=None),
    'avr_high': max((high for _, high in rest), default=None),
    'avr_mean': float(np.mean([r['avr_mean'] for r in counted])),
    'wide': wide,
  }


def _steps(records) -> dict:
  """Amplitude steps: how many recordings have which."""
  told = [r for r in records if r.get('step_uv') is not None]
  kinds = Counter(
    f'{r["step_uv"]:.4g} uV, {r["step_conversion"]}' for r in told
  )
  phases = Counter(
    f'{r["phase_step_uv"]:.4g} uV at every {r["phase_period"]}th sample'
    for r in told
    if r['phase_step_uv'] is not None
  )
  splines = [r['spline_share'] for r in told if r['spline_share'] is not None]
  return {
    'told': len(told),
    'kinds': dict(sorted(kinds.items())),
    'phases': dict(sorted(phases.items())),
    'splines_over_99': sum(share > 0.99 for share in splines),
  }


def _ends(records) -> dict:
  """Recordings that are held for over ten milliseconds at an end."""
  held = lambda field: [
    r[field] for r in records if (r[field] - 1) / r['rate'] >= _HELD
  ]
  return {
    'start': len(held('held_start')),
    'start_two': sum(r['held_start'] > 1 for r in records),
    'end': len(held('held_end')),
    'end_samples': spread(held('held_end')),
  }


def _beyond(values, low, high) -> dict:
  return {
    'n': len(values),
    'over': sum(value > high for value in values),
    'under': sum(value < low for value in values),
  }


def mean_class(facts: Mapping) -> str:
  """How exactly the mean of each lead of a recording was removed.

  Returns:
    'free' (below 0.1 counts in all leads), 'half_a_count' (up to that: it was
    removed before the values were rounded), 'offset', or '' if not known. The
    two chains of CPSC2018 are the first two.
  """
  mean = facts.get('mean_counts')
  if mean is None:
    return ''
  return ('free', 'half_a_count', 'offset')[
    (mean >= _MEAN_FREE) + (mean > _HALF)
  ]


def _means(records) -> dict:
  count = Counter(mean_class(r) for r in records)
  return {name: count[name] for name in ('free', 'half_a_count', 'offset')}


def _flat(records, field) -> dict:
  """Leads without signal: in how many recordings, how often each."""
  some = {r['name']: r[field] for r in records if r[field]}
  leads = Counter(lead for found in some.values() for lead in found)
  return {
    'records': len(some),
    'leads': dict(leads.most_common()),
    'where': some,
  }


def gains(rows: Iterable[tuple[Sequence[float], Sequence[float]]]) -> dict:
  """What the gains of headers are: calibrations, or the leads' own spans.

  Args:
    rows: for each recording, gains [12] in counts per millivolt and
      peak-to-peak values [12] by them, mV.

  Returns:
    `leads`, `span_of_one` (leads that span 0.999 to 1.001 mV by the header),
    spread of the spans, and of the ratio of largest to smallest gain.
  """
  gain, span = (np.array(part) for part in zip(*rows))
  return {
    'leads': span.size,
    'span_of_one': int((np.abs(span - 1) < 1e-3).sum()),
    'span_mv': spread(span.ravel().tolist()),
    'ratio': spread((gain.max(axis=1) / gain.min(axis=1)).tolist()),
  }


def pairs(records: Sequence[Mapping]) -> dict:
  """Of `two_versions.compare`: spreads, and median RMS of the last samples."""
  names = [k for k, v in records[0].items() if isinstance(v, float)]
  last = np.median(np.sqrt([r['last'] for r in records]), axis=0)
  return {
    'records': len(records),
    'equal': sum(bool(r['equal']) for r in records),
    'last_uv': last.tolist(),
    **{name: spread([r[name] for r in records]) for name in names},
  }


def rounded(value):
  """A value for a results file: six significant digits, whatever is inside."""
  if isinstance(value, Mapping):
    return {str(k): rounded(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [rounded(v) for v in value]
  return float(f'{value:.6g}') if isinstance(value, float) else value
