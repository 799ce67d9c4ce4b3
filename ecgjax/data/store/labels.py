"""Label tasks: from every stored statement to the classes of one task.

A data set stores all statements of a record as a multi-hot vector over its
`label_names`, with a mask that is 0 where the source does not annotate that
statement. The task is chosen when reading:

  task = labels.make_task('superclass', builder.info.metadata['label_names'])
  label, mask = labels.apply(task, example['labels'], example['label_mask'])

Stored names are SCP codes (PTB-XL), SNOMED CT codes (CinC 2021), the columns of
CODE-15 % or those of the user's own table. A class is positive if any of its
statements is; a stored label that is named like the class counts too, so a
table with a column `AF` needs no codes. Tasks:

  all            every stored statement is a class
  diagnostic, subclass, superclass, form, rhythm   PTB-XL, 44/23/5/19/12
                 classes; presence makes a label, not likelihood (0 means
                 unknown); records with no label of the task are dropped
  scored         CinC 2021, 30 scored codes merged to 26 classes
  cpsc9          nine classes of CPSC2018 in CinC 2021's codes. Its ventricular
                 beats carry 164884008, which the challenge does not score. N,
                 normal, is in doubt where anything else is stated: other
                 sources give its code to any sinus rhythm
  chapman4       AFIB, GSVT, SB, SR: the usual four groups of Chapman's rhythms,
                 which exclude each other: statements of two of them leave both
                 in doubt. Records with no label of the task are dropped, as
                 for cpsc9
  longitudinal   AF, AFL, premature, 1AVB, MI of `LONGITUDINAL`; each of them is
                 a task of its own too, and MI_strict leaves out injury
  NDT,LVH        stored statements by name, separated by commas

Sources: the mapping of the PhysioNet/CinC challenge 2021, PTB-XL's statement
table; traps in both: docs/methods.md, Label tasks.
"""

import csv
import functools
import importlib.resources
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.formats import cells

# SNOMED CT codes that the challenge scores as one diagnosis.
MERGED = (
  ('733534002', '164909002'),  # complete and unspecified left bundle branch
  ('713427006', '59118001'),  # complete and unspecified right bundle branch
  ('284470004', '63593006'),  # premature atrial, supraventricular premature
  ('427172004', '17338001'),  # premature ventricular, ventricular premature
)
AF, AFL = '164889003', '164890007'
# Ningbo has 7,615 flutters and no fibrillation: implausible, so the two were
# probably pooled. Its flutter code is stored under a name of its own, which
# only classes that mean "fibrillation or flutter" contain; its AF and AFL are
# masked.
NINGBO_AF_OR_AFL = 'ningbo_' + AFL
# PTB-XL knows a normal ECG (NORM) and sinus rhythm (SR), and its copy in the
# challenge gives either of them this code: one of ten carries it for an
# infarction with SR, another for NORM beside SBRAD. Stored under a name of its
# own there; only the challenge's own class contains it.
NSR = '426783006'
PTBXL_NORM_OR_SR = 'ptb-xl_' + NSR
# Codes that are in no table of the challenge end here.
UNKNOWN_CODE = 'unknown_code'
# (source, code) -> name under which it is stored.
_POOLED = {
  ('ningbo', AFL): NINGBO_AF_OR_AFL,
  ('ptb-xl', NSR): PTBXL_NORM_OR_SR,
}

_PVC = ('164884008', '427172004', '17338001')
_PAC = ('284470004', '63593006')

CPSC9 = {
  'N': (NSR,),
  'AF': (AF,),
  'IAVB': ('270492004',),
  'LBBB': MERGED[0],
  'RBBB': MERGED[1],
  'PAC': _PAC,
  'PVC': _PVC,
  'STD': ('429622005',),
  'STE': ('164931005',),
}
CHAPMAN4 = {
  'AFIB': (AF, AFL, NINGBO_AF_OR_AFL),
  # Supraventricular, atrial, AV-nodal and AV re-entrant tachycardia, wandering
  # rhythm and sinus tachycardia.
  'GSVT': (
    '426761007', '713422000', '251166008', '233897008', '17366009', '427084000',
  ),
  'SB': ('426177001',),
  'SR': (NSR, '427393009'),
}  # fmt: skip

