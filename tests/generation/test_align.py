"""R-peak alignment: the map, and the ghost beats that it prevents."""

import numpy as np
import pytest

from ecgjax.ecg import beats
from ecgjax.generation import align
from tests.simulator import simulated

LENGTH = 1000


def make_peaks(rows=6, seed=0):
  """Irregular rhythms of 40 to 120 beats/min, 5 to 20 beats in 1000 samples."""
  rng = np.random.Generator(np.random.Philox(seed))
  found = []
  for row in range(rows):
    rr = np.linspace(55, 140, rows)[row] * rng.uniform(0.8, 1.2, 40)
    times = np.cumsum(rr) - rr[0] * rng.uniform(0.1, 0.95)
    found.append(times[times < LENGTH - 1])
  return found


def reference_map(ours, theirs, length):
  """One pair, beat by beat."""

  def windows(peaks, before, behind):
    rr = (peaks[-1] - peaks[0]) / (len(peaks) - 1)
    peaks = np.concatenate([
      peaks[0] - rr * np.arange(before, 0, -1),
      peaks,
      peaks[-1] + rr * np.arange(1, behind + 1),
    ])  # fmt: skip
    return [
      (
        peaks[k - 1] + 0.6 * (peaks[k] - peaks[k - 1]),
        peaks[k],
        peaks[k] + 0.6 * (peaks[k + 1] - peaks[k]),
      )
      for k in range(1, len(peaks) - 1)
    ]

  donors = [
    (number, beat)
    for number, beat in enumerate(windows(theirs, 1, 1))
    if beat[0] >= 0 and beat[2] <= length - 1
  ]
  first = donors[0][0]
  times = np.full(length, np.nan)
  # Beat -1 is before the record, more than enough follow behind its end.
  for number, (begin, peak, end) in enumerate(windows(ours, 2, 40), -1):
    b = donors[(number - first) % len(donors)][1]
    for t in range(length):
      if begin <= t < peak:
        times[t] = np.interp(t, [begin, peak], b[:2])
      elif peak <= t < end:
        times[t] = np.interp(t, [peak, end], b[1:])
  return times


def test_map_equals_the_reference():
  peaks = make_peaks()
  padded, count = align.pad_peaks(peaks)
  other = np.roll(np.arange(len(peaks)), 1)
  found = align.time_map(padded, padded[other], count, count[other], LENGTH)
  for row, partner in enumerate(other):
    expected = reference_map(peaks[row], peaks[partner], LENGTH)
    assert not np.isnan(expected).any()
    np.testing.assert_allclose(found[row], expected, atol=1e-9)


def test_beats_land_on_beats_and_nothing_stands_still():
  peaks = make_peaks()
  padded, count = align.pad_peaks(peaks)
  other = np.arange(len(peaks))[::-1]  # the slowest on the fastest
  found = align.time_map(padded, padded[other], count, count[other], LENGTH)
  for row, partner in enumerate(other):
    sample = np.rint(peaks[row]).astype(int)
    slope = np.diff(peaks[partner]).max() / np.diff(peaks[row]).min()
    nearest = np.abs(found[row, sample][:, None] - peaks[partner]).min(axis=1)
    assert nearest.max() <= 0.5 * slope + 1e-9
  step = np.diff(found, axis=1)
  assert (step == 0).sum() == 0
  assert (step < 0).sum() <= sum(count)  # at most one jump back per beat


def test_a_record_on_itself_is_itself():
  padded, count = align.pad_peaks(make_peaks())
  found = align.time_map(padded, padded, count, count, LENGTH)
  for row, (times, number) in enumerate(zip(padded, count)):
    inside = np.arange(int(times[1]), int(times[number - 2]))
    np.testing.assert_allclose(found[row, inside], inside, atol=1e-9)


def test_warp_is_linear_interpolation():
  rng = np.random.default_rng(0)
  ecg = rng.normal(size=(3, 50, 2))
  time = rng.uniform(0, 49, (3, 50))
  time[:, 0], time[:, 1] = 0, 49
  found = align.warp(ecg, time)
  for b in range(3):
    for c in range(2):
      expected = np.interp(time[b], np.arange(50), ecg[b, :, c])
      np.testing.assert_allclose(found[b, :, c], expected, atol=1e-12)


def test_mean_rr_and_its_limits():
  padded, count = align.pad_peaks([[10, 110, 210], [5], [], [0, 80]])
  rr = align.mean_rr(padded, count)
  np.testing.assert_array_equal(rr, [100, np.nan, np.nan, 80])
  ours = np.full(5, 100.0)
  theirs = np.array([79.9, 80.0, 125.0, 125.1, np.nan])
  np.testing.assert_array_equal(
    align.compatible(ours, theirs), [False, True, True, False, False]
  )


def test_mean_beats():
  ecg = np.arange(60, dtype=float).reshape(1, 60, 1).repeat(2, axis=2)
  beats_of = align.mean_beats(ecg, [np.array([1.0, 20.4, 40.6, 58.0])], 5, 10)
  expected = np.arange(20 - 5, 20 + 10) / 2 + np.arange(41 - 5, 41 + 10) / 2
  np.testing.assert_array_equal(beats_of[0, :, 1], expected)
  nothing = align.mean_beats(ecg, [np.array([2.0])], 5, 10)
  np.testing.assert_array_equal(nothing, 0)


@pytest.mark.parametrize('name', ['NORM', 'LBBB', 'RBBB'])
def test_ghost_beats(noisy_classes, name):
  """R peaks in the mean of two records / the parents' mean."""
  ecg = noisy_classes.of(name).ecg
  assert len(ecg) == simulated.EACH
  peaks = [beats.r_peaks(x, noisy_classes.rate) for x in ecg]
  padded, count = align.pad_peaks(peaks)
  rr = align.mean_rr(padded, count)
  a, b = np.triu_indices(len(ecg), 1)
  keep = align.compatible(rr[a], rr[b])
  assert 20 < keep.sum() < len(a)
  a, b = a[keep], b[keep]
  warped = align.align(ecg[b], padded[a], padded[b], count[a], count[b])

  def ratio(partner):
    found = [beats.r_peaks(x, 100) for x in (ecg[a] + partner) / 2]
    return sum(map(len, found)) / ((count[a] + count[b]) / 2).sum()

  assert 0.97 <= ratio(warped) <= 1.05
  assert ratio(ecg[b]) > 1.15
