"""What statements mean in a corpus, told from the statements and the rates."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from ecgjax.data.store import corpus_facts, labels

# Rhythm -> how PTB-XL, CinC 2021, CPSC2018 and CODE-15 % write it.
RHYTHMS = {
  'bradycardia': ('SBRAD', '426177001', 'SB'),
  'sinus rhythm': ('SR', '426783006'),
  'tachycardia': ('STACH', '427084000', 'ST'),
  'fibrillation': ('AFIB', labels.AF, 'AF'),
}
BANDS = ((0, 45), (45, 50), (50, 55), (55, 60), (60, 100), (100, 400))
_NORMAL_SNOMED = '426783006'
_OTHER_RHYTHMS = ('427084000', '426177001', '427393009', '426627000',
                  '164889003', '164890007', '284470004')  # fmt: skip


def rates(records: Sequence[tuple[Collection[str], float | None]]) -> dict:
  """Measured rate against rhythm.

  Args:
    records: statements and beats per minute (None: unknown) of each.

  Returns:
    Per rhythm the spread of rates and shares in bands; per band of the rate
    how many recordings carry which rhythm.
  """
  known = [(set(said), bpm) for said, bpm in records if bpm is not None]
  by_rhythm, bands = {}, []
  for rhythm, names in RHYTHMS.items():
    bpm = [b for said, b in known if said & set(names)]
    if bpm:
      by_rhythm[rhythm] = {
        'bpm': corpus_facts.spread(bpm),
        'below_60': sum(b < 60 for b in bpm) / len(bpm),
        'from_60_to_100': sum(60 <= b <= 100 for b in bpm) / len(bpm),
        'above_100': sum(b > 100 for b in bpm) / len(bpm),
      }
  for low, high in BANDS:
    inside = [said for said, b in known if low <= b < high]
    bands.append(
      {
        'low': low,
        'high': high,
        'records': len(inside),
        **{
          rhythm: sum(bool(said & set(names)) for said in inside)
          for rhythm, names in RHYTHMS.items()
        },
      }
    )
  return {'rhythms': by_rhythm, 'bands': bands}


def conventions(said: Sequence[Collection[str]]) -> dict:
  """How often statements occur, alone and together.

  Args:
    said: statements of each recording.

  Returns:
    `records`, `without`, `distinct`, the twelve most frequent, and of SCP or
    SNOMED CT statements what is known to surprise.
  """
  said = [set(names) for names in said]
  count = Counter(name for names in said for name in names)
  facts = {
    'records': len(said),
    'without': sum(not names for names in said),
    'distinct': len(count),
    'most_frequent': dict(
      sorted(count.most_common(12), key=lambda pair: (-pair[1], pair[0]))
    ),
  }
  if 'NORM' in count and count.keys() <= set(labels.scp_names()):
    facts['scp'] = _scp(said)
  if _NORMAL_SNOMED in count:
    normal = [names for names in said if _NORMAL_SNOMED in names]
    facts['sinus_code'] = {
      'records': len(normal),
      'alone': sum(len(names) == 1 for names in normal),
      'beside_other_rhythm': sum(
        bool(names & set(_OTHER_RHYTHMS)) for names in normal
      ),
    }
  return facts


def _scp(said: Sequence[set[str]]) -> dict[str, int]:
  """Combinations of SCP statements that a label task has to expect."""
  rows: Sequence[Mapping] = labels.scp_statements()
  superclass = {
    row['code']: row['diagnostic_class']
    for row in rows
    if row['diagnostic_class']
  }
  rhythms = {row['code'] for row in rows if row['rhythm'] == '1'}
  classes = [
    {superclass[s] for s in names & superclass.keys()} for names in said
  ]
  beside = [c for c in classes if 'NORM' in c and len(c) > 1]
  both = lambda a, b: sum({a, b} <= names for names in said)
  only = lambda a, b: sum(a in names and b not in names for names in said)
  return {
    'no_superclass': sum(not c for c in classes),
    'norm_and_other': len(beside),
    'norm_and_cd': sum('CD' in c for c in beside),
    'two_rhythms': sum(len(names & rhythms) > 1 for names in said),
    'no_rhythm': sum(not names & rhythms for names in said),
    'sr_and_afib': both('SR', 'AFIB'),
    'norm_and_afib': both('NORM', 'AFIB'),
    'norm_without_sr': only('NORM', 'SR'),
    'sr_without_norm': only('SR', 'NORM'),
  }
