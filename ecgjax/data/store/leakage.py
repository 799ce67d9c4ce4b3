"""The leakage audit: no patient and no signal in two splits.

Looks at the record tables of every split that a run reads, of one or several
data sets, and finds between different splits

* the same patient id within a data set;
* the same signal (content hash: sha256 of the int16 samples), which also
  catches a copy under another record and patient id;
* the same PTB-XL recording: PTB-XL is a source of CinC 2021, where record
  HR00042 is ECG 42 at another rate, so that the hashes differ.

What follows from a leak: docs/evaluation.md, Leakage.
"""

import collections
import re
from collections.abc import Iterator, Mapping

import numpy as np

from ecgjax.data.store.records import read_table

KINDS = {
  'patient': 'same patient',
  'signal': 'same signal',
  'ptbxl': 'same PTB-XL recording',
}
_SHOWN = 3  # pairs of each kind in the error


class Leak(ValueError):
  """A patient or recording is in two splits."""


def audit(*builders, allow: bool = False) -> dict:
  """Compares all splits of one or several prepared data sets.

  Args:
    *builders: prepared TFDS builders.
    allow: return the finding instead of raising; it marks the result.

  Returns:
    kind -> [[part, record id, part, record id], ...], see `find_leaks`.

  Raises:
    Leak: one line that counts and names the offending pairs.
  """
  leaks = find_leaks(
    {
      f'{builder.name}/{split}': read_table(builder, split)
      for builder in builders
      for split in builder.info.splits
    }
  )
  if leaks and not allow:
    raise Leak(_message(leaks))
  return leaks


def find_leaks(
  parts: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, list[list[str]]]:
  """What two splits share.

  Args:
    parts: '<data set>/<split>' -> record table with `record_id`,
      `patient_id`, `content_hash` and `source`. Parts of equal split name
      (two training sets) may overlap.

  Returns:
    kind of `KINDS` -> [[part, record id, part, record id], ...], one pair per
    patient or recording; empty when all is well.
  """
  leaks = {}
  for kind in KINDS:
    places = collections.defaultdict(list)
    for part, table in parts.items():
      for key, record in _keys(kind, part, table):
        places[key].append((part, record))
    pairs = [pair for group in places.values() for pair in _across(group)]
    if pairs:
      leaks[kind] = pairs
  return leaks


def _keys(kind, part, table) -> Iterator[tuple[str, str]]:
  """(what must not be in two splits, record id) of every record."""
  records = table['record_id'].tolist()
  if kind == 'signal':
    yield from zip(table['content_hash'].tolist(), records)
  elif kind == 'patient':
    corpus = part.rpartition('/')[0]
    for patient, record in zip(table['patient_id'].tolist(), records):
      yield f'{corpus}|{patient}', record
  else:
    for source, record in zip(table['source'].tolist(), records):
      if source in ('ptbxl', 'ptb-xl'):
        yield str(int(re.search(r'\d+', record)[0])), record


def _across(group) -> Iterator[list[str]]:
  """Pairs of neighbours in a group that lie in different splits."""
  by_split = {}
  for part, record in group:
    by_split.setdefault(part.rpartition('/')[2], (part, record))
  places = list(by_split.values())
  for (part_a, record_a), (part_b, record_b) in zip(places, places[1:]):
    yield [part_a, record_a, part_b, record_b]


def _message(leaks) -> str:
  findings = []
  for kind, pairs in leaks.items():
    shown = ', '.join(
      f'{part_a} {record_a} = {part_b} {record_b}'
      for part_a, record_a, part_b, record_b in pairs[:_SHOWN]
    )
    more = f', and {len(pairs) - _SHOWN} more' if len(pairs) > _SHOWN else ''
    findings.append(f'{KINDS[kind]}: {shown}{more}')
  return (
    f'splits leak ({"; ".join(findings)}); remove the copies, or set '
    'config.data.allow_leak=True, which marks the result'
  )
