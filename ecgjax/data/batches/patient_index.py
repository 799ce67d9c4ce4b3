"""The ECGs of every patient, and which gaps between them there are."""

from typing import NamedTuple

import numpy as np

SINGLETONS = ('augment', 'drop', 'negatives_only')


class PatientOptions(NamedTuple):
  """What a batch of patients holds: the fields of a method's config group.

  Attributes:
    ecgs_per_patient: K; batch sizes count ECGs.
    singletons: what becomes of patients with one ECG, one of `SINGLETONS`.
    singleton_weight: of a patient with one ECG as an anchor, in [0, 1].
    min_gap: days between two ECGs of a patient, where there is a choice.
    max_gap: days; 0 means no limit.
    gap_edges: days, limits of the strata of gaps.
    gap_quota: share of the patients that each stratum gets; () means free.
    group: name of the config group, for error messages.
  """

  ecgs_per_patient: int = 2
  singletons: str = 'augment'
  singleton_weight: float = 1.0
  min_gap: float = 1.0
  max_gap: float = 0.0
  gap_edges: tuple[float, ...] = (30.0, 365.0)
  gap_quota: tuple[float, ...] = ()
  group: str = 'longitudinal'

  @classmethod
  def from_group(cls, options, group: str) -> 'PatientOptions':
    """Of a config group that has such fields; the others keep their default."""
    names = [name for name in cls._fields if name in options]
    return cls(**{name: options[name] for name in names} | {'group': group})


class PatientIndex(NamedTuple):
  """The ECGs of P patients. Flat arrays go patient by patient, by time.

  Attributes:
    ids: [P] int32, the patients.
    start: [P + 1] where each patient's ECGs begin in the flat arrays.
    rows: [n] row of each ECG in the split.
    time: [n] float64 days, nan unknown.
    bounds: [S, 2] least and largest gap of each stratum, days.
    excess: [S, n] float32: how far outside the bounds the best partner of
      each ECG is, days; inf where it has none of known date.
    num_singletons: patients with one ECG, dropped ones included.
    num_dropped: singletons that are not used.
    num_duplicates: ECGs left out because the patient has the same signal.
  """

  ids: np.ndarray
  start: np.ndarray
  rows: np.ndarray
  time: np.ndarray
  bounds: np.ndarray
  excess: np.ndarray
  num_singletons: int
  num_dropped: int
  num_duplicates: int

  def __len__(self) -> int:
    return len(self.ids)


def build_index(
  patient: np.ndarray,
  time: np.ndarray,
  content: np.ndarray,
  options: PatientOptions,
) -> PatientIndex:
  """Index of the ECGs of one split.

  Args:
    patient: [n] patient of each row.
    time: [n] days since some date of the patient, negative where unknown.
    content: [n] uint64, equal for equal signals; 0: not known.
    options: which of a patient's ECGs, and gaps between them, there may be.

  Raises:
    ValueError: if the options make no sense or no patient is left.
  """
  _check(options)
  time = np.where(time < 0, np.nan, time.astype(np.float64))
  flat = np.lexsort((time, content, patient))
  copy = np.zeros(len(flat), bool)
  key, who = content[flat], patient[flat]
  copy[1:] = (key[1:] == key[:-1]) & (who[1:] == who[:-1]) & (key[1:] != 0)
  flat = flat[~copy]
  flat = flat[np.lexsort((flat, time[flat], patient[flat]))]
  ids, start = np.unique(patient[flat], return_index=True)
  start = np.append(start, len(flat))
  single = np.diff(start) == 1
  dropped = 0
  if options.singletons == 'drop' and options.ecgs_per_patient > 1:
    dropped = int(single.sum())
    flat = flat[~np.repeat(single, np.diff(start))]
    ids = ids[~single]
    start = np.append(0, np.cumsum(np.diff(start)[~single]))
  if not len(ids) or (
    options.ecgs_per_patient > 1
    and options.singletons != 'augment'
    and single.all()
  ):
    raise ValueError(
      f'none of {len(single)} patients has two ECGs; '
      f"config.{options.group}.singletons='augment' contrasts copies of one"
    )
  owner = np.repeat(np.arange(len(ids)), np.diff(start))
  bounds = gap_bounds(options)
  return PatientIndex(
    ids=ids.astype(np.int32),
    start=start,
    rows=flat,
    time=time[flat],
    bounds=bounds,
    excess=np.stack([_excess(owner, time[flat], *pair) for pair in bounds]),
    num_singletons=int(single.sum()),
    num_dropped=dropped,
    num_duplicates=int(copy.sum()),
  )


