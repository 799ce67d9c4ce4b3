"""Planted amplitude steps, phases and splines are found, and no others."""

import numpy as np
import pytest
from scipy import interpolate

from ecgjax.data.raw import amplitude_steps


@pytest.fixture(scope='module')
def wave():
  """[2000, 3] like an ECG: long near zero, short and large elsewhere."""
  rng = np.random.default_rng(1)
  time = np.arange(2000)[:, None] / 400
  beats = np.exp(-0.5 * ((time % 0.8 - 0.3) / [0.01, 0.02, 0.015]) ** 2)
  slow = 40 * np.sin(2 * np.pi * 0.3 * time + [0, 1, 2])
  return 900 * beats * [1, -0.6, 0.4] + slow + rng.normal(0, 4, (2000, 3))


@pytest.mark.parametrize('step', [4.88, 5.0, 2.44, 10.0])
@pytest.mark.parametrize('conversion', ['cut', 'rounded'])
def test_lattice(wave, step, conversion):
  convert = {'cut': np.trunc, 'rounded': np.rint}[conversion]
  counts = convert(np.rint(wave / step) * step).astype(int)
  lattice = amplitude_steps.find_lattice(counts)
  assert lattice.step == pytest.approx(step, abs=0.004)
  assert lattice.share == 1
  whole = step == round(step)
  assert lattice.conversion == ('exact' if whole else conversion)


def test_no_lattice(wave):
  counts = np.rint(wave).astype(int)
  assert amplitude_steps.find_lattice(counts).step == 1
  assert amplitude_steps.find_phase(counts) is None
  # Of every second sample only: 5 of 10 values remain, no lattice of all.
  counts[::2] = counts[::2] // 5 * 5
  assert amplitude_steps.find_lattice(counts).step == 1


def upsampled(wave, order):
  """Samples of 5 counts at 400 Hz, interpolated to 500 Hz."""
  source = 5 * np.rint(wave / 5)
  time = np.arange(len(source)) / 400
  again = np.arange(int(time[-1] * 500) + 1) / 500
  if order == 1:
    made = interpolate.interp1d(time, source, axis=0)(again)
  else:
    made = interpolate.CubicSpline(time, source)(again)
  return np.rint(made).astype(int)


def test_cubic_spline_from_a_lower_rate(wave):
  counts = upsampled(wave, 3)
  found = amplitude_steps.find_phase(counts)
  assert found[:4] == (5, 5, 0, 1.0) and found.elsewhere < 0.5
  assert amplitude_steps.find_phase(counts[3:]).phase == 2
  assert amplitude_steps.spline_share(counts, 500, 400, 5) > 0.999
  linear = upsampled(wave, 1)
  assert amplitude_steps.find_phase(linear)[:3] == (5, 5, 0)
  assert amplitude_steps.spline_share(linear, 500, 400, 5) < 0.9


def test_multiples():
  assert amplitude_steps.multiples(np.array([[0, 5], [-10, 3]]), 5) == 0.75
