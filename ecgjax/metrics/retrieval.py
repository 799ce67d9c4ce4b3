"""Does an embedding find the same patient's other ECG?

Every ECG is compared with all others of the split by cosine similarity. This
measures what patient contrast optimises, identity, and not what it is for:
high recall with poor probes means that the encoder has learnt to recognise
people. See docs/evaluation.md, Identity.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ecgjax.metrics import bootstrap

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


def rank_pairs(features: np.ndarray, patients: ArrayLike) -> Pairs:
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
    foreign = np.where(own, -np.inf, cosine)
    own[rows, np.arange(len(rows))] = False  # nobody finds himself
    other, column = np.nonzero(own)
    similarity = cosine[other, column]
    at_least = np.array(
      [np.sum(foreign[:, k] >= s) for k, s in zip(column, similarity)]
    )
    parts.append((rows[column], other, similarity, 1 + at_least))
  return Pairs(*map(np.concatenate, zip(*parts)))


def evaluate(
  arms: Mapping[str, np.ndarray],
  patients: ArrayLike,
  times: np.ndarray | None = None,
  labels: np.ndarray | None = None,
  *,
  baseline: str,
  gap_edges: Sequence[float] = (30.0, 365.0),
  draws: int = bootstrap.DRAWS,
  seed: int = 0,
) -> dict:
  """Measures retrieval of a patient's other ECG, by gap and change of label.

  Args:
    arms: encoder -> its features [N, D], or [S, N, D] for S training seeds.
    patients: [N] ids.
    times: [N] days, negative where unknown; None: no strata.
    labels: [N, K] in {0, 1}; None: no label-change probe.
    baseline: the arm that every other arm is compared with.
    gap_edges: limits of the strata, days.
    draws: number of bootstrap draws over patients.
    seed: int, of the bootstrap; the same draws for all arms.

  Returns:
    `num_queries`, `num_patients`, `num_gallery`; `arms` -> `recall_at_1` and
    `mean_reciprocal_rank` over queries, the best of the patient's other ECGs
    counting: {'value', 'ci95'} each; `differences` ('a-b' -> metric -> value,
    ci95, p, of one bootstrap). With times, arms have `by_gap`: stratum ->
    recall_at_1, mean_reciprocal_rank, similarity (means over pairs) and
    num_pairs; with labels `label_change`: the mean similarity of pairs with
    `equal` and with `changed` labels.
  """
  patients = np.asarray(patients)
  mean = functools.partial(bootstrap.mean_with_interval, draws=draws, seed=seed)
  found, scores = {}, {}
  for name, features in arms.items():
    seeds = features[None] if np.ndim(features) == 2 else features
    # The same pairs in the same order for every seed.
    by_seed = [rank_pairs(one, patients) for one in seeds]
    pairs = by_seed[0]._replace(
      similarity=np.stack([one.similarity for one in by_seed]),
      rank=np.stack([one.rank for one in by_seed]),
    )
    rows = np.unique(pairs.query)
    best = np.full((len(seeds), len(patients)), np.iinfo(np.int64).max)
    for own, rank in zip(best, pairs.rank):
      np.minimum.at(own, pairs.query, rank)
    scores[name] = _scores(best[:, rows])
    found[name] = {
      metric: mean(values, patients[rows])
      for metric, values in scores[name].items()
    }
    if times is not None:
      found[name]['by_gap'] = _by_gap(
        pairs, patients, np.asarray(times, float), gap_edges, mean
      )
    if labels is not None:
      changed = (
        np.asarray(labels)[pairs.query] != np.asarray(labels)[pairs.other]
      ).any(axis=1)
      found[name]['label_change'] = {
        kind: mean(pairs.similarity[:, chosen], patients[pairs.query[chosen]])
        for kind, chosen in (('equal', ~changed), ('changed', changed))
        if chosen.any()
      }
  return {
    'num_queries': len(rows),
    'num_patients': len(np.unique(patients[rows])),
    'num_gallery': len(patients),
    'arms': found,
    'differences': {
      f'{name}-{baseline}': {
        metric: bootstrap.paired_difference(
          values, scores[baseline][metric], patients[rows], draws, seed
        )
        for metric, values in own.items()
      }
      for name, own in scores.items()
      if name != baseline
    },
  }


def _scores(rank: np.ndarray) -> dict[str, np.ndarray]:
  return {
    'recall_at_1': (rank == 1).astype(float),
    'mean_reciprocal_rank': 1 / rank,
  }


def _by_gap(pairs, patients, times, edges, mean) -> dict:
  known = (times[pairs.query] >= 0) & (times[pairs.other] >= 0)
  gap = np.abs(times[pairs.query] - times[pairs.other])
  stratum = np.where(known, np.searchsorted(edges, gap, side='right'), -1)
  names = [*(f'under_{x:g}_days' for x in edges), 'longer', 'unknown']
  found = {}
  for number, name in zip([*range(len(edges) + 1), -1], names):
    chosen = stratum == number
    if chosen.any():
      values = _scores(pairs.rank[:, chosen])
      values['similarity'] = pairs.similarity[:, chosen]
      who = patients[pairs.query[chosen]]
      found[name] = {key: mean(value, who) for key, value in values.items()}
      found[name]['num_pairs'] = int(chosen.sum())
  return found