_INFARCTION = (
  'IMI', 'ASMI', 'ILMI', 'AMI', 'ALMI', 'LMI', 'IPLMI', 'IPMI', 'PMI',
)  # fmt: skip
_INJURY = ('INJAS', 'INJAL', 'INJIN', 'INJLA', 'INJIL')
_MI_SNOMED = ('164865005', '57054005', '54329005', '164867002')
# Class -> (positive statements, statements that make a record unclear: neither
# a positive nor a clean negative, so its mask is 0).
LONGITUDINAL = {
  'AF': (
    ('AFIB', AF),
    # Paroxysmal, rapid, chronic; fibrillation and flutter.
    ('282825002', '314208002', '426749004', '195080001'),
  ),
  'AFL': (('AFLT', AFL), ('195080001',)),
  'premature': (
    ('PAC', 'PVC', 'PRC(S)', 'BIGU', 'TRIGU', *_PAC, *_PVC,
     # Blocked atrial, atrial and supraventricular bigeminy, junctional,
     # ventricular bigeminy, trigeminy and pairs.
     '251170000', '251173003', '251168009', '251164006', '11157007',
     '251180001', '251182009'),
    (),
  ),
  # A prolonged PR interval is no clean negative.
  '1AVB': (('1AVB', '270492004', '1dAVb'), ('LPR', '164947007')),
  'MI': ((*_INFARCTION, *_INJURY, *_MI_SNOMED), ()),
}  # fmt: skip
_SINGLE = LONGITUDINAL | {'MI_strict': ((*_INFARCTION, *_MI_SNOMED), _INJURY)}

_PTBXL_TASKS = ('diagnostic', 'subclass', 'superclass', 'form', 'rhythm')
TASKS = (
  'all', *_PTBXL_TASKS, 'scored', 'cpsc9', 'chapman4', 'longitudinal', *_SINGLE
)  # fmt: skip


class LabelTask(NamedTuple):
  """How K classes follow from A stored statements.

  Attributes:
    classes: names of the K classes.
    positive: [K, A] uint8, 1 where the statement makes the class positive.
    unclear: [K, A] uint8, 1 where the statement, without a positive one,
      leaves the class undecided.
    excluding: [K, A] uint8, 1 where the statement contradicts the class: with
      both, it is undecided.
    labelled_only: whether records without any positive class are dropped.
  """

  classes: tuple[str, ...]
  positive: np.ndarray
  unclear: np.ndarray
  excluding: np.ndarray
  labelled_only: bool


def read_table(name: str) -> list[dict]:
  """Rows of a CSV table of this package, comment lines skipped."""
  text = (importlib.resources.files('ecgjax.data') / name).read_text()
  lines = [x for x in text.splitlines() if not x.startswith('#')]
  return list(csv.DictReader(lines))


@functools.cache
def scp_statements() -> tuple[dict, ...]:
  """The 71 statements of PTB-XL, in the order of its own table."""
  return tuple(read_table('scp_statements.csv'))


@functools.cache
def snomed_codes() -> tuple[dict, ...]:
  """The 133 codes of CinC 2021 with the number of records per source."""
  return tuple(read_table('snomed_codes.csv'))


def title(name: str) -> str:
  """A stored name for people: the abbreviation of a SNOMED CT code."""
  codes = {row['code']: row['abbreviation'] for row in snomed_codes()}
  return codes.get(name, name)


def scp_names() -> list[str]:
  """Stored label names of PTB-XL."""
  return [row['code'] for row in scp_statements()]


