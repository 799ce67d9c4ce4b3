"""What one recording holds, in numbers: from arrays, whatever their origin.

`measure` gives every fact of one recording as a flat dict; a fact that cannot
be told (a lead is absent, samples are missing, the rate is too low) is None.
"""

import numpy as np
from scipy import signal

from ecgjax.data.raw import amplitude_steps, signal_rules
from ecgjax.ecg import beats, leads
from ecgjax.ecg.recording import INVALID

_INDEPENDENT = leads.indices(leads.INDEPENDENT_LEADS)
_CHEST = tuple(range(6, 12))
MAINS = (50, 60)  # Hz
_SHARES = (40, 50, 100)  # Hz
_FAR_BELOW = 1e-6  # of the largest power density: 60 dB


def measure(
  counts: np.ndarray,
  gain: np.ndarray,
  baseline: np.ndarray,
  rate: float,
) -> dict:
  """Measures all facts of a recording of twelve leads.

  Args:
    counts: [T, 12] int16 in the order of `leads.LEADS`,
      `INVALID` where a sample is missing.
    gain: [12] counts per millivolt.
    baseline: [12] counts at zero millivolts.
    rate: Hz.

  Returns:
    Fact -> number, text or list; see the functions of this module.
  """
  missing = float((counts == INVALID).mean())
  facts = {'seconds': len(counts) / rate, 'rate': rate, 'missing': missing}
  if missing or len(counts) < rate:
    return facts  # the rest is not known
  counts = counts.astype(np.int32)
  microvolts = (counts - baseline) * (1e3 / gain)  # [T, 12]
  facts |= limb_facts(counts - np.rint(baseline).astype(int), gain)
  facts |= end_facts(counts, rate) | flat_facts(counts, rate)
  facts |= offset_facts(counts, microvolts)
  facts |= spectrum_facts(microvolts, rate)
  peaks = beats.r_peaks(microvolts / 1e3, rate)
  intervals = np.diff(peaks) / rate
  facts['bpm'] = 60 / float(intervals.mean()) if len(intervals) > 1 else None
  return facts | step_facts(counts, gain, rate)


def limb_facts(counts: np.ndarray, gain: np.ndarray) -> dict:
  """Measures how well Einthoven's and Goldberger's relations hold.

  Args:
    counts: [T, 12], zero at zero millivolts.
    gain: [12] counts per millivolt.

  Returns:
    `einthoven_uv`, the largest |I + III - II|; where the limb leads share a
    gain also `einthoven_counts`, `einthoven_over_one` (samples with more than
    one count) and, of r = 2 aVR + I + II, 2 aVL - I + III, 2 aVF - II - III
    in counts, `avr_low`, `avr_high`, `avr_mean`, `avl_mean`, `avf_mean`.
  """
  i, ii, iii, avr, avl, avf = (counts[:, k] for k in range(6))
  one, two, three = (counts[:, k] * (1e3 / gain[k]) for k in range(3))
  facts = {'einthoven_uv': float(np.abs(one + three - two).max())}
  if np.ptp(gain[:6]):
    return facts
  einthoven = np.abs(i + iii - ii)
  right = 2 * avr + i + ii
  return facts | {
    'einthoven_counts': int(einthoven.max()),
    'einthoven_over_one': int((einthoven > 1).sum()),
    'samples': len(counts),
    'avr_low': int(right.min()),
    'avr_high': int(right.max()),
    'avr_mean': float(right.mean()),
    'avl_mean': float((2 * avl - i + iii).mean()),
    'avf_mean': float((2 * avf - ii - iii).mean()),
  }


def end_facts(counts: np.ndarray, rate: float) -> dict:
  """Measures how a recording begins and ends.

  Returns:
    `held_start`, `held_end`: samples that equal the first or last in all
    leads, 1 where nothing is held; `last_step`: size of lead II's last step
    over the standard deviation of its steps; `start_share`: of the variance
    of the recording, what its first half second holds.
  """
  steps = np.diff(counts[:, 1])
  spread = float(steps.std())
  about = counts - counts.mean(axis=0)
  power = np.square(about, dtype=np.float64).sum(axis=1)
  return {
    'held_start': signal_rules.held_samples(counts[::-1]),
    'held_end': signal_rules.held_samples(counts),
    'last_step': abs(float(steps[-1])) / spread if spread else None,
    'start_share': float(power[: round(rate / 2)].sum() / max(power.sum(), 1)),
  }


def flat_facts(counts: np.ndarray, rate: float) -> dict:
  """Finds leads without signal.

  Returns:
    `flat_leads`: names of the leads that never change; `quiet_leads`: of
    those that do not change for a second or more, but do at other times.
  """
  flat, quiet = [], []
  for lead, name in enumerate(leads.LEADS):
    changes = np.flatnonzero(np.diff(counts[:, lead]))
    edges = np.concatenate([[-1], changes, [len(counts) - 1]])
    if not len(changes):
      flat.append(name)
    elif np.diff(edges).max() >= rate:
      quiet.append(name)
  return {'flat_leads': flat, 'quiet_leads': quiet}


