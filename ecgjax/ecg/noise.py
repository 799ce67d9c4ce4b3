"""Noise and artefacts where they arise: at the electrodes.

Noise is drawn for the nine electrodes RA, LA, LL and C1-C6 and then projected
into the leads, so that it is as correlated between leads as in a recording and
keeps the relations of Einthoven and Goldberger. Any set of leads, given by
name, can receive additive noise. A lead that falls off needs more: the
potential that the electrode had before, see `lead_off`.

All functions are pure, work on one record, and are to be vmapped. Random
numbers use fixed slots of the key (40-59), apart from the simulator's others.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.draws import Draws, normal, uniform
from ecgjax.ecg.leads import LEADS, canonical, from_independent, indices
from ecgjax.runtime.shapes import Array, Float

ELECTRODES = ('RA', 'LA', 'LL', 'C1', 'C2', 'C3', 'C4', 'C5', 'C6')
WANDER_HZ = (0.05, 0.15, 0.30)


def electrode_matrix(leads: Sequence[str]) -> np.ndarray:
  """Returns how much each electrode contributes to each lead.

  I = LA - RA, II = LL - RA, Vi = Ci - (RA + LA + LL) / 3.

  Args:
    leads: names of C leads.

  Returns:
    [9, C] float32: lead tracings are `potentials @ matrix`.
  """
  matrix = np.zeros((9, 8))
  matrix[0, :2] = -1
  matrix[1, 0] = matrix[2, 1] = 1
  matrix[:3, 2:] = -1 / 3
  matrix[3:, 2:] = np.eye(6)
  matrix = np.asarray(from_independent(np, matrix))  # [9, 12]
  return matrix[:, indices(leads)].astype(np.float32)


def independent_leads(
  potentials: Float[Array, '9 L'],
) -> Float[Array, '8 L']:
  """Potentials [9, L] to the leads of `leads.INDEPENDENT_LEADS`, [8, L]."""
  right, left, foot = potentials[:3]
  centre = (right + left + foot) / 3  # Wilson's terminal
  limb = jnp.stack([left - right, foot - right])
  return jnp.concatenate([limb, potentials[3:] - centre])


def baseline_wander(
  draws, length: int, rate: float
) -> Float[Array, '9 {length}']:
  """Slow drift: three sines, common frequencies, own amplitudes and phases.

  Args:
    draws: `draws.Draws` of the record's key; slots 40-48.
    length: samples L.
    rate: Hz.

  Returns:
    [9, L] mV, 35 uV standard deviation of each amplitude.
  """
  time = jnp.arange(length) / rate
  sines, parts = [], []
  for k, hertz in enumerate(WANDER_HZ):
    amplitude = 0.035 * draws.normal(40 + k, (9,))
    hertz = hertz * (1 + 0.2 * draws.uniform(43 + k))
    phase = 2 * np.pi * draws.uniform(46 + k, shape=(9,))
    angle = 2 * np.pi * hertz * time
    # amplitude sin(angle + phase), with one sine a sample in place of nine.
    sines += [jnp.sin(angle), jnp.cos(angle)]
    parts += [amplitude * jnp.cos(phase), amplitude * jnp.sin(phase)]
  return jnp.einsum(
    'fe,fl->el', jnp.stack(parts), jnp.stack(sines), precision='highest'
  )


def muscle(draws, length: int, rate: float) -> Float[Array, '9 {length}']:
  """White noise of 8 uV per sample at any rate; slot 50. [9, L] mV."""
  del rate
  return 0.008 * normal(draws.key, 50, (9, length))


def mains(
  draws, length: int, rate: float, mains_hz: float = 50.0
) -> Float[Array, '9 {length}']:
  """Power line: one phase, own amplitude N(0, 4 uV); slots 51 and 52.

  Returns:
    [9, L] mV; zero where the rate cannot hold the frequency (a 50 Hz sine
    sampled at 100 Hz would be an artefact of its phase).
  """
  if rate <= 2 * mains_hz:
    return jnp.zeros((9, length))
  angle = 2 * np.pi * mains_hz * jnp.arange(length) / rate
  phase = 2 * np.pi * draws.uniform(52)
  return 0.004 * draws.normal(51, (9, 1)) * jnp.sin(angle + phase)


def electrode_motion(
  draws, length: int, rate: float
) -> Float[Array, '9 {length}']:
  """Jolts of single electrodes, one per 3 s.

  Each jolt picks an electrode, begins in the first four fifths of the record,
  rises within its time constant of 0.1-0.5 s, decays, and has an amplitude
  N(0, 0.4 mV). Slots 53-56.

  Returns:
    [9, L] mV.
  """
  count = max(1, round(length / rate / 3))
  key, shape = draws.key, (count, 1)
  onset = uniform(key, 53, 0, 0.8 * length / rate, shape)
  constant = uniform(key, 54, 0.1, 0.5, shape)
  amplitude = 0.4 * normal(key, 55, shape)
  electrode = jnp.floor(9 * uniform(key, 56, shape=(count,))).astype(int)
  since = jnp.maximum(jnp.arange(length) / rate - onset, 0) / constant
  jolt = amplitude * since * jnp.exp(1 - since)  # [count, L]
  return jnp.zeros((9, length)).at[electrode].add(jolt)


# What `add_noise` can add.
KINDS = {
  'baseline_wander': baseline_wander,
  'muscle': muscle,
  'mains': mains,
  'electrode_motion': electrode_motion,
}


def resting(
  draws, length: int, rate: float, mains_hz: float
) -> Float[Array, '9 {length}']:
  """Noise of a resting ECG: wander, muscle and mains. [9, L] mV."""
  return (
    baseline_wander(draws, length, rate)
    + muscle(draws, length, rate)
    + mains(draws, length, rate, mains_hz)
  )


def add_noise(
  key,
  ecg: Float[Array, 'L C'],
  *,
  kind: str,
  snr_db: float | tuple[float, float],
  rate: float,
  leads: Sequence[str] = LEADS,
) -> Float[Array, 'L C']:
  """Adds noise of one kind at a given signal-to-noise ratio.

  As an augmentation: `functools.partial(add_noise, kind=..., snr_db=(0, 24),
  rate=..., leads=...)` is `(key, ecg) -> ecg`.

  Args:
    key: random key of the record.
    ecg: [L, C] mV.
    kind: one of `KINDS`.
    snr_db: 10 log10 of the power of the tracing over the power of the noise,
      powers taken about the mean of each lead and averaged over the leads; a
      pair is a range to draw from uniformly (slot 57).
    rate: Hz.
    leads: names of the C leads; any subset.

  Returns:
    [L, C] mV. The limb leads keep their relations. A record stays clean where
    no electrode of its leads is jolted ('electrode_motion', few leads).

  Raises:
    ValueError: for an unknown kind, for mains at a rate that cannot hold it,
      or if `leads` does not fit `ecg`.
  """
  if kind not in KINDS:
    raise ValueError(f'noise {kind!r} is not one of {", ".join(KINDS)}')
  if kind == 'mains' and rate <= 100:
    raise ValueError(f'a tracing at {rate:g} Hz cannot hold 50 Hz mains')
  _check_leads(ecg, leads)
  draws = Draws.of(key, 9)
  decibel = draws.uniform(57, *snr_db) if isinstance(snr_db, tuple) else snr_db
  noise = KINDS[kind](draws, ecg.shape[0], rate)  # [9, L]
  noise = jnp.dot(noise.T, electrode_matrix(leads), precision='highest')
  power = jnp.mean(jnp.var(noise, axis=0))
  # No noise at all where no jolt hits an electrode of these leads.
  power = jnp.mean(jnp.var(ecg, axis=0)) / jnp.where(power > 0, power, 1)
  return ecg + jnp.sqrt(power * 10 ** (-decibel / 10)) * noise


def lead_off(
  key, ecg: Float[Array, 'L C'], *, rate: float, leads: Sequence[str] = LEADS
) -> Float[Array, 'L C']:
  """Takes one electrode off for a part of the record.

  Its potential is replaced by a drifting offset (slots 40-48, 58, 59), and all
  leads that use the electrode change: one chest lead, or, for a limb
  electrode, limb leads and, through Wilson's terminal, all chest leads. The
  relations of the limb leads survive.

  Potentials are relative to Wilson's terminal: chest leads give C1-C6, any two
  limb leads give RA, LA and LL. Only electrodes whose potential the leads
  determine can fall off.

  Args:
    key: random key of the record.
    ecg: [L, C] mV.
    rate: Hz.
    leads: names of the C leads.

  Returns:
    [L, C] mV.

  Raises:
    ValueError: if the leads determine no electrode (a single limb lead), or do
      not fit `ecg`.
  """
  _check_leads(ecg, leads)
  recover, electrodes = _recover(leads)
  draws = Draws.of(key, 9)
  draw = draws.uniform(58, shape=(3,))
  electrode = jnp.asarray(electrodes)[(draw[0] * len(electrodes)).astype(int)]
  length = ecg.shape[0]
  start = 0.9 * length * draw[1]
  stop = start + length * (0.1 + 0.4 * draw[2])
  position = jnp.arange(length)
  off = (position >= start) & (position < stop)
  potentials = jnp.dot(ecg, recover, precision='highest')  # [L, 9]
  drift = 0.3 * draws.normal(59) + 4 * baseline_wander(draws, length, rate)
  change = jnp.where(off, drift[electrode] - potentials[:, electrode], 0)
  return ecg + change[:, None] * jnp.asarray(electrode_matrix(leads))[electrode]


def _recover(leads):
  """Matrix [C, 9] from leads to potentials, and the electrodes it gives."""
  names = [canonical(name) for name in leads]
  recover = np.zeros((len(names), 9))
  limb = [k for k, name in enumerate(names) if not name.startswith('V')]
  electrodes = [2 + int(name[1]) for name in names if name.startswith('V')]
  for k, name in enumerate(names):
    if name.startswith('V'):
      recover[k, 2 + int(name[1])] = 1
  if len(limb) >= 2:  # any two of the six determine the others
    # Columns of the limb leads as functions of (RA, LA, LL), which sum to 0.
    matrix = electrode_matrix([names[k] for k in limb])[:3].astype(float)
    matrix = np.concatenate([matrix, np.ones((3, 1))], axis=1)
    recover[limb, :3] = np.linalg.pinv(matrix)[: len(limb)]
    electrodes += [0, 1, 2]
  if not electrodes:
    raise ValueError(
      f'leads {", ".join(names)} determine no electrode; lead_off needs a '
      'chest lead or two limb leads'
    )
  return recover.astype(np.float32), electrodes


def _check_leads(ecg, leads):
  if ecg.ndim != 2 or ecg.shape[1] != len(leads):
    raise ValueError(
      f'ecg has shape {ecg.shape}; expected (samples, {len(leads)} leads)'
    )