def content_keys(hashes: np.ndarray) -> np.ndarray:
  """[n] uint64 of hexadecimal content hashes: their first 16 digits."""
  short = hashes.astype('U16')
  code = np.ascontiguousarray(short).view(np.uint32).reshape(len(short), 16)
  # '0'-'9' are 48-57 and 'a'-'f' are 97-102; nothing (an absent digit) is 0.
  digit = np.where(code > 57, code - 87, code - np.where(code > 0, 48, 0))
  shift = np.arange(60, -1, -4, dtype=np.uint64)
  return (digit.astype(np.uint64) << shift).sum(axis=1, dtype=np.uint64)


def gap_bounds(options: PatientOptions) -> np.ndarray:
  """[S, 2] least and largest gap: one stratum, or those of the quota."""
  largest = options.max_gap or np.inf
  inner = tuple(options.gap_edges) if options.gap_quota else ()
  edges = np.array([options.min_gap, *inner, largest])
  return np.stack([edges[:-1], edges[1:]], axis=1)


def _check(options: PatientOptions) -> None:
  where = f'config.{options.group}'
  if options.singletons not in SINGLETONS:
    raise ValueError(
      f'{where}.singletons is {options.singletons!r}; choose one '
      'of ' + ', '.join(SINGLETONS)
    )
  if not 0 <= options.singleton_weight <= 1:
    raise ValueError(
      f'{where}.singleton_weight is {options.singleton_weight}; choose 0 to 1'
    )
  if options.ecgs_per_patient < 1:
    raise ValueError(
      f'{where}.ecgs_per_patient is '
      f'{options.ecgs_per_patient}; choose 1 or more'
    )
  edges = gap_bounds(options).ravel()
  if (np.diff(edges) < 0).any() or edges[0] < 0:
    raise ValueError(
      f'{where}: min_gap, gap_edges and max_gap must not decrease, '
      f'found {options.min_gap}, {tuple(options.gap_edges)}, {options.max_gap}'
    )
  quota = options.gap_quota
  if quota and (
    len(quota) != len(options.gap_edges) + 1
    or min(quota) < 0
    or abs(sum(quota) - 1) > 1e-6
  ):
    raise ValueError(
      f'{where}.gap_quota is {tuple(quota)}; expected '
      f'{len(options.gap_edges) + 1} shares that sum to 1'
    )


def outside(gap, low, high):
  """Distance of a gap to [low, high] in days; inf where it is not known.

  Without any bound every gap will do, known or not.
  """
  free = (low <= 0) & np.isinf(high)
  distance = np.maximum(np.maximum(low - gap, gap - high), 0)
  return np.where(free, 0, np.where(np.isnan(gap), np.inf, distance))


def _excess(owner, time, low, high) -> np.ndarray:
  """[n] least `outside` of each ECG over the patient's other ECGs.

  Args:
    owner: [n] ascending.
    time: [n] ascending within an owner, nan last.
    low: least gap, days.
    high: largest gap.
  """
  n = len(time)
  if low <= 0 and np.isinf(high):
    return np.zeros(n, np.float32)
  # One ascending axis for all patients, further apart than any two gaps.
  known = ~np.isnan(time)
  last = time[known].max(initial=0)
  axis = owner * (2 * last + 2 * low + 2) + np.where(known, time, last)
  found = np.full(n, np.inf, np.float32)
  itself = np.arange(n)
  # The least gap that is long enough and the largest that is not, both ways.
  after = np.searchsorted(axis, axis + low)
  before = np.searchsorted(axis, axis - low, side='right')
  for other in (after, after - 1, after + 1, before, before - 1, before - 2):
    other = np.clip(other, 0, n - 1)
    fits = (owner[other] == owner) & (other != itself)
    gap = np.abs(time[other] - time)
    found = np.where(
      fits, np.fmin(found, outside(gap, low, high)), found
    ).astype(np.float32)
  return found
