"""A physiological 12-lead ECG simulator.

A heart is a dipole that moves: Gaussian kernels in time for P, QRS and T of
each beat (`simulator_events` says when), a plateau for ST, a sawtooth for
fibrillation and flutter. Dower's matrix turns the vector into eight leads,
breathing turns it a little, and the electrodes add their noise. Patients
persist: the same id is the same heart in every record, on another day.

What this is not: a model of real patients. Shapes are schematic and were never
fitted to recordings, age and sex are unknown, and results on these tracings
say nothing about patients. Everything made here is to be labelled synthetic.

A tracing is a pure function of (seed, patient id, record id, factors,
recorder): bit-identical in a batch of any order and size. 100 Hz aliases a
little: simulate at 500 Hz and decimate where that matters.

Example::

  recorder = simulator.Config(rate=100, length=1000)
  ecg, truth = simulator.batch(
    0, patient_ids=[7, 7], record_ids=[0, 1],
    factors=[simulator.factors('NORM'), simulator.factors('AF', 'LBBB')],
    recorder=recorder)  # ecg [2, 1000, 12] mV; truth.r [2, K] R times in s

Sources: Dower 1968/1980 (lead field); Stridh & Sornmo 2001 (sawtooth);
McSharry et al. 2003 (Gaussian kernels, sinus rhythm with two oscillations).
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg import leads
from ecgjax.ecg.draws import Draws
from ecgjax.ecg.noise import independent_leads, resting
from ecgjax.ecg.vcg import DOWER
from ecgjax.simulator import events as events_lib
from ecgjax.simulator import tables, waves
from ecgjax.simulator.tables import (
  ALL_CLASSES,
  CLASSES,
  EXTRA_CLASSES,
  factors,
  labels,
)

__all__ = [
  'ALL_CLASSES', 'CLASSES', 'EXTRA_CLASSES', 'VERSION', 'Config', 'Patient',
  'Truth', 'batch', 'factors', 'ground_truth', 'heart_vector', 'labels',
  'patient_params', 'record_keys', 'simulate',
]  # fmt: skip

VERSION = '1.1.0'  # a change of any value that can come out raises it
Truth = events_lib.Truth


@dataclasses.dataclass(frozen=True)
class Config:
  """How ECGs are recorded: rate, duration, noise.

  Attributes:
    rate: sampling rate, 100-1000 Hz.
    length: samples.
    noise: factor of the electrode noise; 0 = noise-free.
    intra: variation between records of one patient, 0 (the same heart exactly,
      heart rate and rhythm aside) to 1.
    mains_hz: 50 or 60.
    bradycardia: beats/min below which SBRAD lies. 50 is PTB-XL's: it states
      SBRAD for half of the records below 50 and for one in twenty between 50
      and 60. 60 is the textbook's.
  """

  rate: float = 500.0
  length: int = 5000
  noise: float = 1.0
  intra: float = 0.5
  mains_hz: float = 50.0
  bradycardia: float = 50.0

  def __post_init__(self):
    if not 100 <= self.rate <= 1000:
      raise ValueError(f'rate is {self.rate}; the simulator does 100-1000 Hz')
    if self.length < 1:
      raise ValueError(f'length is {self.length}; give at least one sample')
    if not 0 <= self.intra <= 1:
      raise ValueError(f'intra is {self.intra}; it must lie in [0, 1]')
    if self.noise < 0:
      raise ValueError(f'noise is {self.noise}; it must not be negative')
    if not 40 <= self.bradycardia <= 60:
      raise ValueError(
        f'bradycardia is {self.bradycardia}; it must lie in [40, 60] beats/min'
      )

  @property
  def duration(self) -> float:
    return self.length / self.rate


class Patient(NamedTuple):
  """What a patient keeps over all records; scalars unless said otherwise.

  Attributes:
    angles: [3] rad, rotation of the heart about X, Y, Z.
    pvc_angles: [3] rad, origin of ectopic ventricular beats.
    amplitude: factor of QRS and T. p_gain, t_gain: factors of P and T.
    width: factor of the duration of QRS.
    heart_rate: beats/min. pr: s. qtf: factor of QT.
    electrodes: [8, 3] relative deviation of the lead field.
    territory: int32, see `tables.TERRITORIES`.
    flutter_hz, fibrillation_hz: Hz.
    jitter: [5, 3] relative deviation of the QRS kernels.
  """

  angles: jax.Array
  pvc_angles: jax.Array
  amplitude: jax.Array
  p_gain: jax.Array
  t_gain: jax.Array
  width: jax.Array
  heart_rate: jax.Array
  pr: jax.Array
  qtf: jax.Array
  electrodes: jax.Array
  territory: jax.Array
  flutter_hz: jax.Array
  fibrillation_hz: jax.Array
  jitter: jax.Array


def patient_params(key) -> Patient:
  """Draws a patient from the patient key, see `record_keys`."""
  return _patient(Draws.of(key, 24))


def _patient(draws) -> Patient:
  """Slots 10-23 of the patient key."""

  def positive(slot, deviation):
    return jnp.exp(deviation * jnp.clip(draws.normal(slot), -2.5, 2.5))

  return Patient(
    angles=jnp.array([0.10, 0.15, 0.20]) * draws.normal(10, (3,)),
    pvc_angles=0.8 * draws.normal(11, (3,)),
    amplitude=positive(12, 0.22),
    p_gain=jnp.exp(0.15 * draws.normal(13)),
    t_gain=jnp.exp(0.15 * draws.normal(14)),
    width=positive(15, 0.06),
    heart_rate=jnp.clip(70 + 11 * draws.normal(16), 48, 100),
    pr=jnp.clip(0.160 + 0.018 * draws.normal(17), 0.125, 0.195),
    qtf=jnp.clip(1 + 0.05 * draws.normal(18), 0.88, 1.12),
    electrodes=0.05 * draws.normal(19, (8, 3)),
    territory=draws.integer(20, 0, 3),
    flutter_hz=draws.uniform(21, 4.0, 5.4),
    fibrillation_hz=draws.uniform(22, 4.5, 8.0),
    jitter=0.08 * draws.normal(23, (5, 3)),
  )


def _another_day(draws, patient: Patient, intra) -> Patient:
  """The patient on the day of a record; slots 30-32 of the record key."""
  return patient._replace(
    angles=patient.angles + 0.15 * intra * draws.normal(30, (3,)),
    amplitude=patient.amplitude * jnp.exp(0.10 * intra * draws.normal(31)),
    electrodes=patient.electrodes + 0.03 * intra * draws.normal(32, (8, 3)),
  )


def _width(recorder) -> int:
  """Numbers per slot: one per event, or per entry of a [8, 3] deviation."""
  return max(24, events_lib.num_events(recorder.duration))


def _record(draws, patient, factors, noise, intra, recorder):
  """The record's dipole [3, L], its tracing [L, 12] (mV) and `Truth`."""
  patient = _another_day(draws, patient, intra)
  vector, events = waves.heart(draws, patient, factors, recorder)
  field = DOWER * (1 + patient.electrodes)  # [8, 3]
  # Not a matrix product: its precision would depend on the device.
  eight = sum(field[:, axis, None] * vector[axis] for axis in range(3))
  potentials = resting(draws, recorder.length, recorder.rate, recorder.mains_hz)
  eight += noise * independent_leads(potentials)  # [8, L]
  truth = events_lib.truth(events, patient, factors, recorder.duration)
  # Last, so that the relations between the leads hold exactly.
  return vector, leads.from_independent(jnp, eight.T), truth


