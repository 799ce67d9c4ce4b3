"""What a recorder's program said of an ECG: classes, denied, in doubt, unknown.

A report is a list of statements in English. What a report does not mention is a
negative only if the recorder analysed the ECG and wrote of it in words that
this module knows; else nothing is known.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ecgjax.formats import cells

_AV_BLOCK = r'(a-?v|atrio-?ventricular) (conduction )?block'
_FIRST = r'(1st|first|1°|grade (1|i)\b)'
# Class -> what a statement of the recorder says where it is present.
STATEMENTS = {
  'AF': r'(atrial|auricular) fib|\ba-?fib|\baf\b|flutter\W*(or\W*)?fib',
  'AFL': r'flutter|\bafl\b',
  'premature': (
    r'premature|\bp[avj]c(\(s\)|s)?(?!\w)|\b[avj]p[bcd]s?\b|bigemin|trigemin|'
    r'extrasystol|ectopic (beat|complex)'
  ),
  '1AVB': (
    rf'{_FIRST}[ -]?(degree )?{_AV_BLOCK}|{_AV_BLOCK},? {_FIRST}|'
    r'\b(1st|first|1°)?[ -]?1?°?(?<=[1t°])[ -]?(degree )?avb\b'
  ),
  'MI': r'infarct|\b(n?st)?e?mi\b|\b(ami|asmi|imi|lmi|pmi|almi|ilmi|ipmi)\b',
}
# Statements after which a class is neither a positive nor a clean negative.
_UNCLEAR = {
  'AF': r'(uncertain|undetermined|unknown) rhythm',
  'AFL': r'(uncertain|undetermined|unknown) rhythm',
  '1AVB': (
    r'(prolonged|borderline|long) p-?r\b|'
    r'\bp-?r( interval)?( is)? (prolong|borderline|long)'
  ),
  'MI': r'\binjury|acute coronary|\bst elevation, consider',
}
# Words that leave it open whether what a statement names is there. The age of
# an infarct is none of them: the infarct is there.
_DOUBT = re.compile(
  r'possib|probab|likely|consider|cannot|can ?not|can\'t|suggest|\bmay\b|'
  r'might|could|borderline|question|equivocal|suspect|suspicio|uncertain|'
  r'undetermined|indeterminate|unclear|doubt|consistent with|compatible with|'
  r'(?<!has been )(?<!was )(?<!is )(rule|exclude)\b|rule[ -]?out|\br/o\b|'
  r'not (ruled out|excluded|be excluded|be ruled out)|versus|\bvs\b|\?|'
  r'no longer|resolved|replace|compared|previous|history|'
  r'fib\w*\W*(or\W*)?flutter|flutter\W*(or\W*)?fib'
)
_AGE_OF_INFARCT = re.compile(
  r'\bage\W{0,3}(is )?(undetermined|indeterminate|unknown|uncertain)|'
  r'(undetermined|indeterminate|unknown|uncertain) age|of undetermined age'
)
_DENIED_BEFORE = re.compile(
  r'\b(no|not|nor|without|absence of|absent|negative for|free of|denies|'
  r'neither|lacks?)\b'
)
_DENIED_AFTER = re.compile(
  r'\w*\W*(is |are |was |has been )?'
  r'(no\b|none\b|not (present|seen|detected|found|identified|evident|noted)|'
  r'absent|negative|ruled out|excluded)'
)
# Between the denial and what is denied; other words may be what is denied.
_IN_A_DENIAL = re.compile(
  r'(\W|\b(evidence|signs?|definite|clear|acute|of|for|any|or|nor|and|an?|the|'
  r'old|recent|new|present|atrial|ventricular|inferior|anterior|lateral|septal|'
  r'posterior|myocardial|1st|first|degree|st|elevation|fibrillation|flutter|'
  r'infarct(ion)?|premature|complexes|beats|block|a-?v)\b)*'
)
_NOT_ANALYSED = re.compile(
  r'un-?interpretable|no further|not (be )?(analy[sz]ed|interpreted)|'
  r'no (analysis|interpretation)|(analysis|interpretation) (is )?'
  r'(not|impossible|suppressed|deferred)|unsuitable|cannot (be )?'
  r'(analy[sz]|interpret)|un-?analy[sz]able|not analy[sz]able|'
  r'technically (poor|inadequate)|data quality (prohibits|precludes)|'
  r'lead(s)? (off|missing|reversal)|unread|test ecg'
)
_PACED = re.compile(r'\b(pacemaker|paced|pacing)\b(?!.*intrinsic)')
# Words of a report that somebody, or something, made of an ECG.
_ANALYSED = re.compile(
  r'rhythm|sinus|normal|ecg|ekg|block|delay|tachycardia|bradycardia|axis|'
  r'hypertroph|enlargement|abnormalit|\bst\b|\bst-|\bt wave|\bqt|\bqrs|\bpr\b|'
  r'\bp-r\b|wave|voltage|ischemi|ischaemi|repolari|conduction|interval|'
  r'progression|escape|junctional|atrial|ventricular|rate|injury|bundle|'
  r'hemiblock|fascic|transition|\bst-t'
)


class Report(NamedTuple):
  """What one report says.

  Attributes:
    labels: 0 or 1 for each class of `STATEMENTS`.
    mask: 1 where that is known.
    kind: 'known' if a class is mentioned, 'other' if only other findings are,
      'paced', or 'nothing' where nothing is known.
  """

  labels: tuple[int, ...]
  mask: tuple[int, ...]
  kind: str


def read(statements: Sequence[str]) -> Report:
  """Labels and mask of the classes of `STATEMENTS`.

  Args:
    statements: of one report, in any case.
  """
  text = [' '.join(s.lower().split()) for s in statements]
  text = [re.sub(r'block, (?=1st|first|grade)', 'block ', s) for s in text]
  text = [s for s in text if not cells.is_nothing(s.strip(' *.'))]
  none = (0,) * len(STATEMENTS)
  paced = any(_PACED.search(s) for s in text)
  stopped = any(_NOT_ANALYSED.search(s) for s in text)
  if not text or (stopped and not paced):
    return Report(none, none, 'nothing')
  found = {name: _about(name, text) for name in STATEMENTS}
  if not (paced or any(found.values()) or _ANALYSED.search(' '.join(text))):
    return Report(none, none, 'nothing')
  labels, mask = [], []
  for said in found.values():
    certain = 'present' in said
    labels.append(int(certain))
    # What is masked by a pacemaker is no negative.
    mask.append(int(certain or not (paced or 'doubt' in said)))
  kind = 'known' if any(found.values()) else 'other'
  return Report(tuple(labels), tuple(mask), 'paced' if paced else kind)


def _about(name: str, statements: Sequence[str]) -> set[str]:
  """Of a class: 'present', 'denied', 'doubt', whichever statements say so."""
  said = set()
  for statement in statements:
    if name in _UNCLEAR and re.search(_UNCLEAR[name], statement):
      said.add('doubt')
    for sentence in re.split(r'[.;]\s|\bbut\b|\bhowever\b', statement):
      said |= _of_sentence(STATEMENTS[name], sentence)
  return said


def _of_sentence(pattern: str, sentence: str) -> set[str]:
  """The same of one sentence."""
  if not re.search(pattern, sentence):
    return set()
  if _DOUBT.search(_AGE_OF_INFARCT.sub('', sentence)):
    return {'doubt'}
  said, before = set(), False
  for clause in re.split(r',|\s[-–/]\s', sentence):
    for match in re.finditer(pattern, clause):
      denials = list(_DENIED_BEFORE.finditer(clause, 0, match.start()))
      if _DENIED_AFTER.match(clause, match.end()):
        said.add('denied')
      elif denials:
        between = clause[denials[-1].end() : match.start()]
        whole = _IN_A_DENIAL.fullmatch(between)
        said.add('denied' if whole else 'doubt')
      elif before:  # 'no infarct, atrial fibrillation': one list, or two
        listed = re.match(r'\s*(or|nor)\b', clause)
        said.add('denied' if listed else 'doubt')
      else:
        said.add('present')
    before = before or bool(_DENIED_BEFORE.search(clause))
  return said
