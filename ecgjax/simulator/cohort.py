"""Who has which ECGs: patients, dates and conditions of a simulated cohort.

Bundle branch block and infarction begin at some record of a patient and stay;
rhythm, ectopic beats and ST shifts come and go from record to record. Which
conditions stay is a choice (`incident`), so that one can simulate patients who
develop fibrillation between two ECGs.

Everything about a patient is a pure function of (seed, patient id): a smaller
cohort is the beginning of a larger one. Slots 90-119 of the patient's key and
90-99 of the record's.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from ecgjax.ecg import draws
from ecgjax.simulator import simulator, tables

MAX_RECORDS = 4
# Share of records with each condition.
PREVALENCE = {
  'AF': 0.06,
  'AFL': 0.03,
  'PAC': 0.06,
  'PVC': 0.08,
  '1AVB': 0.05,
  'LBBB': 0.04,
  'RBBB': 0.06,
  'STD': 0.06,
  'STE': 0.04,
  'MI': 0.10,
}
INCIDENT = ('conduction', 'mi')
_NAMES = tuple(tables.FACTORS)[: tables.EXTRA]


class Cohort(NamedTuple):
  """N records, those of a patient in a row, in order of time.

  Attributes:
    patient: [N] int32 ids, 0...
    record: [N] int32, position among the patient's records.
    time: [N] float32, days since the patient's first record.
    factors: [N, 7] int32, see `tables.FACTORS`.
  """

  patient: np.ndarray
  record: np.ndarray
  time: np.ndarray
  factors: np.ndarray


def draw(
  seed: int,
  num_patients: int,
  *,
  labels: str = 'multi',
  prevalence: Mapping[str, float] = PREVALENCE,
  incident: Collection[str] = INCIDENT,
) -> Cohort:
  """Draws a cohort; patients have 1 to `MAX_RECORDS` records.

  Args:
    seed: int, of the population; that of the tracings.
    num_patients: patients 0..num_patients - 1.
    labels: 'multi', conditions in any legal combination at their prevalence;
      or 'single', one of the eleven classes per record, all equally often.
    prevalence: class -> share of the RECORDS that have it (multi only); a
      class that is not named does not occur.
    incident: factors that begin at a record and stay (multi only).

  Raises:
    ValueError: for an unknown class or factor, or shares that cannot be.
  """
  if labels not in ('multi', 'single'):
    raise ValueError(f'labels is {labels!r}; choose multi or single')
  shares = _shares(prevalence, incident)
  patients = np.arange(num_patients, dtype=np.int32)
  with jax.threefry_partitionable(True):
    own, each = map(np.asarray, _uniforms(seed, patients))  # [P, S], [P, R, S]
  count = 1 + np.floor(MAX_RECORDS * own[:, 0]).astype(int)
  gaps = np.exp(5 + 1.2 * scipy.special.ndtri(own[:, 1:MAX_RECORDS]))
  gaps = np.insert(np.maximum(gaps, 1), 0, 0, axis=1)
  real = np.arange(MAX_RECORDS) < count[:, None]  # [P, R]
  if labels == 'single':
    classes = np.array([tables.factors(name) for name in tables.CLASSES])
    factors = classes[(len(classes) * each[..., 0]).astype(int)]
  else:
    factors = _conditions(own, each, count, shares, incident)
  patient, record = np.nonzero(real)
  return Cohort(
    patient.astype(np.int32),
    record.astype(np.int32),
    np.cumsum(gaps, axis=1)[real].astype(np.float32),
    tables.check(factors[real]),
  )


@jax.jit
def _uniforms(seed, patients):
  """Unit draws of every patient [P, 30] and of every record [P, R, 10]."""

  def of_record(patient, record):
    _, key = simulator.record_keys(seed, patient, record)
    return jax.vmap(draws.uniform, (None, 0))(key, 90 + jnp.arange(10))

  def of_patient(patient):
    key, _ = simulator.record_keys(seed, patient, 0)
    own = jax.vmap(draws.uniform, (None, 0))(key, 90 + jnp.arange(30))
    records = jnp.arange(MAX_RECORDS)
    return own, jax.vmap(of_record, (None, 0))(patient, records)

  return jax.vmap(of_patient)(patients)


def _conditions(own, each, count, shares, incident):
  """Factors [P, R, 7] of a cohort with several conditions per record."""
  factors = np.zeros((*each.shape[:2], len(tables.FACTORS)), int)
  for place, name in enumerate(_NAMES):
    unit = each[..., place]  # [P, R]
    if name in incident:
      unit = np.broadcast_to(own[:, 10 + place, None], unit.shape)
    bounds = np.cumsum(shares[name])
    value = np.searchsorted(bounds, unit, side='right') + 1
    value = np.where(value > len(bounds), 0, value)
    if name in incident:
      # The first record with the condition: 0 to count, where it is none.
      onset = np.floor((count + 1) * own[:, 20 + place])
      value = np.where(np.arange(MAX_RECORDS) < onset[:, None], 0, value)
    factors[..., place] = value
  atrial = factors[..., tables.RHYTHM] > 0
  pac = factors[..., tables.ECTOPY] == tables.FACTORS['ectopy'].index('PAC')
  factors[atrial & pac, tables.ECTOPY] = 0
  factors[atrial, tables.AVB] = 0
  return factors


def _shares(prevalence, incident):
  """Probability of each value 1, 2 of each factor when it is drawn."""
  strange = sorted(set(prevalence) - set(tables.CLASSES[1:]))
  if strange:
    raise ValueError(
      f'prevalence names {strange[0]!r}; the classes are '
      + ', '.join(tables.CLASSES[1:])
    )
  strange = sorted(set(incident) - set(_NAMES))
  if strange:
    raise ValueError(
      f'incident names {strange[0]!r}; the factors are {", ".join(_NAMES)}'
    )
  share = {name: prevalence.get(name, 0) for name in tables.CLASSES[1:]}
  sinus = 1 - share['AF'] - share['AFL']
  if sinus > 0:
    # Neither occurs in fibrillation and flutter.
    share['PAC'] /= sinus
    share['1AVB'] /= sinus
  shares = {}
  for name in _NAMES:
    values = np.array([share[value] for value in tables.FACTORS[name][1:]])
    # On average a condition that begins at a record is there half the time.
    shares[name] = values * 2 if name in incident else values
    if (values < 0).any() or shares[name].sum() > 1:
      raise ValueError(
        f'prevalence of factor {name} ({", ".join(tables.FACTORS[name][1:])}) '
        'must be between 0 and 1, 0.5 for one that is incident'
      )
  return shares
