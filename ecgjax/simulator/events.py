"""When the simulated heart beats: rhythm, ectopy, conduction delay, fiducials.

A record holds a fixed number K of events, so that shapes are static. An event
is an atrial and a ventricular contraction of which either may be absent: P
waves in fibrillation, the QRS of a blocked P wave. Times are in seconds from
the first sample; events may lie before the first and after the last sample.

P and QRS live in time: only the T wave and the end of ST scale with the RR
interval. (With kernels in beat phase, as in ECGSYN, the width of QRS would
follow the heart rate.)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.simulator import tables

# The window of a ventricular event begins .2 s before and ends .7 s after R.
BEFORE, AFTER = 0.2, 0.7
SHORTEST_RR = 0.32  # s, mean of the fastest rhythm (ventricular tachycardia)
REFRACTORY = 0.30  # s, no beat follows another sooner


class Events(NamedTuple):
  """One record's K events; per vmapped record, arrays gain a leading axis.

  Attributes:
    r: [K] R time, s.
    rr: [K] interval before the event, s.
    beat: [K] bool, the event has a QRS complex.
    ectopic: [K] int32, 0 no, 1 PAC, 2 PVC.
    p: [K] centre of the P wave, s.
    atrial: [K] bool, the event has a P wave.
    pr: [K] from P onset to QRS onset, s.
    stretch: [K] factor of the time axis of T and ST.
    shape: [] int32, row of the kernel tables, see `tables.SHAPES`.
  """

  r: jax.Array
  rr: jax.Array
  beat: jax.Array
  ectopic: jax.Array
  p: jax.Array
  atrial: jax.Array
  pr: jax.Array
  stretch: jax.Array
  shape: jax.Array


class Truth(NamedTuple):
  """What is known about a record; NaN where an event has no such wave.

  On- and offsets of P and T are two sigmas outside the first and last kernel
  (the tangent rule); those of QRS were measured on the neutral patient as the
  span steeper than 6 mV/s in any lead. All times in seconds from the first
  sample; events outside of the record are NaN.

  Attributes:
    r, qrs_on, qrs_off, t_on, t_peak, t_off, p_on, p_peak, p_off: [K].
    ectopic: [K] int32, 0 no, 1 PAC, 2 PVC.
    rate: [] mean ventricular rate, beats/min (NaN below two beats).
    pr, qrs, qt: [] means: PR over the record's conducted sinus beats (NaN
      without P waves), QRS and QT over its supraventricular beats (over all
      beats where there is none).
    rhythm_hz: [] frequency of flutter or fibrillation waves, NaN otherwise.
    territory: [] int32, of infarction or ST elevation, see `TERRITORIES`.
    factors: [7] int32.
  """

  r: jax.Array
  qrs_on: jax.Array
  qrs_off: jax.Array
  t_on: jax.Array
  t_peak: jax.Array
  t_off: jax.Array
  p_on: jax.Array
  p_peak: jax.Array
  p_off: jax.Array
  ectopic: jax.Array
  rate: jax.Array
  pr: jax.Array
  qrs: jax.Array
  qt: jax.Array
  rhythm_hz: jax.Array
  territory: jax.Array
  factors: jax.Array


def num_events(duration: float) -> int:
  """Events that always reach beyond the end of a record of `duration` s."""
  return math.ceil((duration + 1.3) / SHORTEST_RR) + 1


def _is(factors, label):
  return factors[tables.EXTRA] == tables.extra(label)


def _intervals(draws, patient, factors, count, bradycardia):
  """RR intervals [K] before ectopy, and the sinus interval."""
  k = jnp.arange(count)
  shape = (count,)
  sinus = jnp.clip(
    60 / patient.heart_rate * jnp.exp(0.06 * draws.normal(0)), 0.60, 1.20
  )
  slow = 60 / bradycardia * draws.uniform(60, 1.03, 1.27)
  sinus = jnp.where(_is(factors, 'SBRAD'), slow, sinus)
  sinus = jnp.where(_is(factors, 'STACH'), draws.uniform(61, 0.42, 0.58), sinus)
  turn = 2 * np.pi
  elapsed = k * sinus
  jitter = draws.normal(3, shape)
  respiratory = jnp.sin(turn * 0.25 * elapsed + draws.uniform(1, 0, turn))
  vasomotor = jnp.sin(turn * 0.10 * elapsed + draws.uniform(2, 0, turn))
  regular = sinus * (
    1 + 0.025 * respiratory + 0.02 * vasomotor + 0.006 * jitter
  )
  fibrillation = jnp.maximum(
    0.30, 0.82 * sinus * jnp.exp(0.24 * draws.normal(4, shape) - 0.03)
  )
  per_beat = jnp.array([2, 3, 4])[draws.integer(6, 0, 3, shape)]
  fixed = jnp.array([2, 3, 4, 4])[draws.integer(7, 0, 4)]
  conducted = jnp.where(draws.uniform(5) < 0.25, per_beat, fixed)
  flutter = conducted / patient.flutter_hz
  tachycardia = draws.uniform(63, SHORTEST_RR, 0.43) * (1 + 0.01 * jitter)
  escape = draws.uniform(64, 1.2, 1.7) * (1 + 0.006 * jitter)
  rhythm = factors[tables.RHYTHM]
  rr = jnp.where(rhythm == 1, fibrillation, regular)
  rr = jnp.where(rhythm == 2, flutter, rr)
  rr = jnp.where(_is(factors, 'VT'), tachycardia, rr)
  rr = jnp.where(_is(factors, '3AVB'), escape, rr)
  blocked = _is(factors, 'MOBITZ1') | _is(factors, 'MOBITZ2')
  return jnp.where(blocked, sinus, rr), sinus


def _ectopy(draws, factors, rr):
  """Premature beats and the pauses after them: RR [K], kind [K]."""
  k = jnp.arange(len(rr))
  shape = rr.shape
  kind = factors[tables.ECTOPY]
  period = draws.integer(8, 2, 7)
  offset = draws.integer(9, 0, period)
  ectopic = (kind > 0) & ((k + offset) % period == 0) & (k >= 1)
  coupling = jnp.where(
    kind == 2,
    draws.uniform(10, 0.55, 0.72, shape),
    draws.uniform(11, 0.60, 0.80, shape),
  )
  # In fibrillation and flutter the intervals around an ectopic beat are
  # unrelated, and a pause of 2 RR - coupling could be negative.
  before = jnp.maximum(REFRACTORY, coupling * rr)
  pause = jnp.where(kind == 2, 2 * rr - jnp.roll(before, 1), 1.08 * rr)
  after_ectopic = jnp.roll(ectopic, 1).at[0].set(False)
  rr = jnp.where(after_ectopic, jnp.maximum(REFRACTORY, pause), rr)
  rr = jnp.where(ectopic, before, rr)
  return rr, jnp.where(ectopic, kind, 0)


def schedule(
  draws, patient, factors, duration: float, bradycardia: float
) -> Events:
  """Returns the times of the events of one record.

  Args:
    draws: `draws.Draws` of the record key; slots 0-12, 17, 60-67.
    patient: `simulator.Patient`.
    factors: [7] int32.
    duration: s; K = `num_events(duration)`.
    bradycardia: beats/min, see `simulator.Config`.
  """
  count = num_events(duration)
  k = jnp.arange(count)
  rr, sinus = _intervals(draws, patient, factors, count, bradycardia)
  rr, ectopic = _ectopy(draws, factors, rr)
  # The lead-in of one window keeps the T wave of the beat before the record.
  first = -AFTER - draws.uniform(12) * rr[1]
  r = first + jnp.concatenate([jnp.zeros(1), jnp.cumsum(rr[1:])])

  shape = factors[tables.CONDUCTION]  # rows 0-2 of the kernel tables
  for name in ('RVH', 'LAFB', 'WPW', 'PACE'):
    row = tables.SHAPES.index(name)
    shape = jnp.where(_is(factors, name), row, shape)
  pr = jnp.where(
    factors[tables.AVB] > 0, draws.uniform(17, 0.225, 0.320), patient.pr
  )
  pr = jnp.where(_is(factors, 'WPW'), draws.uniform(62, 0.085, 0.115), pr)
  pr = jnp.where(_is(factors, 'MOBITZ1'), 0.17, jnp.minimum(pr, 0.55 * sinus))
  onset = jnp.asarray(tables.QRS_ON)[shape] * patient.width
  p = r - onset - pr + tables.P_ON

  # Second degree block: of n P waves the last is not conducted.
  period = draws.integer(65, 3, 6)
  place = (k + draws.integer(66, 0, 60)) % period
  wenckebach, mobitz2 = _is(factors, 'MOBITZ1'), _is(factors, 'MOBITZ2')
  dropped = (wenckebach | mobitz2) & (place == period - 1)
  delay = jnp.array([0, 0.08, 0.12, 0.14, 0])[place]
  delay = jnp.where(wenckebach, delay, 0)
  r, pr = r + delay, pr + delay
  # Third degree: atria and ventricles keep their own time.
  complete = _is(factors, '3AVB')
  own = -AFTER - 0.75 * draws.uniform(67) + 0.75 * k
  p = jnp.where(complete, own, p)

  fibrillating = _is(factors, 'VF')
  ventricular = fibrillating | _is(factors, 'VT')
  ectopic = jnp.where(_is(factors, 'VT'), 2, ectopic)
  sinus_rhythm = (factors[tables.RHYTHM] == 0) & ~ventricular
  qtf = patient.qtf
  qtf = jnp.where(_is(factors, 'LQT'), 1.35 * jnp.maximum(1, qtf), qtf)
  stretch = jnp.minimum(1.6, qtf * jnp.cbrt(jnp.clip(rr, 0.38, 1.5)))
  return Events(
    r=r,
    rr=rr,
    beat=~dropped & ~fibrillating,
    ectopic=ectopic,
    p=p,
    atrial=sinus_rhythm & (ectopic != 2),
    pr=jnp.where(complete, jnp.nan, pr),
    stretch=stretch,
    shape=shape,
  )


def truth(events: Events, patient, factors, duration: float) -> Truth:
  """Returns on- and offsets, intervals and rate of one record."""
  pvc = events.ectopic == 2
  row = jnp.where(pvc, tables.PVC, events.shape)  # [K]
  width = jnp.where(pvc, 1, patient.width)
  tau, sigma = jnp.asarray(tables.T_TAU)[row], jnp.asarray(tables.T_SIGMA)[row]
  on = jnp.asarray(tables.QRS_ON)[row] * width
  off = jnp.asarray(tables.QRS_OFF)[row] * width
  stretch = events.stretch
  t_on = jnp.maximum((tau[:, 0] - 2 * sigma[:, 0]) * stretch, off)
  t_off = (tau[:, 1] + 2 * sigma[:, 1]) * stretch

  def inside(time, present):
    return present & (time >= 0) & (time < duration)

  beat = inside(events.r, events.beat)
  atrial = inside(events.p, events.atrial)
  nan = jnp.nan
  r = jnp.where(beat, events.r, nan)
  p = jnp.where(atrial, events.p, nan)
  late = _is(factors, 'LAE')
  p_off = jnp.where(late, tables.LAE_TAU + 2 * tables.LAE_SIGMA, tables.P_OFF)
  beats = beat.sum()
  span = jnp.nanmax(r) - jnp.nanmin(r)
  some = jnp.where((beat & ~pvc).any(), beat & ~pvc, beat)

  def mean(values, where):
    # Sums, for XLA's 0 / 0 is the NaN wanted where there is no such beat.
    return jnp.where(where, values, 0).sum() / where.sum()

  conducted = beat & events.atrial & (events.ectopic == 0)
  rhythm = factors[tables.RHYTHM]
  rhythm_hz = jnp.where(rhythm == 1, patient.fibrillation_hz, nan)
  return Truth(
    r=r,
    qrs_on=r - on,
    qrs_off=r + off,
    t_on=r + t_on,
    t_peak=r + tau[:, 1] * stretch,
    t_off=r + t_off,
    p_on=p - tables.P_ON,
    p_peak=p,
    p_off=p + p_off,
    ectopic=events.ectopic,
    rate=jnp.where(beats > 1, 60 * (beats - 1) / span, nan),
    pr=mean(events.pr, conducted),
    qrs=mean(on + off, some),
    qt=mean(on + t_off, some),
    rhythm_hz=jnp.where(rhythm == 2, patient.flutter_hz, rhythm_hz),
    territory=patient.territory,
    factors=factors,
  )
