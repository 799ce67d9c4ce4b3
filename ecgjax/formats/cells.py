"""What one cell of a user's table says, in the spellings that are about.

A cell that says nothing is told from one that says no: the first is never a
negative label, no patient and no age.
"""

import ast
import math
import re
import unicodedata

# Ways to say that nothing is known, in lower case and without brackets.
_NOTHING = frozenset(
  '|nan|na|n/a|n.a.|n.a|#n/a|#na|none|null|nil|nat|-|--|---|.|?|unknown|unk|'
  'unspecified|missing|not known|not available|not annotated|unannotated|'
  'not analysed|not analyzed|not analysable|not analyzable|not assessed|'
  'not done|not interpreted|not read|not labelled|not labeled|uninterpretable|'
  'unreadable|undetermined|indeterminate|pending|tbd|k.a.|inconnu|'
  'desconocido|unbekannt'.split('|')
)
_YES = frozenset(('true', 'yes', 'y', 't', 'positive', 'present'))
_NO = frozenset(('false', 'no', 'n', 'f', 'negative', 'absent'))
_MALE = frozenset(
  'm male man men boy masculine masculin masculino maschile maschio hombre '
  'varon homme herr mann mannlich maennlich mannelijk uomo homem mand '
  '男 男性'.split()
)
_FEMALE = frozenset(
  'f w female woman women girl feminine feminin femenino feminino femminile '
  'femmina mujer femme frau weiblich vrouw vrouwelijk donna mulher kvinna '
  'kvinde kvinne 女 女性'.split()
)
_OVER_89 = 300  # the code of PTB-XL and of MIMIC for an age that is not told
_OLDEST = 120
_AGE = re.compile(
  r'(?P<more>(?:>=?|≥|over)\s*)?(?P<number>\d+(?:\.\d*)?)\s*'
  r'(?P<unit>y|yr|yrs|years?|m|months?|w|weeks?|d|days?)?(?:\s*old)?'
  r'(?P<plus>\s*\+)?'
)
_PER_YEAR = {'m': 12, 'w': 52.1775, 'd': 365.2425}
_WHOLE = re.compile(r'([+-]?\d+)\.0*')
_FORMULA = ('=', '+', '-', '@', '\t', '\r', '\n', "'")


def is_nothing(text: str) -> bool:
  """Whether a cell says that nothing is known: '', 'nan', 'Unknown', '<NA>'."""
  return ' '.join(text.lower().strip(' \t<>[]()\'"').split()) in _NOTHING


def bit(text: str) -> int:
  """1 for '1', '1.0', 'True', 'yes'; 0 for their opposites; -1 for nothing.

  Raises:
    ValueError: if the text is something else.
  """
  word = text.strip().lower()
  if word in _YES or word in _NO:
    return int(word in _YES)
  if is_nothing(text):
    return -1
  value = float(word)
  if value not in (0, 1):
    raise ValueError(f'{text!r} is neither 1 nor 0')
  return int(value)


def names(text: str) -> tuple[list[str], bool]:
  """The names that a cell lists.

  Separators are ';', '|', ',' and line ends; a list, tuple, set or dict
  (of its keys) written as text is read, with quotes or without.

  Returns:
    The names, each once, and whether the cell tells all there is: False where
    it, or one of the names, says nothing (`is_nothing`). '[]' names nothing
    and tells so.
  """
  text = text.strip()
  inner = re.fullmatch(r'[\[({](.*)[\])}]|set\(\)', text, re.DOTALL)
  if inner:
    if not (inner[1] or '').strip():
      return [], True
    try:
      found = [str(name) for name in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
      found = re.split(r'[;|,\n]', inner[1])
  else:
    found = re.split(r'[;|,\n]', text)
  found = [' '.join(name.strip(' \t\r\'"').split()) for name in found]
  if not any(found):
    return [], False
  found = [name for name in found if name]
  known = [name for name in dict.fromkeys(found) if not is_nothing(name)]
  return known, not any(map(is_nothing, found))


def identifier(text: str) -> str:
  """The one form of an id: '12.0' is '12', 'nan' is ''; zeros are kept."""
  if is_nothing(text):
    return ''
  text = unicodedata.normalize('NFC', text.strip())
  whole = _WHOLE.fullmatch(text)
  return whole[1] if whole else text


def loose(text: str) -> str:
  """A form that ids share which differ by zeros, case or blanks alone."""
  text = ''.join(identifier(text).casefold().split())
  return re.sub(r'(?<!\d)0+(?=\d)', '', text)


def age(text: str) -> float:
  """Years, nan where the text tells none.

  '51', '051Y' and '51 years' are 51; '300', '90+' and '>89' are 90, as in
  PTB-XL; what nobody can be (-1, 999, inf) is none.
  """
  match = _AGE.fullmatch(text.strip().lower())
  if not match:
    return math.nan
  years = float(match['number'])
  if match['more'] or match['plus']:
    return 90.0 if years in (89, 90) else math.nan
  if years == _OVER_89 and (match['unit'] or 'y')[0] == 'y':
    return 90.0
  years /= _PER_YEAR.get((match['unit'] or 'y')[0], 1)
  return years if years <= _OLDEST else math.nan


def sex(text: str) -> int:
  """0 male, 1 female by known words; -1 for any other, numbers among them."""
  plain = unicodedata.normalize('NFD', text.strip().lower())
  plain = ''.join(c for c in plain if not unicodedata.combining(c))
  return (plain in _FEMALE) - (plain not in _MALE | _FEMALE)


def not_understood(age_text: str, sex_text: str) -> tuple[str, ...]:
  """The texts that mean to tell age or sex, and from which none is had."""
  found = []
  if not is_nothing(age_text) and math.isnan(age(age_text)):
    found.append(f'age {age_text.strip()!r}')
  if not is_nothing(sex_text) and sex(sex_text) < 0:
    found.append(f'sex {sex_text.strip()!r}')
  return tuple(found)


def to_csv(text: str) -> str:
  """A cell that no spreadsheet computes: "'=1+1" for '=1+1'."""
  return "'" + text if text.startswith(_FORMULA) else text


def from_csv(text: str) -> str:
  """The text that `to_csv` was given."""
  quoted = text.startswith("'") and text[1:].startswith(_FORMULA)
  return text[1:] if quoted else text
