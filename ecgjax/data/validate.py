"""Every recording is accepted or rejected with a reason from a closed list.

Reason codes (`REASONS` says what each means):

* files: missing_file (counted apart, not a rejection), missing_header,
  missing_signal_file, outside_root, unreadable, short_file, long_file,
  mat_header, checksum, too_large
* header: header_empty, header_encoding, header_malformed,
  header_signal_count, gain_zero, gain_malformed, unit_unknown
* leads: missing_lead, duplicate_lead, unknown_lead, extra_lead
* against the corpus: too_short, wrong_length, wrong_rate, wrong_gain
* signal: nan, saturated, unit_scale, flat, mains, limb_swapped,
  limb_flipped, limb_inconsistent
"""

from __future__ import annotations

import functools
import itertools
import statistics
import typing
from typing import NamedTuple

import numpy as np

from ecgjax import leads as leads_lib
from ecgjax.data import limb_leads

if typing.TYPE_CHECKING:
  from ecgjax.data import readers

REASONS = {
  'missing_file': 'a table names a record that is not there (counted apart)',
  'missing_header': 'the signal file is there, its .hea is not',
  'missing_signal_file': 'the header names a signal file that is not there',
  'outside_root': 'a path leaves the raw folder',
  'unreadable': 'not a regular file, no permission or an unknown content',
  'short_file': 'the signal file holds less than the header says',
  'long_file': 'the signal file holds more than the header says',
  'mat_header': 'the MATLAB header contradicts the WFDB header',
  'checksum': 'the samples do not have the sum that the header gives',
  'too_large': 'more samples are claimed than any recording has',
  'header_empty': 'the header has no record line',
  'header_encoding': 'the header describes its signals in other than ASCII',
  'header_malformed': 'a line of the header cannot be understood',
  'header_signal_count': 'other number of signals announced than described',
  'gain_zero': 'gain 0, which means uncalibrated',
  'gain_malformed': 'the gain is absent, negative or not a number',
  'unit_unknown': 'the unit is not one of volts',
  'missing_lead': 'one of the leads asked for is absent',
  'duplicate_lead': 'a lead occurs twice',
  'unknown_lead': 'a lead is absent and an unknown name is there',
  'extra_lead': 'all leads are there, and others too',
  'too_short': 'less than one second',
  'wrong_length': 'not the length of this corpus',
  'wrong_rate': 'not the sampling rate of this corpus, or an impossible one',
  'wrong_gain': 'not the gain of this corpus',
  'nan': 'missing samples',
  'saturated': 'a lead stays at the end of the range of the recorder',
  'unit_scale': 'amplitudes wrong by a power of ten',
  'flat': 'a lead without signal for over a second',
  'mains': 'a lead with mains hum and nothing else',
  'limb_swapped': 'two limb leads are exchanged',
  'limb_flipped': 'a limb lead has the wrong sign',
  'limb_inconsistent': 'limb leads do not follow from I and II',
}

INVALID = -32768  # WFDB format 16: no sample here


class BadRecord(ValueError):
  """A recording that is not used.

  Attributes:
    reason: a key of `REASONS`.
    detail: one line with what was found.
    file: where, relative to the raw folder; '' if not known.
  """

  def __init__(self, reason: str, detail: str, file: str = ''):
    if reason not in REASONS:
      raise KeyError(reason)
    super().__init__(reason, detail, file)
    self.reason, self.detail, self.file = reason, detail, file

  def __str__(self) -> str:
    return f'{self.file}: {self.reason}: {self.detail}'


class Rules(NamedTuple):
  """What a corpus promises about each of its recordings.

  Attributes:
    rate: sampling rate, Hz; None: any.
    seconds: length; None: any.
    gain: units/mV of every lead; None: any.
    limb_limit: largest 95th percentile of the limb-lead residual, microvolts;
      None where leads are not consistent by construction (LUDB is not).
  """

  rate: float | None = None
  seconds: float | None = None
  gain: float | None = None
  limb_limit: float | None = None


