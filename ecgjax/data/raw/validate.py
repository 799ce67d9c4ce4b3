"""Every recording is accepted or rejected with a reason from a closed list.

Reason codes (`REASONS` says what each means):

* files: missing_file (counted apart, not a rejection), missing_header,
  missing_signal_file, outside_root, unreadable, short_file, long_file,
  mat_header, checksum, too_large
* header: header_empty, header_encoding, header_malformed,
  header_signal_count, gain_zero, gain_malformed, unit_unknown
* leads: missing_lead, duplicate_lead, unknown_lead, extra_lead
* against the corpus: too_short, wrong_length, wrong_rate, wrong_gain
* signal: nan, saturated, unit_scale, flat, mains, offset, limb_swapped,
  limb_flipped, limb_inconsistent

What is accepted may carry remarks from a second list (`REMARKS`), counted and
listed too: span_gain, limb_spike, start_transient.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
import typing
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.data.raw import limb_leads, signal_rules
from ecgjax.ecg.recording import INVALID, BadRecord, Recording

if typing.TYPE_CHECKING:
  pass


REMARKS = {
  'span_gain': (
    "every lead's gain is its own span: counts, which fulfil the limb-lead "
    'relations, read as microvolts'
  ),
  'limb_spike': (
    'limb leads do not follow from I and II for a moment: what is in some of '
    'them is missing in others'
  ),
  'start_transient': (
    'the recorder settles: the first half second is left out (valid_start)'
  ),
}

INVALID = INVALID


class Rules(NamedTuple):
  """What a corpus promises about each of its recordings.

  Attributes:
    rate: sampling rate, Hz; None: any.
    seconds: length; None: any.
    gain: units/mV of every lead; None: any.
    limb_limit: largest 95th percentile of the limb-lead residual, microvolts;
      None where leads need not be consistent by construction.
  """

  rate: float | None = None
  seconds: float | None = None
  gain: float | None = None
  limb_limit: float | None = None


ANY = Rules()


class Accepted(NamedTuple):
  """A recording that is used, with its remarks.

  Attributes:
    residual: limb-lead residual (95th percentile over time of the largest
      violation of the Einthoven and Goldberger relations), microvolts; nan
      without all six limb leads.
    start: first sample that is used; 0 unless the recorder settles.
    remarks: keys of `REMARKS`.
  """

  residual: float
  start: int = 0
  remarks: tuple[str, ...] = ()


# Hz. Slower is no ECG; nothing records faster.
_RATES = (50, 10_000)
_SHORTEST = 1.0  # seconds
# Millivolts, median over leads of the peak-to-peak value. Over 2,635 clean
# recordings: 0.48 to 9.8 in the whole recording, where one artefact decides,
# and 0.32 to 3.6 in a second (see `signal_rules.spans`). The second tells
# nearly every factor of ten, the first not.
_SCALE = (0.2, 10.0)
_SCALE_OF_A_SECOND = (0.2, 5.0)
# Microvolts: below, limb leads are consistent and no label can be wrong.
_CONSISTENT = 20.0
# Microvolts, of a moment: recorders that keep the relations keep them to 10.
_SPIKE = 100.0
# Millivolts of a lead's median. Electrodes differ by up to 300, but recorders
# remove that: clean recordings reach 9.4.
_OFFSET = 50.0
# Samples that are looked at together: enough to hide the cost of a call, few
# enough for a cache.
_TOGETHER = 1 << 18


def check(recording: Recording, rules: Rules = ANY) -> Accepted:
  """Returns an accepted recording or raises `BadRecord`.

  Args:
    recording: the recording as it was read, before resampling.
    rules: what its corpus promises.

  Raises:
    BadRecord: with one reason; of several faults, that of the first cause.
  """
  (verdict,) = check_all([recording], [rules])
  if isinstance(verdict, BadRecord):
    raise verdict
  return verdict


def check_all(
  recordings: Sequence[Recording], rules: Sequence[Rules]
) -> list[Accepted | BadRecord]:
  """`check` for many recordings; of 1000 samples, three times as fast.

  Args:
    recordings: N of any shape; those of one shape are checked together.
    rules: N, one for each.

  Returns:
    For each what `check` returns, or why it is rejected.
  """
  verdicts = [None] * len(recordings)
  groups = collections.defaultdict(list)
  for k, (recording, rule) in enumerate(zip(recordings, rules)):
    verdicts[k] = _check_frame(recording, rule)
    if verdicts[k] is None:
      shape = recording.samples.shape
      groups[recording.rate, recording.leads, shape, rule].append(k)
  for (_, _, shape, rule), members in groups.items():
    size = max(1, _TOGETHER // math.prod(shape))
    for start in range(0, len(members), size):
      part = members[start : start + size]
      found = _check_signals([recordings[k] for k in part], rule)
      for k, verdict in zip(part, found):
        verdicts[k] = verdict
  return verdicts


def _check_frame(recording, rules) -> BadRecord | None:
  """Sampling rate and length."""
  rate, count = recording.rate, len(recording.samples)
  if rules.rate is not None and rate != rules.rate:
    found = 'wrong_rate', f'{rate:g} Hz, not {rules.rate:g}'
  elif not _RATES[0] <= rate <= _RATES[1]:
    found = 'wrong_rate', f'{rate:g} Hz'
  elif count < _SHORTEST * rate:
    found = 'too_short', f'{count} samples at {rate:g} Hz'
  elif rules.seconds is not None and count != round(rules.seconds * rate):
    found = 'wrong_length', f'{count / rate:g} s, not {rules.seconds:g}'
  else:
    return None
  return BadRecord(*found, recording.file)


def _check_signals(recordings, rules) -> list[Accepted | BadRecord]:
  """Verdicts on recordings of one rate, shape and set of leads."""
  rate, leads = recordings[0].rate, recordings[0].leads
  ecg = [np.ascontiguousarray(recording.samples.T) for recording in recordings]
  ecg = np.stack(ecg) if len(ecg) > 1 else ecg[0][None]  # [N, C, T]
  gain = np.array([recording.gain for recording in recordings])  # [N, C]
  baseline = np.array([recording.baseline for recording in recordings])
  blocks = signal_rules.half_seconds(ecg, rate)  # [N, C, blocks, width]
  lows = blocks.min(axis=3).astype(np.int32)  # [N, C, blocks]
  highs = blocks.max(axis=3).astype(np.int32)
  low, high = ecg.min(axis=2), ecg.max(axis=2)  # [N, C]

  spans = signal_rules.spans(blocks, lows, highs)  # [2, N, C] units
  whole, second = _median(spans / gain, spans[0] > 0)  # [N] millivolts
  # At the end of the range the whole recording shows nothing but the range.
  inside = ((high < signal_rules.TOP) & (low > -signal_rules.TOP)).all(axis=1)
  level = signal_rules.levels(ecg)  # [N, C]
  limited = signal_rules.limited(ecg, rate, low, high)
  faults = {  # [N, C]; hum and scale are in all samples, so they come first
    'mains': signal_rules.mains(ecg, rate),
    'unit_scale': (
      _outside(second, _SCALE_OF_A_SECOND) | (_outside(whole, _SCALE) & inside)
    )[:, None],
    # A limiter that reaches both ends is none of the missing samples.
    'nan': (low == INVALID) & ~(limited & (high == signal_rules.TOP)),
    'wrong_gain': gain != (rules.gain or gain),
    'saturated': limited,
    'flat': signal_rules.flat(ecg, rate, gain, blocks, highs - lows),
    'duplicate_lead': signal_rules.copied(ecg, low, high),
    'offset': np.abs(level - baseline) > _OFFSET * gain,
  }
  residual, largest = np.full((2, len(ecg)), np.nan)
  if leads[:6] == limb_leads.LIMB:
    residual, largest = signal_rules.limb_residual(ecg, gain, baseline)
  start = signal_rules.settled(ecg, rate, gain, highs - lows)

  def detail(n, reason):
    if reason == 'unit_scale':
      return (
        f'{second[n]:.3g} mV peak to peak in a second, {whole[n]:.3g} mV in '
        'the whole recording (median lead)'
      )
    names = ', '.join(itertools.compress(leads, faults[reason][n]))
    if reason == 'wrong_gain':
      return f'lead {names}: not {rules.gain:g} per mV'
    return f'lead {names}'

  faulty = functools.reduce(np.logical_or, faults.values()).any(axis=1)  # [N]
  verdicts = []
  for n, recording in enumerate(recordings):
    if faulty[n]:
      reason = next(reason for reason in faults if faults[reason][n].any())
      verdict = BadRecord(reason, detail(n, reason), recording.file)
    else:
      found = _check_limb_leads(recording, residual[n], rules.limb_limit)
      verdict = found or _accept(recording, residual[n], largest[n], start[n])
    verdicts.append(verdict)
  return verdicts


def _accept(recording, residual, largest, start) -> Accepted:
  """What is to be said about a recording without a fault."""
  remarks = list(recording.remarks)
  # Leads that were treated one by one disagree all the time.
  if residual <= _CONSISTENT and largest > _SPIKE:
    remarks.append('limb_spike')
  if start:
    remarks.append('start_transient')
  return Accepted(float(residual), int(start), tuple(remarks))


def _median(values, chosen) -> np.ndarray:
  """[.., N] median over those of [.., N, C] `chosen` [N, C]; 0 if none."""
  count = chosen.sum(axis=1)
  ordered = np.sort(np.where(chosen, values, np.inf), axis=-1)
  row = np.arange(len(count))
  upper = ordered[..., row, count // 2]
  lower = ordered[..., row, np.maximum(count - 1, 0) // 2]
  return np.where(count > 0, (lower + upper) / 2, 0)


def _outside(values, limits) -> np.ndarray:
  """[N] bool: other than 0, which is missing or flat, and outside."""
  return (values > limits[1]) | (0 < values) & (values < limits[0])


def _check_limb_leads(recording, residual, limit) -> BadRecord | None:
  """Fault of a recording without other faults."""
  found = None
  if residual > _CONSISTENT:
    found = limb_leads.misplaced(recording.millivolts())
  if not found and limit is not None and residual > limit:
    found = (
      'limb_inconsistent',
      f'residual {residual:.0f} uV, at most {limit:g}',
    )
  return BadRecord(*found, recording.file) if found else None