def snomed_names() -> list[str]:
  """Stored label names of CinC 2021."""
  codes = [row['code'] for row in snomed_codes()]
  return [*codes, NINGBO_AF_OR_AFL, PTBXL_NORM_OR_SR, UNKNOWN_CODE]


def encode_scp(codes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Statements of one PTB-XL record as (labels, label_mask), [71] uint8.

  No statement at all is no annotation: mask 0.

  Raises:
    ValueError: if a code is none of the 71 statements.
  """
  names = scp_names()
  labels = np.zeros(len(names), np.uint8)
  for code in codes:
    if code not in names:
      raise ValueError(f'{code!r} is not one of the 71 SCP statements')
    labels[names.index(code)] = 1
  return labels, np.full_like(labels, labels.any())


def read_snomed(texts: Iterable[str]) -> tuple[list[str], bool]:
  """Codes of all `Dx` fields of a header, however they are separated.

  Returns:
    The codes, each once and without '.0', and whether all was read: False
    where a text is no code or says that nothing is known ('Unknown', '0').
  """
  codes, everything = {}, True
  for text in texts:
    found, told = cells.names(text)
    everything &= told
    for word in ' '.join(found).split():
      code = cells.identifier(word)
      if cells.is_nothing(code) or not code.strip('0'):
        everything = False
      else:
        codes[code] = None
        everything &= code.isdecimal()
  return list(codes), everything


def encode_snomed(
  codes: Sequence[str], source: str, everything: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """Codes of one CinC 2021 record as (labels, label_mask), [A] uint8.

  Args:
    codes: SNOMED CT codes; duplicates and empty strings are ignored, a code
      in no table sets `UNKNOWN_CODE`.
    everything: whether the codes are all that was stated; if not, or if none
      of them is known, nothing is known of the diagnoses that are absent.
    source: folder name of the source; codes that never occur there are not
      annotated and get mask 0. The challenge's counts miss some (two codes of
      `ptb`): a label that is set was annotated.
  """
  position = {name: i for i, name in enumerate(snomed_names())}
  labels = np.zeros(len(position), np.uint8)
  for code in {code for code in codes if code}:
    code = _POOLED.get((source, code), code)
    labels[position.get(code, position[UNKNOWN_CODE])] = 1
  told = everything and labels[: position[UNKNOWN_CODE]].any()
  return labels, annotated(source) * np.uint8(told) | labels


@functools.cache
def annotated(source: str) -> np.ndarray:
  """[A] uint8, 1 for the codes that a source of CinC 2021 annotates."""
  mask = [
    int(row[source]) > 0 and (source, row['code']) not in _POOLED
    for row in snomed_codes()
  ]
  return np.array(
    [*mask, source == 'ningbo', source == 'ptb-xl', True], np.uint8
  )


def _ptbxl_classes(task: str) -> dict[str, tuple[str, ...]]:
  """Class -> statements for the five PTB-XL tasks."""
  rows = scp_statements()
  if task in ('diagnostic', 'form', 'rhythm'):
    return {r['code']: (r['code'],) for r in rows if r[task] == '1'}
  column = 'diagnostic_' + ('class' if task == 'superclass' else 'subclass')
  rows = [row for row in rows if row['diagnostic'] == '1']
  names = dict.fromkeys(row[column] for row in rows)
  if task == 'superclass':  # the order of the literature
    names = ('NORM', 'MI', 'STTC', 'CD', 'HYP')
  return {
    name: tuple(row['code'] for row in rows if row[column] == name)
    for name in names
  }


def _scored_classes() -> dict[str, tuple[str, ...]]:
  """26 classes: scored codes, the merged ones joined by '|'."""
  rows = [row for row in snomed_codes() if row['scored'] == '1']
  names = {row['code']: row['abbreviation'] for row in rows}
  classes = {}
  for code in names:
    group = next((g for g in MERGED if code in g), (code,))
    classes.setdefault('|'.join(names[c] for c in group), group)
  # The challenge itself takes Ningbo's flutters for flutters, and either
  # statement of PTB-XL for sinus rhythm.
  own = {'AFL': (AFL, NINGBO_AF_OR_AFL), 'NSR': (NSR, PTBXL_NORM_OR_SR)}
  return classes | own


def _classes(task: str, label_names) -> dict[str, tuple[tuple, tuple]]:
  """Class -> (positive, unclear) statements."""
  if task == 'longitudinal':
    return LONGITUDINAL
  if task in _SINGLE:
    return {task: _SINGLE[task]}
  if task == 'all':
    classes = {name: (name,) for name in label_names}
  elif task in _PTBXL_TASKS:
    classes = _ptbxl_classes(task)
  elif task == 'scored':
    classes = _scored_classes()
  elif task == 'cpsc9':
    classes = CPSC9
  elif task == 'chapman4':
    classes = CHAPMAN4
  elif set(task.split(',')) <= set(label_names):
    classes = {name: (name,) for name in task.split(',')}
  else:
    raise ValueError(
      f'no label task {task!r}; choose one of {", ".join(TASKS)}, or stored '
      'labels separated by commas'
    )
  found = {name: (positive, ()) for name, positive in classes.items()}
  if task == 'chapman4':  # NORM says nothing about the rhythm
    found['SR'] = (CHAPMAN4['SR'], (PTBXL_NORM_OR_SR,))
  return found


def make_task(task: str, label_names: Sequence[str]) -> LabelTask:
  """Resolves a task against the labels that a data set stores.

  Args:
    task: one of `TASKS`.
    label_names: the A stored names, `metadata['label_names']`.

  Raises:
    ValueError: if there is no such task, or if a class of it has no stored
      label here.
  """
  label_names = list(label_names)
  classes = _classes(task, label_names)
  for name in classes:
    if not name.isascii() and name != name.encode(errors='ignore').decode():
      raise ValueError(
        f'the label {ascii(name)} is no text (a lone surrogate); rename it'
      )
  positive = np.zeros((len(classes), len(label_names)), np.uint8)
  unclear = np.zeros_like(positive)
  for row, (name, (wanted, doubtful)) in enumerate(classes.items()):
    for column, stored in enumerate(label_names):
      positive[row, column] = stored == name or stored in wanted
      unclear[row, column] = stored in doubtful
  absent = [name for name, row in zip(classes, positive) if not row.any()]
  if absent or not classes:
    raise ValueError(
      f'task {task!r} needs {", ".join(absent) or "labels"}; the data set has '
      + (', '.join(label_names) or 'none')
    )
  excluding = np.zeros_like(positive)
  if task == 'chapman4':
    excluding = positive.any(axis=0) & ~positive.astype(bool)
  elif task == 'cpsc9':
    normal = list(classes).index('N')
    excluding[normal] = 1 - positive[normal]
  labelled_only = task in (*_PTBXL_TASKS, 'cpsc9', 'chapman4')
  return LabelTask(
    tuple(classes),
    positive,
    unclear,
    excluding.astype(np.uint8),
    labelled_only,
  )


def apply(
  task: LabelTask, labels: np.ndarray, label_mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Classes of a task from stored statements.

  Args:
    task: K classes over A statements.
    labels: [..., A] uint8, 1 where the statement was made.
    label_mask: [..., A] uint8, 0 where it is not annotated in this source.

  Returns:
    label [..., K] float32 in {0, 1}, and mask [..., K] float32: 1 where the
    class is annotated and not in doubt.
  """
  stated = _any(labels, task.positive)
  annotated = _any(label_mask, task.positive)
  contradicted = stated & _any(labels, task.excluding)
  doubtful = _any(labels, task.unclear) & ~stated | contradicted
  found = stated & ~contradicted
  return found.astype(np.float32), (annotated & ~doubtful).astype(np.float32)


def _any(bits, members):
  # int32: a sum of uint8 products wraps at 256 statements.
  return np.asarray(bits, np.int32) @ members.T.astype(np.int32) > 0