ANY = Rules()

# Hz. Slower is no ECG; nothing records faster.
_RATES = (50, 10_000)
_SHORTEST = 1.0  # seconds
# Millivolts, median over leads of the peak-to-peak value. Over 2,635 clean
# recordings: 0.48 to 9.8 in the whole recording, where one artefact decides,
# and 0.32 to 3.6 as upper quartile of the seconds (which holds a beat down to
# 20 per minute). The second tells nearly every factor of ten, the first not.
_SCALE = (0.2, 10.0)
_SCALE_OF_A_SECOND = (0.2, 5.0)
_FLAT = 1e-3  # standard deviation, mV
# A limiter cuts every beat at one value: at least that many plateaus of 20 ms
# (and three samples). Clean leads have at most two at their extreme values.
_PLATEAUS = 6
_PLATEAU = 0.02  # seconds
_STEPS = 50  # units; a lead that spans fewer has plateaus anyway
_MAINS = (50.0, 60.0)  # Hz
_MAINS_SHARE = 0.95  # of the power; clean recordings reach 0.64
# Microvolts: below, limb leads are consistent and no label can be wrong.
_CONSISTENT = 20.0


def check(recording: readers.Recording, rules: Rules = ANY) -> float:
  """Accepts a recording or raises.

  Args:
    recording: as read, before resampling.
    rules: what its corpus promises.

  Returns:
    The limb-lead residual (95th percentile over time of the largest violation
    of the Einthoven and Goldberger relations), microvolts; nan without all
    six limb leads.

  Raises:
    BadRecord: with the first reason found, in the order of the code below.
  """
  try:
    _check_frame(recording, rules)
    ecg = np.ascontiguousarray(recording.samples.T)  # [C, T]
    # Half seconds: any longer window than one second holds a whole one.
    width = int(recording.rate) // 2
    blocks = ecg[:, : ecg.shape[1] // width * width]
    blocks = blocks.reshape(len(ecg), -1, width)  # [C, blocks, width]
    low = blocks.min(axis=2).astype(np.int32)  # [C, blocks]
    high = blocks.max(axis=2).astype(np.int32)
    ends = ecg.min(axis=1), ecg.max(axis=1)  # [C] each
    _check_mains(recording, ecg)
    _check_scale(recording, blocks, low, high)
    _check_missing(recording, ecg, *ends)
    if rules.gain is not None and np.any(recording.gain != rules.gain):
      found = ', '.join(f'{gain:g}' for gain in sorted(set(recording.gain)))
      raise BadRecord('wrong_gain', f'{found} per mV, not {rules.gain:g}')
    _check_limiter(recording, ecg, *ends)
    _check_flat(recording, blocks, high - low)
    return _check_limb_leads(recording, ecg, rules.limb_limit)
  except BadRecord as error:
    raise BadRecord(error.reason, error.detail, recording.file) from None


def _names(recording, chosen) -> str:
  """Names of the leads where `chosen` [C] is true."""
  return ', '.join(itertools.compress(recording.leads, chosen))


def _check_frame(recording, rules):
  """Sampling rate and length."""
  rate, count = recording.rate, len(recording.samples)
  if rules.rate is not None and rate != rules.rate:
    raise BadRecord('wrong_rate', f'{rate:g} Hz, not {rules.rate:g}')
  if not _RATES[0] <= rate <= _RATES[1]:
    raise BadRecord('wrong_rate', f'{rate:g} Hz')
  if count < _SHORTEST * rate:
    raise BadRecord('too_short', f'{count} samples at {rate:g} Hz')
  if rules.seconds is not None and count != round(rules.seconds * rate):
    raise BadRecord(
      'wrong_length', f'{count / rate:g} s, not {rules.seconds:g}'
    )


def _check_missing(recording, ecg, low, high):
  """Samples marked as missing.

  Args:
    recording: for names.
    ecg: [C, T] int16.
    low: [C] its minimum.
    high: [C] its maximum.
  """
  missing = (low == INVALID) & (high < 32767)  # both ends: a limiter
  if missing.any():
    count = np.count_nonzero(ecg == INVALID)
    raise BadRecord('nan', f'{count} in lead {_names(recording, missing)}')


def _check_limiter(recording, ecg, low, high):
  """Leads that stay at the end of the range, or are cut off below it.

  Args:
    recording: for names and rate.
    ecg: [C, T] int16.
    low: [C] its minimum.
    high: [C] its maximum.
  """
  top, bottom = high == 32767, low <= -32767
  # A file that gives each lead the whole range touches both ends everywhere.
  whole_range = (top & bottom).all()
  shortest = max(3, round(_PLATEAU * recording.rate))
  coarse = high.astype(np.int32) - low < _STEPS
  cut = np.zeros(len(ecg), bool)
  for extreme, at_end in ((low, bottom), (high, top)):
    needed = np.where(at_end & ~whole_range, 1, _PLATEAUS)
    there = ecg == extreme[:, None]
    count = there.view(np.int8).sum(axis=1, dtype=np.int32)
    for lead in np.flatnonzero((count >= needed * shortest) & ~coarse):
      lengths = _run_lengths(there[lead])
      cut[lead] |= np.count_nonzero(lengths >= shortest) >= needed[lead]
  if cut.any():
    raise BadRecord('saturated', f'lead {_names(recording, cut)}')


def _run_lengths(condition: np.ndarray) -> np.ndarray:
  """Lengths of the runs of True in `condition` [T]."""
  edges = np.flatnonzero(np.diff(condition, prepend=False, append=False))
  return edges[1::2] - edges[::2]


@functools.lru_cache(maxsize=64)
def _mains_basis(rate: float) -> np.ndarray:
  """[one second, 1 to 5]: orthonormal offset, then cosines and sines.

  Of the mains frequencies that the rate tells from an ECG, that is, which do
  not alias below 30 Hz.
  """
  time = np.arange(int(rate)) / rate
  columns = [np.ones_like(time)]
  for frequency in _MAINS:
    alias = abs(frequency - rate * round(frequency / rate))
    if alias >= 30:
      phase = 2 * np.pi * alias * time
      columns += [np.cos(phase), np.sin(phase)]
  basis, weight = np.linalg.qr(np.stack(columns, axis=1))
  present = np.abs(np.diagonal(weight)) > 1e-6 * abs(weight[0, 0])
  return basis[:, present].astype(np.float32)  # no sine at half the rate


def _check_mains(recording, ecg):
  """Leads with mains hum and nothing else.

  Args:
    recording: for names and rate.
    ecg: [C, T] int16.
  """
  basis = _mains_basis(recording.rate)
  seconds = ecg[:, : ecg.shape[1] // len(basis) * len(basis)]
  seconds = seconds.reshape(len(ecg), -1, len(basis))
  some = seconds[:, :: max(1, seconds.shape[1] // 3)]
  if (_mains_share(some.astype(np.float32), basis) > _MAINS_SHARE).any():
    hum = _mains_share(seconds.astype(np.float64), basis) > _MAINS_SHARE
    if hum.any():
      raise BadRecord('mains', f'lead {_names(recording, hum)}')


def _mains_share(seconds, basis) -> np.ndarray:
  """[C] share of the power of `seconds` [C, n, one second] that is hum."""
  parts = np.square(seconds @ basis).sum(axis=1)  # [C, columns]
  total = np.vecdot(seconds, seconds).sum(axis=1)
  # The floor keeps the rounding of a large offset from counting as hum.
  power = np.maximum(total - parts[:, 0], 1e-6 * total + 1e-9)
  return parts[:, 1:].sum(axis=1) / power


def _check_scale(recording, blocks, low, high):
  """Amplitudes of the size of an ECG.

  Args:
    recording: for the gain.
    blocks: [C, blocks, width] int16, half seconds.
    low: [C, blocks] minimum of each, int32.
    high: [C, blocks] maximum.
  """
  if low.min() == INVALID:
    recorded = blocks != INVALID
    low = blocks.min(axis=2, where=recorded, initial=32767).astype(np.int32)
  even = low.shape[1] // 2 * 2
  seconds = np.maximum(high[:, :even:2], high[:, 1:even:2])
  seconds = seconds - np.minimum(low[:, :even:2], low[:, 1:even:2])
  typical = np.sort(seconds, axis=1)[:, 3 * even // 8] / recording.gain  # [C]
  span = (high.max(axis=1) - low.min(axis=1)) / recording.gain
  live = span > 0
  if not live.any():
    return  # missing or flat, as the next checks say
  tests = [(typical, _SCALE_OF_A_SECOND, 'a typical second')]
  if high.max() < 32767 and low.min() > -32767:  # else nothing but the range
    tests.append((span, _SCALE, 'the whole recording'))
  for values, (least, most), what in tests:
    value = statistics.median(values[live].tolist())
    if 0 < value < least or value > most:
      raise BadRecord(
        'unit_scale', f'{value:.3g} mV peak to peak in {what} (median lead)'
      )


def _check_flat(recording, blocks, span):
  """Leads with a standard deviation under 1 uV for over a second.

  Only leads with a quiet half second are looked at sample by sample: a window
  of n samples with deviation s has no span over 2 sqrt(n) s, and no part of
  it, of m samples, a deviation over sqrt(n / m) s.

  Args:
    recording: for names, rate, gain and samples.
    blocks: [C, blocks, width] int16, half seconds.
    span: [C, blocks] their peak-to-peak values, units.
  """
  window = min(int(recording.rate) + 1, len(recording.samples))
  limit = _FLAT * recording.gain  # [C], units
  lead, block = np.nonzero(span <= 2 * window**0.5 * limit[:, None])
  if not lead.size:
    return
  deviation = blocks[lead, block].astype(np.float32).std(axis=1)
  quiet = deviation <= (window / blocks.shape[2]) ** 0.5 * limit[lead]
  flat = np.zeros(len(limit), bool)
  for k in np.unique(lead[quiet]):
    ecg = recording.samples[:, k] - recording.samples[:, k].mean()
    total = np.cumsum([ecg, ecg**2], axis=1)  # [2, T]
    total = np.concatenate([np.zeros((2, 1)), total], axis=1)
    mean, square = (total[:, window:] - total[:, :-window]) / window
    flat[k] = (square - mean**2).min() < limit[k] ** 2
  if flat.any():
    raise BadRecord('flat', f'lead {_names(recording, flat)}')


def _check_limb_leads(recording, ecg, limit):
  """Einthoven's and Goldberger's relations.

  Args:
    recording: for names and gain.
    ecg: [C, T] int16.
    limit: of the residual, microvolts, or None.

  Returns:
    The residual, see `check`.
  """
  if recording.leads[:6] != limb_leads.LIMB:
    return float('nan')
  limb = ecg[:6].astype(np.float32)
  limb -= recording.baseline[:6, None].astype(np.float32)
  limb *= (1 / recording.gain[:6, None]).astype(np.float32)
  violation = leads_lib.limb_residual(np, limb.T)  # [T]
  # As int16 (0.1 uV, at most 3.3 mV) the sort takes a sixth of the time.
  tenths = np.minimum(violation * 1e4 + 0.5, 32767).astype(np.int16)
  tenths = np.sort(tenths, kind='stable')
  residual = float(tenths[round(0.95 * (len(tenths) - 1))]) / 10
  if residual > _CONSISTENT:
    wrong = limb_leads.misplaced(recording.millivolts())
    if wrong:
      raise BadRecord(*wrong)
  if limit is not None and residual > limit:
    raise BadRecord(
      'limb_inconsistent', f'residual {residual:.0f} uV, at most {limit:g}'
    )
  return residual
