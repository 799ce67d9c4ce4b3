"""R-peak alignment: one ECG warped in time onto the beats of another.

Mixing two ECGs whose beats fall on different samples superposes two rhythms:
extra beats of half the height, which look like ectopy (docs/methods.md). So the
second parent's time axis is mapped piecewise linearly onto the first one's
beats before anything is mixed. Everything is [B, ...] and pure NumPy; R peaks
come from `ecg.beats.r_peaks`.

Where b has fewer beats than a, or its first beat comes sooner, a map that is
clipped to the record would stand still, and the child would end or begin in a
straight line. So b's whole beats are used again, from the first one on; the map
jumps between T and the next P.
"""

from collections.abc import Sequence

import numpy as np

MIN_BEATS = 3
RR_RATIO = (0.8, 1.25)  # of mean RR intervals that may be mapped on each other
DIASTOLE = 0.6  # of an RR interval behind R: between T and the next P


def pad_peaks(peaks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """Peaks of N records as one array.

  Args:
    peaks: N arrays of times in samples, ascending.

  Returns:
    [N, P] times, inf behind the last; [N] their numbers.
  """
  count = np.array([len(times) for times in peaks], int)
  padded = np.full((len(peaks), max(count, default=0)), np.inf)
  for row, times in zip(padded, peaks):
    row[: len(times)] = times
  return padded, count


def mean_rr(peaks: np.ndarray, count: np.ndarray) -> np.ndarray:
  """Mean RR interval: [N, P] peaks, [N] numbers -> [N], nan below two beats."""
  rows = np.arange(len(peaks))
  enough = count >= 2
  span = np.full(len(peaks), np.nan)
  last = peaks[rows[enough], count[enough] - 1]
  span[enough] = (last - peaks[enough, 0]) / (count[enough] - 1)
  return span


def compatible(rr_a: np.ndarray, rr_b: np.ndarray) -> np.ndarray:
  """Whether intervals change by no more than `RR_RATIO`: [B], [B] -> [B]."""
  low, high = RR_RATIO
  ratio = rr_b / rr_a
  return (ratio >= low) & (ratio <= high)


def time_map(
  ours: np.ndarray,
  theirs: np.ndarray,
  count_a: np.ndarray,
  count_b: np.ndarray,
  length: int,
) -> np.ndarray:
  """Where in b the samples of a lie: beat i of b is put on beat i of a.

  A beat reaches from `DIASTOLE` of the RR interval before it to that of the
  interval behind it.
  Beats of a that b does not have, or not whole, get the others in turn.

  Args:
    ours: [B, P] peaks of a, see `pad_peaks`.
    theirs: [B, P'] peaks of b.
    count_a, count_b: [B] their numbers, at least `MIN_BEATS`.
    length: L, samples.

  Returns:
    [B, L] times in b, in samples within [0, L - 1].
  """
  time = np.arange(length, dtype=np.float64)
  begin_a, peak_a, end_a = _beats(ours, count_a)
  begin_b, peak_b, end_b = _beats(theirs, count_b)
  number = np.arange(peak_b.shape[1])
  whole = (begin_b >= 0) & (end_b <= length - 1)
  whole &= (number >= 1) & (number <= count_b[:, None])
  first = whole.argmax(axis=1)[:, None]
  beat_a = (time[None, :, None] >= end_a[:, None, :]).sum(axis=2)  # [B, L]
  beat_a = np.minimum(beat_a, peak_a.shape[1] - 1)
  beat_b = first + (beat_a - first) % whole.sum(axis=1)[:, None]
  at = lambda x, index: np.take_along_axis(x, index, axis=1)
  early = time < at(peak_a, beat_a)
  edge_a = np.where(early, at(begin_a, beat_a), at(end_a, beat_a))
  edge_b = np.where(early, at(begin_b, beat_b), at(end_b, beat_b))
  peak_a, peak_b = at(peak_a, beat_a), at(peak_b, beat_b)
  share = (time - peak_a) / (edge_a - peak_a)
  return np.clip(peak_b + share * (edge_b - peak_b), 0, length - 1)


def _beats(peaks: np.ndarray, count: np.ndarray):
  """Begin, R and end of beats; one before the first, some behind the last.

  Those follow at the mean RR interval, as if the record went on.

  Args:
    peaks: [B, P].
    count: [B].

  Returns:
    Three times [B, P + 2]; beat 1 is the first that is there.
  """
  rr = mean_rr(peaks, count)[:, None]
  number = np.arange(-2, peaks.shape[1] + 2)
  last = np.take_along_axis(peaks, count[:, None] - 1, axis=1)
  behind = last + (number - count[:, None] + 1) * rr
  before = peaks[:, :1] + number * rr
  inside = np.clip(number, 0, peaks.shape[1] - 1)
  whole = np.where(number < 0, before, peaks[:, inside])
  whole = np.where(number >= count[:, None], behind, whole)  # [B, P + 4]
  end = whole[:, :-1] + DIASTOLE * np.diff(whole, axis=1)
  return end[:, :-1], whole[:, 1:-1], end[:, 1:]


def warp(ecg: np.ndarray, time: np.ndarray) -> np.ndarray:
  """Resamples every lead by linear interpolation.

  Args:
    ecg: [B, L, C].
    time: [B, L] from `time_map`.

  Returns:
    [B, L, C] of the type of `ecg`.
  """
  left = np.minimum(time.astype(int), ecg.shape[1] - 2)
  weight = (time - left)[..., None].astype(ecg.dtype)
  take = lambda index: np.take_along_axis(ecg, index[..., None], axis=1)
  return (1 - weight) * take(left) + weight * take(left + 1)


def align(
  ecg_b: np.ndarray,
  peaks_a: np.ndarray,
  peaks_b: np.ndarray,
  count_a: np.ndarray,
  count_b: np.ndarray,
) -> np.ndarray:
  """b on the beats of a.

  Args:
    ecg_b: [B, L, C].
    peaks_a, peaks_b: [B, P] from `pad_peaks`.
    count_a, count_b: [B], at least `MIN_BEATS` each.

  Returns:
    [B, L, C].
  """
  time = time_map(peaks_a, peaks_b, count_a, count_b, ecg_b.shape[1])
  return warp(ecg_b, time)


def mean_beats(
  ecg: np.ndarray, peaks: Sequence[np.ndarray], before: int, after: int
) -> np.ndarray:
  """The mean beat of each record, for neighbours in signal space.

  Args:
    ecg: [N, L, C].
    peaks: N arrays of R times in samples.
    before, after: samples around R; beats that are not whole are left out.

  Returns:
    [N, before + after, C]; zero where there is no whole beat.
  """
  window = np.arange(-before, after)
  beats = np.zeros((len(ecg), len(window), ecg.shape[2]), ecg.dtype)
  for row, signal, times in zip(beats, ecg, peaks):
    centres = np.rint(times).astype(int)
    whole = (centres >= before) & (centres + after <= len(signal))
    if whole.any():
      row[:] = signal[centres[whole][:, None] + window].mean(axis=0)
  return beats
