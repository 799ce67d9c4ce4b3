"""The dipole of a beating heart: P, QRS, ST, T and fibrillation in mV.

Gaussian kernels in time around the events of `simulator_events`, a plateau for
ST, a sawtooth for atrial fibrillation and flutter. Arrays are components first,
[3, L]: XLA vectorises along the last axis.

Sources: Stridh & Sornmo 2001 (sawtooth); McSharry et al. 2003 (kernels). The
arguments `draws` are `draws.Draws` of the record's key, slots 13-24, 70-74.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.simulator import tables
from ecgjax.simulator.events import AFTER, BEFORE, schedule


def _plane(a, b, angle):
  """Rotates the coordinates (a, b) of a plane, a towards b."""
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return cos * a - sin * b, sin * a + cos * b


def _rotate(angles, vectors):
  """Rz Ry Rx (right-handed) applied to vectors [..., 3].

  Written without a matrix product, whose precision depends on the device.
  """
  x, y, z = (vectors[..., axis] for axis in range(3))
  y, z = _plane(y, z, angles[0])
  z, x = _plane(z, x, angles[1])
  x, y = _plane(x, y, angles[2])
  return jnp.stack([x, y, z], axis=-1)


class _Wave(NamedTuple):
  """Kernels: centres tau [N] s, widths sigma [N] s, vectors [N, 3] mV."""

  tau: jax.Array
  sigma: jax.Array
  vector: jax.Array


def _ventricles(draws, patient, factors, shape):
  """QRS and T kernels and the ST vector of the record's own beats."""
  extra = factors[tables.EXTRA]
  low = extra == tables.extra('LOWV')
  amplitude = jnp.where(low, 1, patient.amplitude)
  hypertrophy = extra == tables.extra('LVH')
  amplitude = jnp.where(hypertrophy, jnp.clip(amplitude, 1, 1.35), amplitude)
  gain = amplitude * jnp.asarray(tables.QRS_GAIN)[extra]
  qrs = jnp.asarray(tables.QRS_VECTOR)[shape] * gain * (1 + patient.jitter)
  gain = amplitude * patient.t_gain * (1 + 0.08 * draws.normal(13))
  depressed = factors[tables.ST] == 2
  gain *= jnp.where(depressed, 0.45, 1) * jnp.asarray(tables.T_GAIN)[extra]
  t_wave = jnp.asarray(tables.T_VECTOR)[shape] * gain
  territory = jnp.asarray(tables.TERRITORY)[patient.territory]
  st = (
    jnp.where(factors[tables.ST] == 1, draws.uniform(14, 0.15, 0.30), 0)
    * territory
    + jnp.where(depressed, draws.uniform(15, 0.14, 0.26), 0)
    * tables.STD_DIRECTION
    + jnp.where(hypertrophy, 1, 0) * tables.LVH_ST
  )
  # Infarction: the early forces point away from the territory (Q wave), R
  # wave and T wave are lost there, a little ST elevation stays.
  infarct = factors[tables.MI].astype(jnp.float32)
  towards = jnp.maximum((qrs * territory).sum(axis=-1), 0)  # [5]
  loss = jnp.stack(
    [
      0.42 * amplitude,
      0.45 * towards[1] + 0.105 * amplitude,
      0.15 * towards[2],
      jnp.zeros(()),
      jnp.zeros(()),
    ]
  )
  qrs -= infarct * loss[:, None] * territory
  towards = jnp.maximum((t_wave * territory).sum(axis=-1), 0)  # [2]
  t_wave -= infarct * 1.7 * towards[:, None] * territory
  st += infarct * 0.05 * territory
  turn = functools.partial(_rotate, patient.angles)
  qrs = _Wave(
    jnp.asarray(tables.QRS_TAU)[shape] * patient.width,
    jnp.asarray(tables.QRS_SIGMA)[shape] * patient.width,
    turn(qrs),
  )
  t_wave = _Wave(
    jnp.asarray(tables.T_TAU)[shape],
    jnp.asarray(tables.T_SIGMA)[shape],
    turn(t_wave),
  )
  return qrs, t_wave, turn(st)


def _ectopic_ventricles(draws, patient):
  """QRS and T kernels of ventricular ectopic beats."""
  turn = functools.partial(_rotate, patient.pvc_angles)
  qrs = 0.75 * patient.amplitude * tables.QRS_VECTOR[tables.PVC]
  gain = patient.t_gain * (1 + 0.08 * draws.normal(13))
  t_wave = 0.7 * patient.amplitude * gain * tables.T_VECTOR[tables.PVC]
  return (
    _Wave(tables.QRS_TAU[tables.PVC], tables.QRS_SIGMA[tables.PVC], turn(qrs)),
    _Wave(tables.T_TAU[tables.PVC], tables.T_SIGMA[tables.PVC], turn(t_wave)),
  )


