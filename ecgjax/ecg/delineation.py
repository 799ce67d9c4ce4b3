"""The waves of a recording, and which of them define a label.

A wave is a stretch of time of one kind, on one lead or on all of them:

  p    P wave                        qrs  QRS complex
  pr   P onset to QRS onset          st   end of QRS to T onset
  t    T wave                        tq   end of T to the next QRS: where
  pac  premature atrial beat,             fibrillation and flutter waves stand
       P onset to end of QRS              alone
  pvc  premature ventricular beat,
       QRS onset to end of T

They come from a delineation by experts (`data.raw.ludb_waves`) or from the
simulator's ground truth.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.ecg.leads import LEADS

KINDS = ('p', 'pr', 'qrs', 'st', 't', 'tq', 'pac', 'pvc')
# Class -> kinds, by the class names of this project's tasks and simulator.
# Classes that no wave defines (rates, axes) are not here.
DEFINING = {
  # PTB-XL's superclasses. CD: bundle branch blocks widen QRS, AV blocks
  # lengthen PR. HYP: voltages of QRS, and the atria's P.
  'NORM': ('p', 'qrs', 't'),
  'MI': ('qrs', 'st', 't'),
  'STTC': ('st', 't'),
  'CD': ('pr', 'qrs'),
  'HYP': ('p', 'qrs'),
  **dict.fromkeys(('AF', 'AFIB', 'AFL', 'AFLT'), ('p', 'tq')),
  **dict.fromkeys(('1AVB', 'IAVB', '1dAVb', 'LPR'), ('pr',)),
  **dict.fromkeys(
    ('LBBB', 'RBBB', 'CLBBB', 'CRBBB', 'IRBBB', 'ILBBB', 'LAFB', 'IVCD',
     'LVH', 'RVH', 'LOWV', 'LVOLT'),
    ('qrs',),
  ),
  **dict.fromkeys(('STD', 'STD_', 'STE', 'STE_'), ('st',)),
  **dict.fromkeys(('TWI', 'INVT', 'TInv', 'TAb', 'NT_'), ('t',)),
  **dict.fromkeys(('LAE', 'RAE', 'LAO/LAE', 'RAO/RAE'), ('p',)),
  'LQT': ('qrs', 'st', 't'),
  'WPW': ('pr', 'qrs'),
  'PAC': ('pac',),
  'PVC': ('pvc',),
}  # fmt: skip


class Wave(NamedTuple):
  """A stretch of time of one kind, on one lead or on all.

  Attributes:
    kind: one of `KINDS`.
    lead: canonical name, or None for all leads.
    on, off: seconds from the first sample.
  """

  kind: str
  lead: str | None
  on: float
  off: float


class Waves(NamedTuple):
  """The waves of one recording, and which kinds could be marked at all.

  Attributes:
    waves: all of them.
    span: lead -> (first, last) second within which every wave is marked.
    kinds: those that would have been marked, had they been there.
  """

  waves: tuple[Wave, ...]
  span: Mapping[str, tuple[float, float]]
  kinds: tuple[str, ...]


def masks(
  known: Waves,
  kinds: Sequence[str],
  leads: Sequence[str],
  rate: float,
  length: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Marks the samples inside waves of some kinds, and those to be judged.

  Args:
    known: about the recording.
    kinds: whose union is asked for.
    leads: C names.
    rate: Hz.
    length: samples.

  Returns:
    inside [L, C] and span [L, C], bool; inside is within span.
  """
  time = np.arange(length) / rate
  span = np.zeros((length, len(leads)), bool)
  for column, lead in enumerate(leads):
    first, last = known.span.get(lead, (np.inf, -np.inf))
    span[:, column] = (time >= first) & (time <= last)
  inside = np.zeros_like(span)
  for wave in known.waves:
    if wave.kind in kinds:
      rows = (time >= wave.on) & (time <= wave.off)
      columns = np.array([wave.lead in (None, name) for name in leads], bool)
      inside[np.ix_(rows, columns)] = True
  return inside & span, span


def delineate(
  lead: str | None, events: Sequence[tuple[str, float, float]]
) -> list[Wave]:
  """Returns the waves of one lead and the stretches between them.

  Args:
    lead: canonical name, or None for all leads.
    events: ('p', 'qrs' or 't', onset, end in seconds), in any order.

  Returns:
    The events as waves, and `pr`, `st` and `tq` where neighbours allow it: a
    P wave right before a QRS complex, a T wave right after it, and nothing
    but P waves from T to the next QRS.
  """
  events = sorted(events, key=lambda event: event[1])
  waves = [Wave(kind, lead, on, off) for kind, on, off in events]
  found = list(waves)
  for first, second in zip(waves, waves[1:]):
    if (first.kind, second.kind) == ('p', 'qrs'):
      found.append(Wave('pr', lead, first.on, second.on))
    if (first.kind, second.kind) == ('qrs', 't'):
      found.append(Wave('st', lead, first.off, second.on))
  end_of_t = None  # while nothing but P waves follows
  for wave in waves:
    if wave.kind == 't':
      end_of_t = wave.off
    elif wave.kind == 'qrs':
      if end_of_t is not None:
        found.append(Wave('tq', lead, end_of_t, wave.on))
      end_of_t = None
  return found


def from_events(
  by_lead: Mapping[str, Sequence[tuple[str, float, float]]],
) -> Waves:
  """Returns the waves of a recording that was delineated lead by lead.

  Args:
    by_lead: lead -> events, see `delineate`. What lies before the first and
      after the last of a lead, and a lead without any, is not judged.
  """
  by_lead = {lead: events for lead, events in by_lead.items() if events}
  found = [
    w for lead, events in by_lead.items() for w in delineate(lead, events)
  ]
  span = {
    lead: (min(on for _, on, _ in events), max(off for *_, off in events))
    for lead, events in by_lead.items()
  }
  return Waves(tuple(found), span, KINDS[:6])


def from_truth(truth, record: int, duration: float) -> Waves:
  """Returns the waves of one simulated record, the same in all leads.

  Args:
    truth: `simulator.simulator.Truth` of a batch.
    record: row of the batch.
    duration: length of the record, seconds.
  """
  times = {
    name: np.asarray(getattr(truth, name)[record], np.float64)
    for name in ('p_on', 'p_off', 'qrs_on', 'qrs_off', 't_on', 't_off')
  }
  ectopic = np.asarray(truth.ectopic[record])
  events, beats = [], []
  for kind in ('p', 'qrs', 't'):
    both = np.stack([times[f'{kind}_on'], times[f'{kind}_off']], axis=1)
    events += [(kind, on, off) for on, off in both if not np.isnan(on + off)]
  for kind, code, first, last in (
    ('pac', 1, 'p_on', 'qrs_off'),
    ('pvc', 2, 'qrs_on', 't_off'),
  ):
    for k in np.flatnonzero(ectopic == code):
      if not np.isnan(times[first][k] + times[last][k]):
        beats.append(Wave(kind, None, times[first][k], times[last][k]))
  whole = dict.fromkeys(LEADS, (0.0, duration))
  return Waves((*delineate(None, events), *beats), whole, KINDS)
