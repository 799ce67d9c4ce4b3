"""Recordings that publishers ship as arrays: MATLAB structures and HDF5.

Values are floating-point millivolts, stored as int16 at 1 uV a unit.
"""

import io
import os
import zlib

import numpy as np

from ecgjax.ecg import leads, resample
from ecgjax.ecg.recording import BadRecord, Recording
from ecgjax.formats import raw_files, wfdb

_UNITS_PER_MILLIVOLT = 1000.0
_MAX_BYTES = 1 << 28  # unpacked: 12 leads of `wfdb.MAX_SAMPLES` float64
_COMPRESSED = 15  # MATLAB level 5 element type
_HEADER = 128  # bytes


def read_cpsc2018(path: str, root: str) -> Recording:
  """Reads a record of CPSC2018: a structure `ECG` with sex, age and data.

  Args:
    path: with suffix, relative to `root`.
    root: the raw folder.

  Returns:
    500 Hz; sex and age are comments in the words of CinC headers.

  Raises:
    BadRecord: see `validate`.
  """
  try:
    content = _load_mat(path, root)
    try:
      record = content['ECG'][0, 0]
      ecg = record['data'].T
      sex, age = record['sex'][0], record['age'][0, 0]
    except (KeyError, IndexError, ValueError, AttributeError) as error:
      raise BadRecord('unreadable', f'no structure ECG: {error}') from None
    return _from_millivolts(ecg, 500.0, path, (f'Age: {age}', f'Sex: {sex}'))
  except BadRecord as error:
    raise BadRecord(error.reason, error.detail, path) from None


def read_code_mat(path: str, root: str) -> Recording:
  """Reads a CODE-15 % example: `feats` [12, T] and `curr_sample_rate`.

  Raises:
    BadRecord: see `validate`.
  """
  try:
    content = _load_mat(path, root)
    try:
      ecg, rate = content['feats'].T, float(content['curr_sample_rate'].item())
    except (KeyError, ValueError, AttributeError) as error:
      raise BadRecord('unreadable', f'no array feats: {error}') from None
    return _from_millivolts(ecg, rate, path)
  except BadRecord as error:
    raise BadRecord(error.reason, error.detail, path) from None


def _load_mat(path: str, root: str) -> dict:
  """Content of a MATLAB level 5 file; scipy runs nothing that is in it."""
  import scipy.io

  real = raw_files.confine(path, root)
  data = raw_files.read(real, root, 'missing_file', 0, _MAX_BYTES)
  _check_unpacked_size(data)
  try:
    return scipy.io.loadmat(io.BytesIO(data))
  except Exception as error:  # whatever a hostile file makes it raise
    detail = ' '.join(str(error).split())[:200]
    raise BadRecord('unreadable', f'not a MATLAB file: {detail}') from None


def _check_unpacked_size(data: bytes):
  """A few kilobytes may unpack to gigabytes."""
  position, room = _HEADER, _MAX_BYTES
  while position + 8 <= len(data):
    kind, size = np.frombuffer(data, '<u4', 2, position).tolist()
    position += 8
    if kind == _COMPRESSED:
      try:
        unpacked = zlib.decompressobj().decompress(
          data[position : position + size], room
        )
      except zlib.error as error:
        raise BadRecord('unreadable', f'not a MATLAB file: {error}') from None
      room -= len(unpacked)
      if room <= 0:
        raise BadRecord('too_large', f'unpacks to over {_MAX_BYTES} bytes')
    position += size


def open_tracings(path: str, root: str):
  """Opens an HDF5 part of CODE-15 %: `exam_id` [N], `tracings` [N, T, 12].

  Args:
    path: with suffix, relative to `root`.
    root: the raw folder.

  Returns:
    An `h5py.File`, to be closed by the caller (it is a context manager).

  Raises:
    BadRecord: see `validate`.
  """
  import h5py

  try:
    real = raw_files.confine(path, root)
    os.close(raw_files.open_regular(real, root, 'missing_file')[0])
    file = h5py.File(real, 'r')
  except BadRecord as error:
    raise BadRecord(error.reason, error.detail, path) from None
  except OSError as error:
    raise BadRecord('unreadable', f'not HDF5: {error}', path) from None
  for name, rank in (('exam_id', 1), ('tracings', 3)):
    # A link or an external array would lead to files elsewhere.
    link = file.get(name, getlink=True)
    array = file[name] if isinstance(link, h5py.HardLink) else None
    if (
      not isinstance(array, h5py.Dataset)
      or array.is_virtual
      or array.external
      or array.ndim != rank
    ):
      file.close()
      raise BadRecord('unreadable', f'no array {name} of rank {rank}', path)
  return file


def tracing_rows(file) -> dict[int, int]:
  """Exam id -> row of an open HDF5 part.

  The order is not that of the table, so rows are found by id. The last row of
  each part has the id 0 and belongs to no exam.
  """
  ids = file['exam_id'][:].tolist()
  return {exam_id: row for row, exam_id in enumerate(ids) if exam_id}


def read_tracing(file, row: int, rate: float = 400.0) -> Recording:
  """Reads one row of an open HDF5 part, without the zeros at both ends.

  Raises:
    BadRecord: see `validate`.
  """
  name = f'{file.filename}[{row}]'
  array = file['tracings']
  if array.shape[1] > wfdb.MAX_SAMPLES:
    raise BadRecord('too_large', f'{array.shape[1]} samples', name)
  try:
    ecg = array[row]
  except OSError as error:
    raise BadRecord('unreadable', f'HDF5: {error}', name) from None
  recorded = np.flatnonzero((ecg != 0).any(axis=1))
  if not recorded.size:
    raise BadRecord('flat', 'all leads', name)
  return _from_millivolts(ecg[recorded[0] : recorded[-1] + 1], rate, name)


def _from_millivolts(ecg, rate, file, comments=()) -> Recording:
  """Takes ecg [T, 12] floating-point millivolts, leads as `leads.LEADS`."""
  if not isinstance(ecg, np.ndarray) or ecg.ndim != 2 or ecg.dtype.kind != 'f':
    raise BadRecord('unreadable', 'no array of millivolts', file)
  count, width = ecg.shape
  if count > wfdb.MAX_SAMPLES:
    raise BadRecord('too_large', f'{count} samples', file)
  if width != len(leads.LEADS):
    reason = 'missing_lead' if width < len(leads.LEADS) else 'extra_lead'
    raise BadRecord(reason, f'{width} leads', file)
  gain = np.full(width, _UNITS_PER_MILLIVOLT)
  samples, gain = resample.fit_int16(ecg * _UNITS_PER_MILLIVOLT, gain)
  return Recording(
    samples,
    gain,
    np.zeros(width),
    rate,
    leads.LEADS,
    comments,
    checksum_checked=False,
    file=file,
  )