def offset_facts(counts: np.ndarray, microvolts: np.ndarray) -> dict:
  """Measures offsets of the leads, and their share of the variance.

  Returns:
    `offset_uv`: largest |median| of a lead; `between_share`: share of the
    variance about the mean of all leads that lies between the leads' means;
    `mean_counts`: largest |mean| of a lead (below half a count where the mean
    was removed); `span_mv`: [12] peak-to-peak values.
  """
  means = microvolts.mean(axis=0)
  total = float(microvolts.var())
  return {
    'offset_uv': float(np.abs(np.median(microvolts, axis=0)).max()),
    'between_share': float(means.var()) / total if total else None,
    'mean_counts': float(np.abs(counts.mean(axis=0)).max()),
  }


def spectrum_facts(microvolts: np.ndarray, rate: float) -> dict:
  """Where the power lies. Welch's method: Hann windows of 2 s, half over.

  Returns:
    `mains_50`, `mains_60`: density of V1-V6 together at the line over the
    median of that from 2 to 5 Hz away; `high_db`: mean density of V1-V6 from
    160 to 200 Hz over that from 20 to 40 Hz, dB; `top_hz`: highest frequency
    whose density, in all leads together, is within 60 dB of the largest;
    `above_40`, `above_50`, `above_100`: share of the variance above so many
    Hz, in periodograms of the whole recording, and `below_half`: below 0.5 Hz;
    `wander`: power from 0.05 to 0.3 Hz over that from 0.6 to 1 Hz;
    `quick_above_50`: as `above_50`, of the differences of neighbours.
  """
  nyquist = rate / 2
  hz, density = signal.welch(
    microvolts, rate, nperseg=min(round(2 * rate), len(microvolts)), axis=0
  )
  chest = density[:, _CHEST].sum(axis=1)
  facts = {}
  for line in MAINS:
    away = np.abs(hz - line)
    around = (away >= 2) & (away <= 5)
    known = nyquist >= line + 5 and chest[around].min(initial=np.inf) > 0
    facts[f'mains_{line}'] = (
      float(chest[np.argmin(away)] / np.median(chest[around]))
      if known
      else None
    )
  low = chest[(hz >= 20) & (hz <= 40)].mean()
  high = chest[(hz >= 160) & (hz <= 200)]
  facts['high_db'] = None
  if nyquist >= 200 and low > 0 and high.mean() > 0:
    facts['high_db'] = float(10 * np.log10(high.mean() / low))
  every = density.sum(axis=1)
  facts['top_hz'] = float(
    hz[np.flatnonzero(every > _FAR_BELOW * every.max())][-1]
  )
  hz, power = signal.periodogram(microvolts, rate, axis=0)  # mean removed
  power = power.sum(axis=1)
  total = max(float(power.sum()), 1e-300)
  for above in _SHARES:
    known = nyquist > above
    facts[f'above_{above}'] = (
      float(power[hz > above].sum()) / total if known else None
    )
  facts['below_half'] = float(power[hz < 0.5].sum()) / total
  slow = float(power[(hz >= 0.6) & (hz <= 1)].sum())
  facts['wander'] = (
    float(power[(hz >= 0.05) & (hz <= 0.3)].sum()) / slow if slow else None
  )
  quick = power * np.sin(np.pi * hz / rate) ** 2
  facts['quick_above_50'] = (
    float(quick[hz > 50].sum() / max(quick.sum(), 1e-300))
    if nyquist > 50
    else None
  )
  return facts


def step_facts(counts: np.ndarray, gain: np.ndarray, rate: float) -> dict:
  """The recorder's amplitude step; see `amplitude_steps`.

  Returns:
    `step_uv`, `step_share`, `step_conversion` of a lattice of all samples;
    `phase_step_uv`, `phase_period`, `phase_share`, `phase_elsewhere` of one at
    every n-th sample, None if there is none; `spline_share` where that is so
    at every fifth (five samples are four of the source); `fives`: share of
    the samples that are multiples of five counts.
  """
  facts = dict.fromkeys(
    ('phase_step_uv', 'phase_period', 'phase_share', 'phase_elsewhere',
     'spline_share')
  )  # fmt: skip
  moving = [k for k in _INDEPENDENT if np.ptp(counts[:, k])]
  if not moving or np.ptp(gain[moving]):
    return facts | {'step_uv': None}
  some = counts[:, moving]
  unit = 1e3 / float(gain[moving[0]])  # uV
  lattice = amplitude_steps.find_lattice(some)
  facts |= {
    'step_uv': lattice.step * unit,
    'step_share': lattice.share,
    'step_conversion': lattice.conversion,
    'fives': amplitude_steps.multiples(some, 5),
  }
  phase = amplitude_steps.find_phase(some) if lattice.step == 1 else None
  if phase:
    facts |= {
      'phase_step_uv': phase.step * unit,
      'phase_period': phase.period,
      'phase_share': phase.share,
      'phase_elsewhere': phase.elsewhere,
    }
    if phase.period == 5 and phase.phase == 0 and len(counts) >= 3 * rate:
      facts['spline_share'] = amplitude_steps.spline_share(
        some, rate, rate * 4 / 5, phase.step
      )
  return facts
