"""What is wrong with signals: hum, amplitude, limiters, flat and limb leads.

Pure functions of N recordings of one shape at a time. A lead is looked at in
half seconds: any longer window than a second holds a whole one.
"""

import functools

import numpy as np

from ecgjax.ecg import leads
from ecgjax.ecg.recording import INVALID

TOP = 32767

_FLAT = 1e-3  # standard deviation, mV
# A limiter cuts every beat at one value: at least that many plateaus of 20 ms
# (and three samples). Clean leads have at most two at their extreme values.
_PLATEAUS = 6
_PLATEAU = 0.02  # seconds
_STEPS = 50  # units; a lead that spans fewer has plateaus anyway
_JUMP = 2.0  # mV, of a recorder that starts
_AT_ONCE = 0.02  # seconds
_TIMES_FURTHER = 2.0
_BLOCKS_TO_COMPARE = 4  # half seconds
_MAINS = (50.0, 60.0)  # Hz
_MAINS_SHARE = 0.95  # of the power; clean recordings reach 0.64


def half_seconds(ecg: np.ndarray, rate: float) -> np.ndarray:
  """[N, C, T] to [N, C, blocks, width], without the rest."""
  width = int(rate) // 2
  whole = ecg[:, :, : ecg.shape[2] // width * width]
  return whole.reshape(*ecg.shape[:2], -1, width)


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


def mains(ecg: np.ndarray, rate: float) -> np.ndarray:
  """Finds leads with mains hum and nothing else.

  Args:
    ecg: [N, C, T] int16.
    rate: Hz.

  Returns:
    [N, C] bool.
  """
  basis = _mains_basis(rate)
  seconds = ecg[:, :, : ecg.shape[2] // len(basis) * len(basis)]
  seconds = seconds.reshape(*ecg.shape[:2], -1, len(basis))
  some = seconds[:, :, :: max(1, seconds.shape[2] // 3)]
  hum = _mains_share(some.astype(np.float32), basis) > _MAINS_SHARE
  if hum.any():
    hum = _mains_share(seconds.astype(np.float64), basis) > _MAINS_SHARE
  return hum


def _mains_share(seconds, basis) -> np.ndarray:
  """[N, C] share of the power of [N, C, n, one second] that is hum."""
  parts = np.square(seconds @ basis).sum(axis=2)  # [N, C, columns]
  total = np.vecdot(seconds, seconds).sum(axis=2)
  # The floor keeps the rounding of a large offset from counting as hum.
  power = np.maximum(total - parts[..., 0], 1e-6 * total + 1e-9)
  return parts[..., 1:].sum(axis=2) / power


def spans(blocks, low, high) -> np.ndarray:
  """Returns peak-to-peak values of the recorded samples, in units.

  Args:
    blocks: [N, C, blocks, width] int16, half seconds.
    low: [N, C, blocks] minimum of each, int32.
    high: [N, C, blocks] maximum.

  Returns:
    [2, N, C]: of the whole recording, and of a second, the upper quartile over
    the seconds, which holds a beat down to 20 per minute.
  """
  if low.min() == INVALID:
    recorded = blocks != INVALID
    low = blocks.min(axis=3, where=recorded, initial=TOP).astype(np.int32)
  even = low.shape[2] // 2 * 2
  top = np.maximum(high[..., :even:2], high[..., 1:even:2])
  bottom = np.minimum(low[..., :even:2], low[..., 1:even:2])
  seconds = np.sort(top - bottom, axis=2)
  whole = high.max(axis=2) - low.min(axis=2)
  return np.array([whole, seconds[..., 3 * even // 8]])


def limited(ecg: np.ndarray, rate: float, low, high) -> np.ndarray:
  """Finds leads that stay at the end of the range, or are cut off below it.

  Args:
    ecg: [N, C, T] int16.
    rate: Hz.
    low: [N, C] minimum.
    high: [N, C] maximum.

  Returns:
    [N, C] bool.
  """
  top, bottom = high == TOP, low <= -TOP
  # A file that gives each lead the whole range touches both ends everywhere.
  whole_range = (top & bottom).all(axis=1, keepdims=True)
  shortest = max(3, round(_PLATEAU * rate))
  coarse = high.astype(np.int32) - low < _STEPS
  found = np.zeros(low.shape, bool)
  for extreme, at_end in ((low, bottom), (high, top)):
    needed = np.where(at_end & ~whole_range, 1, _PLATEAUS)
    there = ecg == extreme[..., None]
    count = there.view(np.int8).sum(axis=2, dtype=np.int32)
    for lead in np.argwhere((count >= needed * shortest) & ~coarse):
      lead = tuple(lead)
      lengths = _run_lengths(there[lead])
      found[lead] |= np.count_nonzero(lengths >= shortest) >= needed[lead]
  return found


def _run_lengths(condition: np.ndarray) -> np.ndarray:
  """Lengths of the runs of True in `condition` [T]."""
  edges = np.flatnonzero(np.diff(condition, prepend=False, append=False))
  return edges[1::2] - edges[::2]


def flat(ecg, rate: float, gain, blocks, span) -> np.ndarray:
  """Finds leads with a standard deviation under 1 uV for over a second.

  Only leads with a quiet half second are looked at sample by sample: a window
  of n samples with deviation s has no span over 2 sqrt(n) s, and no part of
  it, of m samples, a deviation over sqrt(n / m) s.

  Args:
    ecg: [N, C, T] int16.
    rate: Hz.
    gain: [N, C] units/mV.
    blocks: [N, C, blocks, width] int16, half seconds.
    span: [N, C, blocks] their peak-to-peak values, units.

  Returns:
    [N, C] bool.
  """
  window = min(int(rate) + 1, ecg.shape[2])
  limit = _FLAT * gain  # units
  found = np.zeros(limit.shape, bool)
  quiet = np.nonzero(span <= 2 * window**0.5 * limit[..., None])
  if not quiet[0].size:
    return found
  deviation = blocks[quiet].astype(np.float32).std(axis=1)
  share = (window / blocks.shape[3]) ** 0.5
  quiet = np.stack(quiet[:2], axis=1)[deviation <= share * limit[quiet[:2]]]
  for lead in set(map(tuple, quiet.tolist())):
    centred = ecg[lead] - ecg[lead].mean()
    total = np.cumsum([centred, centred**2], axis=1)  # [2, T]
    total = np.concatenate([np.zeros((2, 1)), total], axis=1)
    mean, square = (total[:, window:] - total[:, :-window]) / window
    found[lead] = (square - mean**2).min() < limit[lead] ** 2
  return found


def held_samples(ecg: np.ndarray) -> int:
  """Counts samples at the end of [T, C] that equal the last in every lead.

  At least 1; T where nothing ever changes.
  """
  differs = np.flatnonzero((ecg != ecg[-1]).any(axis=1))
  return len(ecg) - 1 - int(differs[-1]) if len(differs) else len(ecg)


def copied(ecg, low, high) -> np.ndarray:
  """Finds leads that equal another one, sample by sample.

  Args:
    ecg: [N, C, T] int16.
    low, high: [N, C] its extreme values.

  Returns:
    [N, C] bool.
  """
  found = np.zeros(low.shape, bool)
  alike = (low[:, :, None] == low[:, None]) & (
    high[:, :, None] == high[:, None]
  )
  for n, a, b in np.argwhere(np.triu(alike, 1)):
    if np.array_equal(ecg[n, a], ecg[n, b]):
      found[n, [a, b]] = True
  return found


def levels(ecg: np.ndarray) -> np.ndarray:
  """Where the leads lie: [N, C, T] to [N, C] medians of some 256 samples."""
  return np.median(ecg[:, :, :: max(1, ecg.shape[2] // 256)], axis=2)


def settled(ecg, rate: float, gain, span) -> np.ndarray:
  """Returns the first sample after a recorder's start, where it can be told.

  Some CODE-15 records jump by 10 mV in their first samples and need half a
  second to come back: half of their variance. That is told by a lead that
  moves further in its first 20 ms than twice its way in any later half second
  (five times there; under once in clean records, wander at the start or not).

  Args:
    ecg: [N, C, T] int16.
    rate: Hz.
    gain: [N, C] units/mV.
    span: [N, C, blocks] peak-to-peak values of the half seconds, units.

  Returns:
    [N] samples: half a second, or 0.
  """
  if span.shape[2] < _BLOCKS_TO_COMPARE:
    return np.zeros(len(ecg), int)
  first = ecg[:, :, : max(2, round(_AT_ONCE * rate))]
  jump = first.max(axis=2).astype(np.int32) - first.min(axis=2)  # [N, C]
  settles = jump > _TIMES_FURTHER * span[..., 1:].max(axis=2)
  settles &= jump > _JUMP * gain
  return settles.any(axis=1) * (int(rate) // 2)


def limb_residual(ecg, gain, baseline) -> tuple[np.ndarray, np.ndarray]:
  """Violation of the limb-lead relations: 95th percentile over time, largest.

  Args:
    ecg: [N, C, T] int16, six limb leads first.
    gain: [N, C] units/mV.
    baseline: [N, C] units.

  Returns:
    [N] and [N] microvolts, in steps of 0.1, at most 3277.
  """
  limb = ecg[:, :6].astype(np.float32)  # [N, 6, T]
  limb -= baseline[:, :6, None].astype(np.float32)
  limb *= (1 / gain[:, :6, None]).astype(np.float32)
  violation = leads.limb_residual(np, np.moveaxis(limb, 1, 2))  # [N, T]
  # As int16 the sort takes a sixth of the time.
  tenths = np.minimum(violation * 1e4 + 0.5, TOP).astype(np.int16)
  tenths = np.sort(tenths, axis=1, kind='stable')
  typical = tenths[:, round(0.95 * (tenths.shape[1] - 1))]
  return typical / 10, tenths[:, -1] / 10
