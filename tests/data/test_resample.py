"""Resampling against scipy on float64, and the fit into int16."""

import numpy as np
import pytest
import scipy.signal

from ecgjax.ecg import leads, resample
from ecgjax.ecg.recording import INVALID, Recording
from tests.data import damage


def _recording(samples, rate, gain=1000.0, baseline=0.0):
  return Recording(
    np.asarray(samples, np.int16),
    np.full(12, gain),
    np.full(12, baseline),
    rate,
    leads.LEADS,
    file='r',
  )


@pytest.mark.parametrize(
  'rate, target, up, down',
  [(500, 250, 1, 2), (500, 100, 1, 5), (257, 500, 500, 257), (1000, 500, 1, 2),
   (400, 500, 5, 4), (500, 204.8, 256, 625), (100, 100, 1, 1)],
)  # fmt: skip
def test_as_scipy_in_float64(rate, target, up, down):
  assert resample.ratio(rate, target) == (up, down)
  samples = damage.synthetic().samples[:3001] + 900
  found = resample.resample(_recording(samples, rate, baseline=40.0), target)
  expected = scipy.signal.resample_poly(
    samples - 40.0, up, down, axis=0, padtype='line'
  )
  if up == down:
    np.testing.assert_array_equal(found.samples, samples)
    return
  assert found.rate == target
  assert found.samples.shape == (-(-3001 * up // down), 12)
  assert found.samples.dtype == np.int16
  np.testing.assert_array_equal(found.gain, 1000)
  np.testing.assert_allclose(found.samples, expected, atol=0.51)
  np.testing.assert_allclose(found.millivolts(), expected / 1000, atol=6e-4)


def test_a_sine_comes_back():
  time = np.arange(5140) / 257
  sine = np.rint(1000 * np.sin(2 * np.pi * 7 * time))
  recording = _recording(np.repeat(sine[:, None], 12, axis=1), 257.0)
  found = resample.resample(recording, 500).samples[:, 0]
  expected = 1000 * np.sin(2 * np.pi * 7 * np.arange(len(found)) / 500)
  middle = slice(100, -100)
  np.testing.assert_allclose(found[middle], expected[middle], atol=2)


def test_overshoot_gets_a_smaller_gain_not_a_clip():
  step = np.repeat([-32000, 32000], 500)[:, None] * np.ones(12)
  step[:, 1:] /= 100
  found = resample.resample(_recording(step, 500.0), 1000)
  expected = scipy.signal.resample_poly(step, 2, 1, axis=0, padtype='line')
  assert np.abs(expected).max() > 33000
  assert np.abs(found.samples.astype(int)).max() == 32000
  assert found.gain[0] < 1000 and (found.gain[1:] == 1000).all()
  np.testing.assert_allclose(found.millivolts(), expected / 1000, atol=6e-4)


def test_missing_samples_are_not_resampled():
  samples = damage.synthetic().samples.copy()
  samples[5, 5] = INVALID
  with pytest.raises(ValueError, match='r: missing samples'):
    resample.resample(_recording(samples, 500.0), 250)


def test_fit_int16():
  values = np.array([[1.4, 1e6, np.nan], [-2.6, -4e6, np.inf]])
  samples, gain = resample.fit_int16(values, np.array([100.0, 200.0, 300.0]))
  np.testing.assert_array_equal(
    samples, [[1, 8000, -32768], [-3, -32000, -32768]]
  )
  np.testing.assert_allclose(gain, [100, 200 * 32000 / 4e6, 300])
  assert samples.dtype == np.int16