def simulate(key, patient: Patient, factors, recorder: Config):
  """Simulates one record of one patient; may be vmapped and differentiated.

  Args:
    key: record key, see `record_keys`.
    patient: what `patient_params` returned.
    factors: [7] int32, checked (`tables.check`).
    recorder: `Config`.

  Returns:
    [L, 12] mV in the order of `leads.LEADS`, and `Truth`.
  """
  draws = Draws.of(key, _width(recorder))
  _, ecg, truth = _record(
    draws, patient, factors, recorder.noise, recorder.intra, recorder
  )
  return ecg, truth


def heart_vector(key, patient: Patient, factors, recorder: Config):
  """Returns the noise-free vectorcardiogram [L, 3] in mV of `simulate`."""
  draws = Draws.of(key, _width(recorder))
  return _record(draws, patient, factors, 0.0, recorder.intra, recorder)[0].T


def record_keys(seed: int, patient_id, record_id):
  """Returns the keys of a patient and of one of the patient's records.

  Slot 1 of the patient key is reserved for records.
  """
  base = jax.random.key(seed, impl='threefry2x32')
  patient_key = jax.random.fold_in(base, patient_id)
  record_key = jax.random.fold_in(patient_key, 1)
  return patient_key, jax.random.fold_in(record_key, record_id)