def _sum(time, wave):
  """Sums the kernels of each event: time [K, W], waves of [K, N]. [K, 3, W]."""
  z = (time[:, None, :] - wave.tau[:, :, None]) / wave.sigma[:, :, None]
  bump = jnp.exp(-0.5 * z * z)  # [K, N, W]
  kernels = range(wave.tau.shape[1])
  return sum(bump[:, n, None] * wave.vector[:, n, :, None] for n in kernels)


def _window(centre, before: float, after: float, recorder):
  """Sample windows around event times.

  Returns:
    start: [K] first sample, clipped to the padding of `_overlap_add`.
    time: [K, W] s, from the event.
  """
  width = int(np.ceil((before + after) * recorder.rate)) + 1
  start = jnp.floor((centre - before) * recorder.rate).astype(jnp.int32)
  start = jnp.clip(start, -width, recorder.length)
  position = start[:, None] + jnp.arange(width)
  return start, position / recorder.rate - centre[:, None]


def _overlap_add(start, values, length: int):
  """Adds windows [K, 3, W] that begin at `start` [K]. [3, L]."""
  width = values.shape[2]
  buffer = jnp.zeros((3, length + 2 * width))
  dimensions = jax.lax.ScatterDimensionNumbers(
    update_window_dims=(1, 2),
    inserted_window_dims=(),
    scatter_dims_to_operand_dims=(1,),
  )
  buffer = jax.lax.scatter_add(
    buffer, (start + width)[:, None], values, dimensions
  )
  return buffer[:, width : width + length]


def _ventricular_activity(draws, patient, factors, events, recorder):
  """QRS, ST and T of all beats. [3, L] mV."""
  pvc = events.ectopic == 2

  def per_event(of_pvc, of_own):
    choose = pvc.reshape((-1,) + (1,) * of_own.ndim)
    return jnp.where(choose, of_pvc, of_own)  # [K, ...]

  *own, st = _ventricles(draws, patient, factors, events.shape)
  ectopic = _ectopic_ventricles(draws, patient)
  qrs, t_wave = jax.tree.map(per_event, ectopic, tuple(own))
  beat_gain = 1 + 0.03 * draws.normal(16, pvc.shape)
  stretch = events.stretch[:, None]
  onset = jnp.full(stretch.shape, tables.QRS_ON[tables.PACE]) * patient.width
  paced = (events.shape == tables.PACE) & ~pvc
  # One set of kernels per event: 5 of QRS, 2 of T, the spike of a pacemaker.
  wave = _Wave(
    jnp.concatenate([qrs.tau, t_wave.tau * stretch, -onset], axis=1),
    jnp.concatenate([
      qrs.sigma,
      t_wave.sigma * stretch,
      jnp.full(stretch.shape, max(0.001, 0.5 / recorder.rate)),
    ], axis=1),
    jnp.concatenate([
      qrs.vector * beat_gain[:, None, None],
      t_wave.vector,
      paced[:, None, None] * tables.PACE_SPIKE,
    ], axis=1),
  )  # fmt: skip
  wave = wave._replace(vector=wave.vector * events.beat[:, None, None])
  st = jnp.where((events.beat & ~pvc)[:, None], st, 0)  # [K, 3]

  start, time = _window(events.r, BEFORE, AFTER, recorder)
  j_point = jnp.asarray(tables.J_POINT)[events.shape] * patient.width
  plateau = jax.nn.sigmoid((time - j_point) / 0.008)
  plateau *= jax.nn.sigmoid((0.285 * stretch - time) / 0.022)
  total = plateau[:, None, :] * st[:, :, None] + _sum(time, wave)
  return _overlap_add(start, total, recorder.length)


