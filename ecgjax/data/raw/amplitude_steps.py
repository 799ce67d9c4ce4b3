"""The amplitude step of a recorder, and interpolation, seen in the counts.

A file that stores microvolts may hold a recorder that knows steps of 5 uV
only. Three traces of that are found here: values on a lattice (rounded or cut
to whole counts), values on a lattice at one phase of the sampling only (the
rest was interpolated), and a cubic spline through samples of a lower rate.
"""

from typing import NamedTuple

import numpy as np
from scipy import interpolate

_COARSEST, _FINEST = 50.0, 1.5  # counts, of a lattice that is looked for
_LINE = 0.6  # of the spectrum of the histogram; a lattice of 1.5 gives 0.41
_CONVERSIONS = {'exact': np.asarray, 'cut': np.trunc, 'rounded': np.rint}
_PHASES = range(2, 11)  # samples
_STEPS = range(2, 11)  # counts
_ON_LATTICE = 0.99  # of the samples


class Lattice(NamedTuple):
  """Steps that the values of a recording are multiples of.

  Attributes:
    step: counts; 1 where any count occurs.
    share: of the samples that are on the lattice.
    conversion: how multiples became counts: 'exact', 'cut' (towards zero) or
      'rounded'.
  """

  step: float
  share: float
  conversion: str


class Phase(NamedTuple):
  """A lattice that only every n-th sample is on.

  Attributes:
    step: counts.
    period: samples from one phase to its return.
    phase: the one whose samples are on the lattice.
    share: of its samples that are.
    elsewhere: largest share at another phase.
  """

  step: int
  period: int
  phase: int
  share: float
  elsewhere: float


def find_lattice(counts: np.ndarray) -> Lattice:
  """Finds the amplitude step of a recording.

  The histogram of values on a lattice of step q has a line at 1/q in its
  spectrum; the strongest line between steps of 1.5 and 50 counts is refined
  and tested sample by sample.

  Args:
    counts: [T, C] whole numbers, leads that do not follow from others.

  Returns:
    The lattice that at least 99 % of the samples are on, else step 1.
  """
  # The size: a lattice cut towards zero is shifted below zero.
  values, weight = np.unique(np.abs(counts), return_counts=True)
  nothing = Lattice(1.0, 1.0, 'exact')
  if len(values) < 10:
    return nothing
  values = values.astype(np.float64)
  histogram = np.bincount((values - values[0]).astype(np.int64), weight)
  size = 4 << int(len(histogram) - 1).bit_length()
  spectrum = np.abs(np.fft.rfft(histogram, size)) / weight.sum()
  first, last = int(size / _COARSEST), int(size / _FINEST)
  spectrum = np.concatenate([spectrum, spectrum[-2::-1]])  # as of real values
  band = spectrum[first : last + 1]
  if band.max() < _LINE:
    return nothing
  # Of equally strong multiples the lowest frequency is the step.
  at = first + int(np.argmax(band >= 0.98 * band.max()))
  while spectrum[at + 1] > spectrum[at]:
    at += 1
  low, peak, high = spectrum[at - 1 : at + 2]
  curvature = low - 2 * peak + high
  offset = 0.5 * (low - high) / curvature if curvature else 0.0
  step = float(size / (at + offset))
  candidates = [
    Lattice(trial, _share(values, weight, trial, conversion), conversion)
    for trial in dict.fromkeys([*(round(step, k) for k in range(3)), step])
    for conversion in _CONVERSIONS
    if trial > 1
  ]
  best = max(candidates, key=lambda lattice: lattice.share)
  return best if best.share >= _ON_LATTICE else nothing


def _share(values, weight, step, conversion) -> float:
  """Share of the samples that a multiple of `step` was converted to."""
  convert = _CONVERSIONS[conversion]
  nearest = np.rint(values / step)
  found = np.zeros(len(values), bool)
  for near in (nearest - 1, nearest, nearest + 1):
    # Multiples like 25 x 4.88 = 122 are whole; their floating-point form not.
    found |= convert(np.round(near * step, 6)) == values
  return float(weight[found].sum() / weight.sum())


def multiples(counts: np.ndarray, step: int) -> float:
  """Returns the share of multiples of `step`; chance is 1 / step."""
  return float((counts % step == 0).mean())


def find_phase(counts: np.ndarray) -> Phase | None:
  """Finds a lattice of whole counts at one phase of the sampling alone.

  Args:
    counts: [T, C] whole numbers, leads that are not constant and do not
      follow from others.

  Returns:
    Of the phases with 99 % of their samples on a lattice, and none of the
    others with 80 %, the one with the coarsest step; None if there is none.
  """
  found = None
  for step in _STEPS:
    on = (counts % step == 0).mean(axis=1)  # [T]
    if on.mean() < 1.1 / step:
      continue
    for period in _PHASES:
      whole = len(on) // period * period
      shares = on[:whole].reshape(-1, period).mean(axis=0)
      phase = int(np.argmax(shares))
      elsewhere = float(np.delete(shares, phase).max())
      if shares[phase] >= _ON_LATTICE and elsewhere < 0.8:
        found = Phase(step, period, phase, float(shares[phase]), elsewhere)
        break
  return found


def spline_share(
  counts: np.ndarray, rate: float, source_rate: float, step: float
) -> float:
  """Measures how much of a recording is a cubic spline through fewer samples.

  The samples at the source's rate are estimated by least squares, put on the
  lattice, joined by a cubic spline and compared; half a second at each end is
  left out.

  Args:
    counts: [T, C] whole numbers.
    rate: Hz.
    source_rate: lower rate, Hz; both share the first sample.
    step: counts, of the source.

  Returns:
    Share of the samples within half a count (plus 0.01 for ties).
  """
  time = np.arange(len(counts)) / rate
  source = np.arange(int(time[-1] * source_rate) + 1) / source_rate
  inner = source[2:-2]
  knots = np.concatenate([[time[0]] * 4, inner, [time[-1]] * 4])
  fitted = interpolate.make_lsq_spline(time, counts.astype(float), knots)
  recovered = step * np.rint(fitted(source) / step)
  edge = round(rate / 2)
  again = interpolate.CubicSpline(source, recovered)(time)
  return float((np.abs(again - counts)[edge:-edge] <= 0.51).mean())
