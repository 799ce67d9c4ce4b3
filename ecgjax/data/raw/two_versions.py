"""One recording published at two rates: is one made from the other?

PTB-XL 1.0.3 comes at 100 Hz and at 500 Hz. No resampler takes one to the
other: they lie 1.25 ms apart, and their filters differ.
"""

import numpy as np
from scipy import signal

_EDGE = 0.5  # seconds at both ends, left out
_BAND = (2.0, 35.0)  # Hz, where the delay is measured
_LAST = 6  # samples whose difference is told one by one


def delay_ms(slow: np.ndarray, fast: np.ndarray, rate: float, ratio: int):
  """Measures by how many milliseconds the features of `slow` are early.

  From the slope of the phase of the cross spectrum, weighted by its size.

  Args:
    slow: [T, C].
    fast: [ratio T, C], the first samples coincide.
    rate: sampling rate of `slow`, Hz.
    ratio: rate of the fast signal over that of the slow one.

  Returns:
    A number; positive where sample k of `slow` is the signal at a later time
    than k / rate.
  """
  size = len(slow)
  window = signal.windows.hann(size, sym=False)[:, None]
  low = np.fft.rfft(window * (slow - slow.mean(axis=0)), axis=0)
  window = signal.windows.hann(size * ratio, sym=False)[:, None]
  fast = fast[: size * ratio]
  high = np.fft.rfft(window * (fast - fast.mean(axis=0)), axis=0)
  hz = np.fft.rfftfreq(size, 1 / rate)
  inside = (hz >= _BAND[0]) & (hz <= _BAND[1])
  cross = (low[inside] * np.conj(high[: len(low)][inside])).sum(axis=1)
  angle, weight = 2 * np.pi * hz[inside], np.abs(cross)
  phase = np.angle(cross)
  slope = (weight * angle * phase).sum() / (weight * angle**2).sum()
  return 1e3 * float(slope)


def conversions(fast: np.ndarray, ratio: int) -> dict[str, np.ndarray]:
  """`fast` [ratio T, C] at the lower rate by the usual ways, each [T, C]."""
  boxes = fast[: len(fast) // ratio * ratio].reshape(-1, ratio, fast.shape[1])
  return {
    'every_fifth': fast[::ratio],
    'boxcar': boxes.mean(axis=1),
    'decimate_iir': signal.decimate(fast, ratio, axis=0),
    'decimate_fir': signal.decimate(fast, ratio, ftype='fir', axis=0),
    'fourier': signal.resample(fast, len(fast) // ratio, axis=0),
  }


def compare(
  slow: np.ndarray, fast: np.ndarray, ours: np.ndarray, rate: float
) -> dict:
  """Measures the differences of two versions of a recording.

  Args:
    slow: [T, 12] microvolts at `rate` Hz, as published.
    fast: [5 T, 12] microvolts at five times the rate.
    ours: [T, 12] microvolts, `fast` as ecgjax resamples it.
    rate: Hz.

  Returns:
    Root mean squares `rms_<conversion>` to `slow` in microvolts, half a
    second at both ends left out, `rms_ecgjax` and its share of the deviation
    of the recording; `largest_v2`, uV; `delay_ms`; `equal`: conversions that
    are `slow` to the bit; `last`: squares of the last differences of ours.
  """
  ratio = len(fast) // len(slow)
  edge = round(_EDGE * rate)
  inner = slice(edge, len(slow) - edge)
  facts, equal = {}, []
  for name, made in conversions(fast, ratio).items():
    facts[f'rms_{name}'] = _rms((made - slow)[inner])
    if np.array_equal(np.rint(made), slow):
      equal.append(name)
  difference = ours - slow
  deviation = float(np.std(slow))
  facts['rms_ecgjax'] = _rms(difference[inner])
  return facts | {
    'share_ecgjax': facts['rms_ecgjax'] / deviation,
    'largest_v2': float(np.abs(difference[inner, 7]).max()),
    'delay_ms': delay_ms(slow, fast, rate, ratio),
    'equal': equal,
    'last': np.square(difference[-_LAST:]).mean(axis=1).tolist(),
  }


def _rms(values) -> float:
  return float(np.sqrt(np.square(values).mean()))
