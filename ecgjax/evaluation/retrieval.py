"""Does an embedding find the same patient's other ECG?

Every ECG is compared with all others of the split by cosine similarity. This
measures what patient contrast optimises, identity, and not what it is for:
high recall with poor probes means that the encoder has learnt to recognise
people. Specification: longitudinal, section 7.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.evaluation import bootstrap

_CHUNK = 512  # queries compared with everything at a time


class Pairs(NamedTuple):
  """All ordered pairs of different ECGs of one patient, M of them.

  Attributes:
    query: [M] row of the ECG that is looked for with.
    other: [M] row of the ECG to be found.
    similarity: [M] their cosine.
    rank: [M] 1 + number of ECGs of other patients at least as similar to the
      query; so that equal features never count as found.
  """

  query: np.ndarray
  other: np.ndarray
  similarity: np.ndarray
  rank: np.ndarray


def rank_pairs(features: np.ndarray, patients: Sequence) -> Pairs:
  """Ranks every pair of a patient among the ECGs of all other patients.

  Args:
    features: [N, D].
    patients: [N] ids.

  Raises:
    ValueError: if no patient has two ECGs.
  """
  _, patient = np.unique(np.asarray(patients), return_inverse=True)
  counts = np.bincount(patient)
  queries = np.flatnonzero(counts[patient] > 1)
  if not len(queries):
    raise ValueError('retrieval: no patient of the split has two ECGs')
  features = np.asarray(features, np.float64)
  norm = np.linalg.norm(features, axis=1, keepdims=True)
  unit = (features / np.maximum(norm, 1e-12)).astype(np.float32)
  parts = []
  for first in range(0, len(queries), _CHUNK):
    rows = queries[first : first + _CHUNK]
    cosine = unit @ unit[rows].T  # [N, q]
    own = patient[:, None] == patient[rows]
    foreign = np.sort(np.where(own, -np.inf, cosine), axis=0)
    own[rows, np.arange(len(rows))] = False  # nobody finds himself
    other, column = np.nonzero(own)
    similarity = cosine[other, column]
    at_least = np.empty(len(other), np.int64)
    for k in range(len(rows)):
      mine = column == k
      below = np.searchsorted(foreign[:, k], similarity[mine], side='left')
      at_least[mine] = len(unit) - below
    parts.append((rows[column], other, similarity, 1 + at_least))
  return Pairs(*map(np.concatenate, zip(*parts)))


def evaluate(
  features: np.ndarray,
  patients: Sequence,
  times: np.ndarray | None = None,
  labels: np.ndarray | None = None,
  *,
  gap_edges: Sequence[float] = (30.0, 365.0),
  draws: int = bootstrap.DRAWS,
  seed: int = 0,
) -> dict:
  """Retrieval of a patient's other ECG, by gap and by change of label.

  Args:
    features: [N, D].
    patients: [N] ids.
    times: [N] days, negative where unknown; None: no strata.
    labels: [N, K] in {0, 1}; None: no label-change probe.
    gap_edges: limits of the strata, days.
    draws: of the patient bootstrap.
    seed: of the bootstrap.

  Returns:
    `recall_at_1` and `mean_reciprocal_rank` over queries, the best of the
    patient's other ECGs counting: {'value', 'ci95'} each; `num_queries`,
    `num_patients`, `num_gallery`; with times `by_gap`: stratum -> recall_at_1,
    similarity (means over pairs) and num_pairs; with labels `label_change`:
    the mean similarity of pairs with `equal` and with `changed` labels.
  """
  patients = np.asarray(patients)
  pairs = rank_pairs(features, patients)
  rows = np.unique(pairs.query)
  best = np.full(len(patients), np.iinfo(np.int64).max)
  np.minimum.at(best, pairs.query, pairs.rank)
  counts = bootstrap.patient_counts(patients[rows], draws, seed).astype(float)
  scores = {
    'recall_at_1': best[rows] == 1,
    'mean_reciprocal_rank': 1 / best[rows],
  }
  found = {
    name: {
      'value': float(score.mean()),
      'ci95': bootstrap.interval(score @ counts / counts.sum(axis=0)),
    }
    for name, score in scores.items()
  }
  found |= {
    'num_queries': len(rows),
    'num_patients': len(np.unique(patients[rows])),
    'num_gallery': len(patients),
  }
  if times is not None:
    found['by_gap'] = _by_gap(pairs, np.asarray(times, float), gap_edges)
  if labels is not None:
    labels = np.asarray(labels)
    changed = (labels[pairs.query] != labels[pairs.other]).any(axis=1)
    found['label_change'] = {
      name: _mean(pairs.similarity[chosen])
      for name, chosen in (('equal', ~changed), ('changed', changed))
    }
  return found


def _by_gap(pairs, times, edges) -> dict:
  known = (times[pairs.query] >= 0) & (times[pairs.other] >= 0)
  gap = np.abs(times[pairs.query] - times[pairs.other])
  stratum = np.where(known, np.searchsorted(edges, gap, side='right'), -1)
  names = [*(f'under_{x:g}_days' for x in edges), 'longer', 'unknown']
  found = {}
  for number, name in zip([*range(len(edges) + 1), -1], names):
    chosen = stratum == number
    if chosen.any():
      found[name] = {
        'recall_at_1': _mean(pairs.rank[chosen] == 1),
        'similarity': _mean(pairs.similarity[chosen]),
        'num_pairs': int(chosen.sum()),
      }
  return found


def _mean(values) -> float | None:
  return float(np.mean(values)) if len(values) else None