def _atrial_activity(patient, factors, events, recorder):
  """P waves. [3, L] mV."""
  extra = factors[tables.EXTRA]
  left = (jnp.arange(2) == 1) & (extra == tables.extra('LAE'))  # [2]
  right = (jnp.arange(2) == 0) & (extra == tables.extra('RAE'))
  vector = jnp.where(
    left[:, None], jnp.array(tables.LAE_VECTOR), tables.P_VECTOR
  )
  vector *= patient.p_gain * jnp.where(right, tables.RAE_GAIN, 1)[:, None]
  low = tables.PAC_GAIN * vector * tables.PAC_DIRECTION
  sinus, low = (_rotate(patient.angles, v) for v in (vector, low))
  pac = events.ectopic == 1
  count = pac.shape + (2,)
  tau = jnp.where(left, tables.LAE_TAU, tables.P_TAU)
  sigma = jnp.where(left, tables.LAE_SIGMA, tables.P_SIGMA)
  wave = _Wave(
    jnp.broadcast_to(tau, count),
    jnp.broadcast_to(sigma, count),
    jnp.where(pac[:, None, None], low, sinus),
  )
  start, time = _window(events.p, 0.15, 0.15, recorder)
  total = _sum(time, wave) * events.atrial[:, None, None]
  return _overlap_add(start, total, recorder.length)


def _sawtooth(angle):
  """Sum of 2 sin(i angle) / (i pi), i = 1..5, by Chebyshev's recurrence."""
  twice, before, sine = 2 * jnp.cos(angle), 0.0, jnp.sin(angle)
  total = 0.0
  for i in range(1, 6):
    total += 2 / (i * np.pi) * sine
    before, sine = sine, twice * sine - before
  return total


def _fibrillation_and_flutter(draws, patient, factors, time):
  """Atrial waves of AF and AFL, and ventricular fibrillation. [3, L] mV."""
  turn = 2 * np.pi
  slow, quick, phase, swing = (
    draws.uniform(slot, 0, turn) for slot in (18, 19, 20, 21)
  )
  rhythm = factors[tables.RHYTHM]
  flutter = turn * patient.flutter_hz * time + phase
  fibrillation = (
    turn * patient.fibrillation_hz * time
    + 0.7 * jnp.sin(turn * 0.23 * time + slow)
    + 0.6 * jnp.sin(turn * 1.1 * time + quick)
    + phase
  )
  envelope = 1 + 0.35 * jnp.sin(turn * 0.4 * time + swing)
  envelope = jnp.where(rhythm == 1, envelope, 1)
  wave = envelope * _sawtooth(jnp.where(rhythm == 1, fibrillation, flutter))
  size = draws.uniform(22, 0.6, 1.8)
  direction = jnp.where(rhythm == 1, size * tables.AF_DIRECTION, 0)
  direction += jnp.where(rhythm == 2, 1, 0) * tables.AFL_DIRECTION
  sines, directions = _ventricular_fibrillation(draws, factors, time)
  waves = jnp.concatenate([wave[None], sines])  # [4, L]
  direction = _rotate(patient.angles, direction)
  directions = jnp.concatenate([direction[None], directions])  # [4, 3]
  # A matrix product, for XLA would otherwise compute each sine several times.
  return jnp.einsum('mc,ml->cl', directions, waves, precision='highest')


def _ventricular_fibrillation(draws, factors, time):
  """Three wandering sines of 4-7 Hz [3, L] and their directions [3, 3] mV."""
  present = factors[tables.EXTRA] == tables.extra('VF')
  hertz = draws.uniform(70, 4, 7, (3, 1))
  phase = draws.uniform(71, 0, 2 * np.pi, (3, 1))
  direction = draws.normal(72, (3, 3))
  direction /= jnp.linalg.norm(direction, axis=-1, keepdims=True)
  direction *= draws.uniform(73, 0.3, 0.5, (3, 1)) * present
  swing = jnp.sin(2 * np.pi * 0.3 * time + draws.uniform(74, 0, 2 * np.pi))
  sines = jnp.sin(2 * np.pi * hertz * time + phase) * (1 + 0.4 * swing)
  return sines, direction


def heart(draws, patient, factors, recorder):
  """Returns the noise-free dipole [3, L] in mV, Frank axes, and its events."""
  events = schedule(
    draws, patient, factors, recorder.duration, recorder.bradycardia
  )
  time = jnp.arange(recorder.length) / recorder.rate
  vector = (
    _ventricular_activity(draws, patient, factors, events, recorder)
    + _atrial_activity(patient, factors, events, recorder)
    + _fibrillation_and_flutter(draws, patient, factors, time)
  )
  hertz = draws.uniform(23, 0.18, 0.32)
  breath = jnp.sin(2 * np.pi * hertz * time + draws.uniform(24, 0, 2 * np.pi))
  x, y = _plane(vector[0], vector[1], 0.05 * breath)
  return jnp.stack([x, y, vector[2]]) * (1 + 0.025 * breath), events
