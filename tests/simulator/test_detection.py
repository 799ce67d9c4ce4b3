"""What others find in the tracings: R peaks and the identity of patients."""

import warnings

import numpy as np
import pytest
import scipy.signal

from ecgjax.ecg import leads
from ecgjax.simulator import simulator
from tests.simulator import measure, simulated

RATE = 100
TOLERANCE = 0.050  # s


def matches(times, others):
  """How many of `times` have one of `others` within the tolerance."""
  if not len(others):
    return 0
  return int((np.abs(times[:, None] - others).min(axis=1) <= TOLERANCE).sum())


def magnitude(ecg):
  """Length of the vector of the eight leads, drift removed. [L]

  A QRS complex is upright in it whatever its axis: the detector marks the
  positive deflection, which in a QS complex is not the R time.
  """
  eight = ecg[:, leads.indices(leads.INDEPENDENT_LEADS)].astype(float)
  drift = scipy.signal.butter(2, 1, 'high', fs=RATE, output='sos')
  eight = scipy.signal.sosfiltfilt(drift, eight, axis=0)
  return np.sqrt((eight**2).mean(axis=1))


def test_a_detector_of_another_library_finds_the_r_peaks(noisy_classes):
  """Sensitivity and precision of sleepecg, 99 % overall, 97 % per class."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    sleepecg = pytest.importorskip('sleepecg')
  counts = {name: np.zeros(4) for name in simulator.CLASSES}
  for name, ecg, r in zip(
    noisy_classes.labels, noisy_classes.ecg, noisy_classes.truth.r
  ):
    r = r[~np.isnan(r)]
    found = sleepecg.detect_heartbeats(magnitude(ecg), RATE) / RATE
    inside = lambda x: x[(x > 0.1) & (x < 9.9)]
    counts[name] += [
      matches(inside(r), found),
      len(inside(r)),
      matches(inside(found), r),
      len(inside(found)),
    ]
  hits, beats, right, marks = sum(counts.values())
  assert beats > 2500
  assert hits / beats >= 0.99 and right / marks >= 0.99
  for name, (hits, beats, right, marks) in counts.items():
    if name not in ('AF', 'AFL'):
      assert hits / beats >= 0.97 and right / marks >= 0.97, name


def reidentified(intra):
  """Share of 64 patients whose other ECG has the most similar beat."""
  numbers = np.tile(np.arange(64), 2)
  records = simulated.simulate(
    ['NORM'] * 128, numbers, np.repeat([0, 1], 64),
    rate=RATE, noise=1.0, intra=intra,
  )  # fmt: skip
  beats = measure.beats(records)[:, 5:75]
  beats = (beats - beats.mean(axis=1, keepdims=True)).reshape(128, -1)
  beats /= np.linalg.norm(beats, axis=1, keepdims=True)
  similar = beats[:64] @ beats[64:].T
  return (similar.argmax(axis=1) == np.arange(64)).mean()


def test_patients_are_recognised_less_the_more_their_days_differ():
  shares = [reidentified(intra) for intra in (0.0, 0.5, 1.0)]
  assert shares[0] > shares[1] > shares[2]
  assert shares[0] > 0.85
  assert 0.4 < shares[1] < 0.9  # the default: neither trivial nor hopeless
  assert shares[2] > 5 / 64