@functools.partial(jax.jit, static_argnames=('recorder', 'only_truth'))
def _batch(
  seed, patient_ids, record_ids, factors, noise, intra, recorder, only_truth
):
  def one(patient_id, record_id, factors):
    # One table of numbers for both keys, for the hash is slow to compile.
    keys = jnp.stack(record_keys(seed, patient_id, record_id))
    both = jax.vmap(lambda key: Draws.of(key, _width(recorder)))(keys)
    patient = _patient(jax.tree.map(lambda x: x[0], both))
    draws = jax.tree.map(lambda x: x[1], both)
    _, ecg, truth = _record(draws, patient, factors, noise, intra, recorder)
    return truth if only_truth else (ecg, truth)

  return jax.vmap(one)(patient_ids, record_ids, factors)


def _checked(seed, patient_ids, record_ids, factors, recorder, only_truth):
  patient_ids = np.asarray(patient_ids, np.int32)
  record_ids = np.asarray(record_ids, np.int32)
  factors = tables.check(factors)
  rows = {patient_ids.shape, record_ids.shape, factors.shape[:-1]}
  if len(rows) != 1 or patient_ids.ndim != 1:
    raise ValueError(
      f'patient_ids {patient_ids.shape}, record_ids {record_ids.shape} and '
      f'factors {factors.shape} must agree in their first axis'
    )
  # Noise and intra are traced: one compilation serves all their values.
  static = dataclasses.replace(recorder, noise=1.0, intra=0.0)
  rows = (patient_ids, record_ids, factors)
  alone = len(patient_ids) == 1
  if alone:  # XLA compiles a batch of one so that it differs by up to 1e-5 mV
    rows = tuple(np.repeat(x, 2, axis=0) for x in rows)
  with jax.threefry_partitionable(True):  # the other setting changes all values
    result = _batch(
      seed,
      *rows,
      float(recorder.noise),
      float(recorder.intra),
      static,
      only_truth,
    )
  return jax.tree.map(lambda x: x[:1], result) if alone else result


def batch(seed: int, patient_ids, record_ids, factors, recorder: Config):
  """Simulates records of patients.

  Args:
    seed: integer; another seed is another population.
    patient_ids: [B] integers.
    record_ids: [B] integers, position among the patient's records.
    factors: [B, 7] integers, see `factors`.
    recorder: `Config`; compiles once per rate, length and batch size.

  Returns:
    ecg [B, L, 12] float32 mV, and `Truth` with leading axis B.

  Raises:
    ValueError: for factors that exclude each other, or shapes that disagree.
  """
  return _checked(seed, patient_ids, record_ids, factors, recorder, False)


def ground_truth(
  seed: int, patient_ids, record_ids, factors, recorder: Config
) -> Truth:
  """Returns the truth of `batch` without its tracings, for stored records."""
  return _checked(seed, patient_ids, record_ids, factors, recorder, True)
