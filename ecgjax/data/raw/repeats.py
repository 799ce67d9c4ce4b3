"""Stretches of signal that occur twice, in one recording or in two.

Windows are hashed at every shift, and those with a certain remainder are kept,
whatever recording they come from: so equal stretches keep equal windows,
however far they are shifted. A stretch is missed with a probability of about
exp(-n / 16), n the windows that fit into it: one of a second more than a window
at 100 Hz with 0.2 %. What the hashes say is to be verified sample by sample.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

SECONDS = 2.0  # of a window
_EVERY = 16  # one window in so many is kept
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; from the golden ratio
_INVERSE = np.uint64(pow(int(_FACTOR), -1, 1 << 64))


def landmarks(
  counts: np.ndarray, rate: float, seconds: float = SECONDS
) -> tuple[np.ndarray, np.ndarray]:
  """Returns windows of a recording that any copy of the signal keeps.

  The hash of a window is a polynomial in an odd factor, modulo 2 ** 64, of a
  weighted sum of the leads; windows in which that never changes are left out.

  Args:
    counts: [T, C] whole numbers, in canonical order of the leads.
    rate: Hz.
    seconds: length of a window.

  Returns:
    hashes [n] uint64 and positions [n] of the first samples of the windows.
  """
  width = round(rate * seconds)
  if len(counts) < width:
    return np.zeros(0, np.uint64), np.zeros(0, np.int64)
  weights = np.arange(1, 2 * counts.shape[1], 2)
  mixed = (counts.astype(np.int64) @ weights).astype(np.uint64)
  powers = np.cumprod(np.full(len(mixed), _FACTOR))
  inverse = np.cumprod(np.full(len(mixed), _INVERSE))
  sums = np.concatenate([[np.uint64(0)], np.cumsum(mixed * powers)])
  # Brought to the power that a window at the beginning would have.
  hashes = sums[width:] - sums[:-width]
  hashes *= inverse[: len(hashes)]
  changes = np.concatenate([[0], np.cumsum(np.diff(mixed.view(np.int64)) != 0)])
  alive = changes[width - 1 :] - changes[: len(changes) - width + 1] > 0
  # The low bits mix the least.
  kept = np.flatnonzero(((hashes >> np.uint64(40)) % _EVERY == 0) & alive)
  return hashes[kept], kept


def candidates(
  found: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[str, str, int]]:
  """Returns pairs of recordings with a common window.

  Args:
    found: recording -> `landmarks`.

  Yields:
    (one, other, shift): sample p + shift of `other` repeats sample p of `one`.
    One shift per pair, the most frequent.
  """
  names = list(found)
  owner = np.repeat(np.arange(len(names)), [len(h) for h, _ in found.values()])
  if not len(owner):
    return
  hashes = np.concatenate([h for h, _ in found.values()])
  position = np.concatenate([p for _, p in found.values()])
  order = np.argsort(hashes, kind='stable')
  same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
  shifts: dict[tuple, collections.Counter] = collections.defaultdict(
    collections.Counter
  )
  for k in same:
    a, b = sorted(order[k : k + 2], key=lambda row: (owner[row], position[row]))
    pair = names[owner[a]], names[owner[b]]
    shifts[pair][int(position[b] - position[a])] += 1
  for (one, other), counter in sorted(shifts.items()):
    yield one, other, counter.most_common(1)[0][0]


def overlap(one: np.ndarray, other: np.ndarray, shift: int) -> int:
  """Measures the longest stretch in which two signals are equal, in samples.

  Args:
    one: [T, C] counts.
    other: [U, C] counts; may be the same array.
    shift: sample p + shift of `other` lies over sample p of `one`.
  """
  first = max(0, -shift)
  length = min(len(one) - first, len(other) - first - shift)
  if length <= 0:
    return 0
  equal = (one[first:][:length] == other[first + shift :][:length]).all(axis=1)
  edges = np.flatnonzero(np.diff(equal, prepend=False, append=False))
  return int((edges[1::2] - edges[::2]).max(initial=0))


def repeated(pairs: Iterable[tuple[str, str, int]], read, rate_of) -> list:
  """Returns the candidates that are equal sample by sample.

  Args:
    pairs: what `candidates` returned.
    read: recording -> [T, C] counts.
    rate_of: recording -> Hz.

  Returns:
    [one, other, shift in samples, seconds in common] of every pair that has
    at least one window in common.
  """
  kept = []
  for one, other, shift in pairs:
    length = overlap(read(one), read(other), shift)
    if length >= round(SECONDS * rate_of(one)):
      kept.append([one, other, shift, round(length / rate_of(one), 3)])
  return kept
