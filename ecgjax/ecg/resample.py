"""Other sampling rates, and int16 samples from anything.

Polyphase resampling with `scipy.signal.resample_poly`'s own filter (Kaiser,
beta 5, ten zero crossings a side), designed once per ratio.
"""

import fractions
import functools

import numpy as np

from ecgjax.ecg.recording import INVALID

_PEAK = 32000  # leaves room below the ends, which mean saturation


def fit_int16(
  values: np.ndarray, gain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Rounds samples to int16; a lead that does not fit gets a smaller gain.

  Args:
    values: [T, C] digital units around zero, nan where missing.
    gain: [C] units per millivolt.

  Returns:
    samples [T, C] int16, lead after lead in memory, `INVALID` where
    missing, and gain [C].
  """
  values = np.asarray(values).T  # [C, T]
  missing = ~np.isfinite(values)
  peak = np.abs(values).max(axis=1, initial=0, where=~missing)
  scale = np.minimum(1, _PEAK / np.maximum(peak, 1))
  with np.errstate(invalid='ignore'):
    samples = np.rint(values * scale[:, None].astype(values.dtype))
    samples = np.where(missing, INVALID, samples).astype(np.int16)
  return samples.T, gain * scale


@functools.lru_cache(maxsize=64)
def _filter(up: int, down: int) -> np.ndarray:
  """Taps of a low-pass filter at the lower of the two Nyquist rates."""
  import scipy.signal

  most = max(up, down)
  taps = scipy.signal.firwin(20 * most + 1, 1 / most, window=('kaiser', 5.0))
  return taps.astype(np.float32)


def ratio(rate: float, target: float) -> tuple[int, int]:
  """Returns whole numbers (up, down) with rate * up / down = target.

  Rates that no recorder has (a header may say 499.97) give the nearest ratio
  with a filter of sane length; the drift stays under one sample in 10 s.
  """
  exact = fractions.Fraction(str(target)) / fractions.Fraction(str(rate))
  nearest = exact.limit_denominator(10_000)
  return nearest.numerator, nearest.denominator


def resample_signal(ecg, rate: float, target: float, axis: int = 0):
  """Samples at another rate, float32.

  Args:
    ecg: any shape, along `axis` T samples around zero.
    rate: Hz.
    target: Hz; any rational multiple, e.g. 257 to 500.
    axis: that of the samples.

  Returns:
    ceil(T * target / rate) samples; as they are if the rates are equal.
  """
  import scipy.signal

  up, down = ratio(rate, target)
  if up == down:
    return ecg
  # The ends of a recording lie on a line, not at zero: no step there.
  return scipy.signal.resample_poly(
    ecg, up, down, axis=axis, window=_filter(up, down), padtype='line'
  )


def resample(recording, rate: float):
  """Returns a recording at another sampling rate.

  Args:
    recording: a `recording.Recording` that `validate.check` accepted.
    rate: Hz; any rational multiple, e.g. 257 to 500.

  Returns:
    The recording with ceil(T * rate / recording.rate) samples and baseline 0;
    the gain is as before, or smaller for a lead that would not fit in int16.

  Raises:
    ValueError: if samples are missing.
  """
  up, down = ratio(recording.rate, rate)
  if up == down:
    return recording
  if (recording.samples == INVALID).any():
    raise ValueError(f'{recording.file}: missing samples cannot be resampled')
  ecg = recording.samples.T.astype(np.float32)  # [C, T]
  ecg -= recording.baseline[:, None].astype(np.float32)
  ecg = resample_signal(ecg, recording.rate, rate, axis=1)
  samples, gain = fit_int16(ecg.T, recording.gain)
  return recording._replace(
    samples=samples, gain=gain, baseline=np.zeros_like(gain), rate=float(rate)
  )
