"""One recording at two rates, with a planted delay."""

import numpy as np
import pytest

from ecgjax.data.raw import two_versions


def band_limited(time):
  rng = np.random.default_rng(2)
  hz = rng.uniform(1, 30, (60, 12))
  phase = rng.uniform(0, 6, (60, 12))
  angle = 2 * np.pi * hz[None] * time[:, None, None] + phase
  return 50 * np.cos(angle).sum(axis=1)  # [T, 12]


@pytest.mark.parametrize('delay', [1.25, 0.0, -3.0])
def test_delay(delay):
  slow = band_limited(np.arange(1000) / 100 + delay / 1e3)
  fast = band_limited(np.arange(5000) / 500)
  found = two_versions.delay_ms(slow, fast, 100, 5)
  assert found == pytest.approx(delay, abs=0.02)


def test_compare():
  fast = np.rint(band_limited(np.arange(5000) / 500))
  slow = fast[::5]
  ours = slow.copy()
  ours[:, 7] += 12
  ours[-1] += 6
  facts = two_versions.compare(slow, fast, ours, 100)
  assert facts['equal'] == ['every_fifth'] and facts['rms_every_fifth'] == 0
  assert facts['rms_boxcar'] > 5
  assert facts['rms_ecgjax'] == pytest.approx(12 / np.sqrt(12))
  assert facts['share_ecgjax'] == pytest.approx(12**0.5 / slow.std())
  assert facts['largest_v2'] == 12
  expected = [12.0] * 5 + [(11 * 36 + 18**2) / 12]
  assert facts['last'] == pytest.approx(expected)
