"""Beats of an ECG: R peaks, the median beat, QRS width, ST level.

Made to compare two versions of one record (an original and its reconstruction)
by the same rule. It is no delineator, and its widths are no diagnoses.
"""

from typing import NamedTuple

import numpy as np
from scipy import interpolate, ndimage, signal

from ecgjax.runtime.shapes import Array, Float, Int, Num

REFRACTORY = 0.25  # s, least distance of two beats
_BAND = (5, 25)  # Hz, of a QRS
_BELOW_NYQUIST = 0.9
_THRESHOLD = 0.3  # of the typical height of a QRS
_BLOCK = 1.5  # s, holds at least one beat from 40 beats/min on
_FINE = 1000.0  # Hz, where the median beat is sampled
_BEFORE, _AFTER = 0.20, 0.40  # s around R
_SEARCH = 0.12  # s around R in which QRS begins and ends
_SLOPE = 0.10  # of the steepest slope: QRS is what is steeper
_AFTER_QRS = 0.06  # s after QRS where the ST level is read


class MedianBeat(NamedTuple):
  """What `median_beat` measures on a record.

  Attributes:
    qrs_ms: width of QRS in all leads together.
    r_mv: [C] largest minus smallest value during QRS, mV.
    st_mv: [C] level 60 ms after QRS against that before it, mV.
  """

  qrs_ms: float
  r_mv: np.ndarray
  st_mv: np.ndarray


def r_peaks(ecg: Float[Array, 'L C'], rate: float) -> Float[np.ndarray, ' N']:
  """Finds the QRS complexes of a record, whatever their form.

  The envelope of all leads between 5 and 25 Hz has one hump per QRS; humps
  count from a third of the typical height on.

  Args:
    ecg: [L, C] mV.
    rate: Hz.

  Returns:
    [N] times of the humps, in samples (with a fraction), ascending.
  """
  top = min(_BAND[1], _BELOW_NYQUIST * rate / 2)  # 50 Hz is slow enough
  band = signal.butter(2, (_BAND[0], top), 'bandpass', fs=rate, output='sos')
  quick = signal.sosfiltfilt(band, ecg, axis=0)
  power = np.square(quick).sum(axis=1)
  height = np.sqrt(ndimage.gaussian_filter1d(power, 0.02 * rate))  # [L]
  block = round(_BLOCK * rate)
  blocks = height[: max(1, len(height) // block) * block]
  if len(blocks) >= block:
    typical = np.median(blocks.reshape(-1, block).max(axis=1))
  else:
    typical = blocks.max()
  peaks, _ = signal.find_peaks(
    height,
    height=max(_THRESHOLD * typical, 1e-9),
    distance=max(1, round(REFRACTORY * rate)),
  )
  left, middle, right = height[peaks - 1], height[peaks], height[peaks + 1]
  return peaks + (left - right) / (2 * (left - 2 * middle + right))


def match(
  found: Num[np.ndarray, ' N'],
  reference: Num[np.ndarray, ' M'],
  tolerance: float,
) -> tuple[Int[np.ndarray, ' P'], Int[np.ndarray, ' P']]:
  """Pairs events one to one, nearest first.

  Args:
    found: [N] times, ascending.
    reference: [M] times, ascending.
    tolerance: largest distance of a pair.

  Returns:
    positions in `found` and in `reference`, both [P].
  """
  distance = np.abs(found[:, None] - reference[None])
  pairs: list[tuple[int, int]] = []
  for flat in np.argsort(distance, axis=None, kind='stable'):
    i, j = divmod(int(flat), distance.shape[1])
    if distance[i, j] > tolerance:
      break
    if all(i != a and j != b for a, b in pairs):
      pairs.append((i, j))
  pairs.sort()
  i, j = np.array(pairs, int).reshape(-1, 2).T
  return i, j


def median_form(
  ecg: np.ndarray, rate: float, peaks: np.ndarray
) -> np.ndarray | None:
  """Returns the median beat of a record at 1 kHz, from 200 ms before R on.

  Args:
    ecg: [L, C] mV.
    rate: Hz.
    peaks: [N] from `r_peaks`.

  Returns:
    [600, C] mV; None with fewer than two whole beats.
  """
  time = np.arange(-_BEFORE, _AFTER, 1 / _FINE)
  centres = peaks / rate
  inside = (centres >= _BEFORE) & (centres + _AFTER <= (len(ecg) - 1) / rate)
  if inside.sum() < 2:
    return None
  spline = interpolate.CubicSpline(np.arange(len(ecg)) / rate, ecg)
  where = centres[inside, None] + time
  return np.median(spline(where), axis=0)  # [W, C]


def median_beat(
  ecg: np.ndarray, rate: float, peaks: np.ndarray
) -> MedianBeat | None:
  """Measures the median beat of a record.

  QRS is where the length of the slope over all leads exceeds a tenth of its
  largest value, going outwards from there.

  Args:
    ecg: [L, C] mV.
    rate: Hz.
    peaks: [N] from `r_peaks`.

  Returns:
    The measures; None with fewer than two whole beats.
  """
  beat = median_form(ecg, rate, peaks)
  if beat is None:
    return None
  time = np.arange(-_BEFORE, _AFTER, 1 / _FINE)
  slope = np.linalg.norm(np.gradient(beat, axis=0), axis=1)
  slope = ndimage.gaussian_filter1d(slope, 0.004 * _FINE)
  steep = np.abs(time) <= _SEARCH
  top = np.flatnonzero(steep)[np.argmax(slope[steep])]
  flat = slope < _SLOPE * slope[top]
  before, after = np.flatnonzero(flat[:top]), np.flatnonzero(flat[top:])
  first = before[-1] if len(before) else 0
  last = top + after[0] if len(after) else len(flat) - 1
  qrs = beat[first : last + 1]
  rest = beat[max(first - round(0.03 * _FINE), 0) : first + 1].mean(axis=0)
  st = beat[min(last + round(_AFTER_QRS * _FINE), len(beat) - 1)] - rest
  return MedianBeat(
    1000 * (last - first) / _FINE, qrs.max(axis=0) - qrs.min(axis=0), st
  )
