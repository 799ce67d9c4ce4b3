"""Measurements on averaged beats, as one would take them with a ruler."""

import jax
import numpy as np

from ecgjax.ecg import leads as leads_lib
from ecgjax.simulator import simulator

BEFORE, AFTER = 0.30, 0.50  # s of an averaged beat, about R
PQ = (-0.060, -0.050)  # s, the level before a QRS of normal onset


def lead(beats, name):
  """[..., 12] to the values of one lead."""
  return beats[..., leads_lib.LEADS.index(name)]


def leads(beats, *names):
  return np.stack([lead(beats, name) for name in names], axis=-1)


def at(rate, *seconds):
  """Samples of an averaged beat, from seconds after R."""
  found = [round((second + BEFORE) * rate) for second in seconds]
  return found[0] if len(found) == 1 else slice(*found)


def beats(records, ectopic=0):
  """Averages the beats of every record. [N, (BEFORE + AFTER) rate, 12] mV.

  Args:
    records: `simulated.Records`.
    ectopic: which beats: 0 not ectopic, 1 PAC, 2 PVC.
  """
  rate, duration = records.rate, records.ecg.shape[1] / records.rate
  averages = []
  for ecg, r, kind in zip(records.ecg, records.truth.r, records.truth.ectopic):
    inside = (r > BEFORE + 0.01) & (r < duration - AFTER - 0.01)
    first = np.round(r[inside & (kind == ectopic)] * rate).astype(int)
    first -= round(BEFORE * rate)
    windows = [ecg[i : i + round((BEFORE + AFTER) * rate)] for i in first]
    averages.append(np.mean(windows, axis=0))
  return np.array(averages)


def from_pq(beats, rate, pq=PQ):
  """Beats relative to their level between two times before R."""
  return beats - beats[:, at(rate, *pq)].mean(axis=1, keepdims=True)


def qrs_span(beats, rate, amplitudes, latest):
  """Where any lead is steeper than 6 mV/s times the patient's amplitude.

  Args:
    latest: s after R, before the T wave is as steep.

  Returns:
    [N] first and [N] last time, s from R.
  """
  slope = np.abs(np.gradient(beats, 1 / rate, axis=1)).max(axis=2)
  window = at(rate, -0.11, latest)
  on, off = [], []
  for row, amplitude in zip(slope[:, window], amplitudes):
    steep = np.flatnonzero(row > 6 * amplitude)
    on.append(steep[0] / rate - 0.11)
    off.append(steep[-1] / rate - 0.11)
  return np.array(on), np.array(off)


def patients(seed, numbers) -> simulator.Patient:
  """Parameters of patients, as NumPy arrays."""

  def one(number):
    return simulator.patient_params(simulator.record_keys(seed, number, 0)[0])

  return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(np.asarray(numbers)))


def intervals(records):
  """RR intervals within each record: a list of arrays."""
  return [np.diff(r[~np.isnan(r)]) for r in records.truth.r]


def variation(records):
  """[N] coefficient of variation of the RR intervals."""
  return np.array([rr.std(ddof=1) / rr.mean() for rr in intervals(records)])
