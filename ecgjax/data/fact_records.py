"""The recordings of a raw folder for `ecgjax.data.facts`, read as they are.

Unlike a builder this leaves nothing out (no fold, no second version of a
recording) and keeps the statements as the publisher writes them.
"""

import csv
import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ecgjax.data import cinc2021, code15, ptbxl
from ecgjax.data.raw import arrays, validate
from ecgjax.data.store import labels
from ecgjax.ecg.recording import BadRecord, Recording
from ecgjax.formats import wfdb, wfdb_folder

_EXAMPLE = re.compile(r'code_15_(\d+)\.mat')


class Item(NamedTuple):
  """A recording that is to be read.

  Attributes:
    name: unique in the folder.
    source: the part of the corpus that it is counted with.
    path: relative to the raw folder, as `read` expects it.
    read: (path, raw folder) -> `recording.Recording`.
    statements: as the table has them; None: the header may say.
  """

  name: str
  source: str
  path: str
  read: Callable = wfdb.read_wfdb
  statements: tuple[str, ...] | None = None


def _ptbxl(raw_dir: str) -> Iterator[Item]:
  for row in ptbxl.read_table(_table(raw_dir, ptbxl.TABLE)):
    for field in ('filename_lr', 'filename_hr'):
      path = row[field]
      if os.path.exists(os.path.join(raw_dir, path + '.hea')):
        source = path.partition('/')[0]
        yield Item(path, source, path, statements=tuple(row['codes']))


def _cinc2021(raw_dir: str) -> Iterator[Item]:
  training = 'training'
  if not os.path.isdir(os.path.join(raw_dir, training)):
    training = ''
  for source in cinc2021.SOURCES:
    folder = os.path.join(training, source)
    if os.path.isdir(os.path.join(raw_dir, folder)):
      for path in wfdb_folder.find_records(raw_dir, folder):
        yield Item(os.path.basename(path), source, path)


def _wfdb_folder(raw_dir: str) -> Iterator[Item]:
  for path in wfdb_folder.find_records(raw_dir):
    yield Item(path, 'wfdb_folder', path)


def header_gain(
  recording: Recording, path: str, root: str
) -> tuple[list[float], list[float]]:
  """[12] gains of a WFDB header and [12] peak-to-peak values by them, mV."""
  header = wfdb.read_header(os.path.join(root, path), root)
  by_lead = {signal.lead: float(signal.gain) for signal in header.signals}
  gain = np.array([by_lead[lead] for lead in recording.leads])
  span = np.ptp(recording.samples.astype(float), axis=0) / gain
  return gain.tolist(), span.tolist()


def _ludb(raw_dir: str) -> Iterator[Item]:
  for path in wfdb_folder.find_records(raw_dir):
    yield Item(os.path.basename(path), 'ludb', path)


def _cpsc2018(raw_dir: str) -> Iterator[Item]:
  table = {}
  path = os.path.join(raw_dir, 'labels.csv')
  if os.path.exists(path):
    with open(path, newline='', encoding='utf-8-sig') as file:
      table = {
        row['filename']: tuple(k for k, v in row.items() if v == '1' != k)
        for row in csv.DictReader(file)
      }
  for name in sorted(os.listdir(raw_dir)):
    stem = name.removesuffix('.mat')
    if stem != name:
      read = arrays.read_cpsc2018
      statements = tuple(k for k in table.get(stem, ()) if k != 'sex')
      yield Item(stem, 'cpsc2018', name, read, statements)


def _code15(raw_dir: str) -> Iterator[Item]:
  if os.path.exists(os.path.join(raw_dir, code15.TABLE)):
    for row in code15.read_table(os.path.join(raw_dir, code15.TABLE)):
      path = f'{row["trace_file"]}/{row["exam_id"]}'
      bits = zip(code15.LABELS, *row['labels'])
      statements = tuple(name for name, on, known in bits if on and known)
      name = str(row['exam_id'])
      yield Item(name, 'code15', path, code15.read_exam, statements)
    return
  with open(_table(raw_dir, 'meta.csv'), newline='') as file:
    rows = {row['exam_id']: row for row in csv.DictReader(file)}
  for name in sorted(os.listdir(raw_dir)):
    match = _EXAMPLE.fullmatch(name)
    if match:
      row = rows.get(match[1], {})
      statements = tuple(k for k in code15.LABELS if row.get(k) == 'True')
      yield Item(match[1], 'code15', name, arrays.read_code_mat, statements)


_FOLDERS = {
  'ptbxl': _ptbxl,
  'cinc2021': _cinc2021,
  'ludb': _ludb,
  'cpsc2018': _cpsc2018,
  'code15': _code15,
  'wfdb_folder': _wfdb_folder,
}
DATASETS = tuple(_FOLDERS)


def _table(raw_dir: str, name: str) -> str:
  path = os.path.join(raw_dir, name)
  if not os.path.exists(path):
    raise ValueError(f'{raw_dir} has no {name}; raw_dir is another folder')
  return path


@functools.lru_cache(maxsize=16)
def find(dataset: str, raw_dir: str) -> tuple[Item, ...]:
  """All recordings that are there, in the order of table or folder.

  Raises:
    ValueError: if the data set is unknown, or the folder holds none of it.
  """
  if dataset not in _FOLDERS:
    raise ValueError(
      f'no facts about {dataset!r}; choose one of {", ".join(DATASETS)}'
    )
  if not os.path.isdir(raw_dir):
    raise ValueError(f'raw_dir {raw_dir}: no such folder')
  items = tuple(_FOLDERS[dataset](raw_dir))
  if not items:
    raise ValueError(f'{raw_dir} holds no recording of {dataset}')
  return items


def statements(item: Item, recording: Recording) -> list[str]:
  """What is said of a recording, by the table or by its header (`#Dx:`)."""
  if item.statements is not None:
    return sorted(set(item.statements))
  texts = wfdb_folder.every(recording.comments, 'dx')
  return sorted(labels.read_snomed(texts)[0])


def verdict(recording: Recording) -> str:
  """Reason code of `validate` that speaks against a recording; '' if none."""
  try:
    validate.check(recording)
  except BadRecord as error:
    return error.reason
  return ''
