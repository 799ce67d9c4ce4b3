"""R-peak alignment: one ECG warped in time onto the beats of another.

Mixing two ECGs whose beats fall on different samples superposes two rhythms:
extra beats of half the height, which look like ectopy (vqvae.md 8). So the
second parent's time axis is mapped piecewise linearly onto the first one's
beats before anything is mixed. Everything is [B, ...] and pure NumPy; R peaks
come from `evaluation.beats.r_peaks`.
"""

from collections.abc import Sequence

import numpy as np

MIN_BEATS = 3
RR_RATIO = (0.8, 1.25)  # of mean RR intervals that may be mapped on each other


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
  ours: np.ndarray, theirs: np.ndarray, count: np.ndarray, length: int
) -> np.ndarray:
  """Where in b the sample of a lies: beat i of b is put on beat i of a.

  Args:
    ours: [B, P] peaks of a, ascending, at least `count` finite ones.
    theirs: [B, P'] peaks of b likewise.
    count: [B] number of beats that are mapped, at least 2.
    length: L, samples.

  Returns:
    [B, L] times in b, in samples within [0, L - 1]; slope 1 before the first
    and behind the last beat.
  """
  size = int(max(count))
  time = np.arange(length, dtype=np.float64)
  known = np.arange(size) < count[:, None]  # [B, N]
  ours = np.where(known, ours[:, :size], np.inf)
  theirs = np.where(known, theirs[:, :size], np.inf)
  passed = (time[None, :, None] >= ours[:, None, :]).sum(axis=2)  # [B, L]
  left = np.clip(passed - 1, 0, count[:, None] - 1)
  right = np.clip(left + 1, 0, count[:, None] - 1)
  at = lambda x, index: np.take_along_axis(x, index, axis=1)
  width = at(ours, right) - at(ours, left)
  between = (passed > 0) & (width > 0)
  slope = np.ones_like(width)
  np.divide(
    at(theirs, right) - at(theirs, left), width, out=slope, where=between
  )
  mapped = at(theirs, left) + slope * (time - at(ours, left))
  return np.clip(mapped, 0, length - 1)


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
  """b on the beats of a; as many as both have.

  Args:
    ecg_b: [B, L, C].
    peaks_a, peaks_b: [B, P] from `pad_peaks`.
    count_a, count_b: [B], at least `MIN_BEATS` each.

  Returns:
    [B, L, C].
  """
  count = np.minimum(count_a, count_b)
  return warp(ecg_b, time_map(peaks_a, peaks_b, count, ecg_b.shape[1]))


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
