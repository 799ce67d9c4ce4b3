"""Recordings from files: WFDB by a fast path, else through the wfdb package.

Nothing here trusts a file: paths stay under the raw folder, no memory is
reserved because a header says so, and what cannot be read is a `BadRecord`.
"""

import os
import stat
from typing import NamedTuple

import numpy as np

from ecgjax import leads as leads_lib
from ecgjax.data import validate, wfdb_header
from ecgjax.data.validate import BadRecord

# Per lead. 2.3 hours at 500 Hz; 12 leads of it are 100 MB.
MAX_SAMPLES = 1 << 22
MAX_SIGNALS = 64
# Bytes per sample of the storage formats that have a fixed size.
_BYTES = {
  '8': 1, '80': 1, '16': 2, '61': 2, '160': 2, '24': 3, '32': 4,
  '212': 3 / 2, '310': 4 / 3, '311': 4 / 3,
}  # fmt: skip
# Digital value of a missing sample, where it is not that of format 16.
_INVALID = {
  '80': -128, '212': -2048, '310': -512, '311': -512, '24': -(1 << 23),
  '32': -(1 << 31),
}  # fmt: skip
# MATLAB level 4: int16, little endian, full matrix, real; name 'val'.
_MAT_OFFSET = 24
_MAT_TYPE = 30


class Recording(NamedTuple):
  """One recording.

  Attributes:
    samples: [T, C] int16, digital units, `validate.INVALID` where missing.
    gain: [C] float64, digital units per millivolt.
    baseline: [C] float64, digital value of zero millivolts.
    rate: sampling rate, Hz.
    leads: canonical names in canonical order, C of them.
    comments: comment lines of the header, e.g. 'Age: 46'.
    checksum_checked: whether the file gave checksums (they agree if so).
    file: relative to the raw folder, for messages.
  """

  samples: np.ndarray
  gain: np.ndarray
  baseline: np.ndarray
  rate: float
  leads: tuple[str, ...]
  comments: tuple[str, ...] = ()
  checksum_checked: bool = False
  file: str = ''

  def millivolts(self) -> np.ndarray:
    """[T, C] float32; nan where missing."""
    ecg = self.samples.astype(np.float32)
    ecg -= self.baseline.astype(np.float32)
    ecg /= self.gain.astype(np.float32)
    missing = self.samples == validate.INVALID
    if missing.any():
      ecg[missing] = np.nan
    return ecg


def confine(path: str, root: str) -> str:
  """Resolves a path from a table or header and keeps it under the raw folder.

  Args:
    path: absolute, or relative to `root`.
    root: the raw folder.

  Returns:
    The path without links.

  Raises:
    BadRecord: `outside_root`.
  """
  root = os.path.realpath(root)
  try:
    real = os.path.realpath(os.path.join(root, path))
  except ValueError:  # a null byte
    real = ''
  if not real.startswith(os.path.join(root, '')):
    raise BadRecord('outside_root', f'{path!r} leaves the raw folder')
  return real


def _open(path: str, root: str, absent: str) -> tuple[int, int]:
  """Opens a regular file under `root`; returns (descriptor, bytes).

  Raises:
    BadRecord: `outside_root`, `unreadable` or the reason `absent`.
  """
  if os.path.islink(path):
    path = confine(path, root)
  try:
    # Not blocking, so that a named pipe cannot hold us up.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
  except FileNotFoundError:
    raise BadRecord(absent, f'no file {os.path.basename(path)}') from None
  except (OSError, ValueError) as error:
    raise BadRecord('unreadable', str(error)) from None
  status = os.fstat(descriptor)
  if not stat.S_ISREG(status.st_mode):
    os.close(descriptor)
    raise BadRecord('unreadable', 'not a regular file')
  return descriptor, status.st_size


def _read(path: str, root: str, absent: str, limit: int) -> bytes:
  descriptor, size = _open(path, root, absent)
  try:
    if size > limit:
      raise BadRecord('too_large', f'{size} bytes, at most {limit} are read')
    return os.read(descriptor, size)
  finally:
    os.close(descriptor)


def lead_order(names, required=leads_lib.LEADS) -> list[int]:
  """Positions in the file of its leads in canonical order.

  Args:
    names: of the file's signals, as `wfdb_header.Signal.lead`.
    required: canonical names that must be there.

  Raises:
    BadRecord: `duplicate_lead`, `unknown_lead`, `missing_lead` or
      `extra_lead`. The orthogonal leads of 15-lead PTB files (vx, vy, vz)
      are extra leads: no corpus of this project has them.
  """
  if len(set(names)) != len(names):
    twice = sorted({name for name in names if names.count(name) > 1})
    raise BadRecord('duplicate_lead', ', '.join(map(repr, twice)))
  unknown = [name for name in names if name not in leads_lib.LEADS]
  missing = [name for name in required if name not in names]
  if missing:
    reason = 'unknown_lead' if unknown else 'missing_lead'
    detail = f'no {", ".join(missing)}'
    raise BadRecord(reason, detail + (f' but {unknown}' if unknown else ''))
  if unknown:
    raise BadRecord('extra_lead', ', '.join(map(repr, unknown)))
  return [names.index(name) for name in leads_lib.LEADS if name in names]


def read_wfdb(
  path: str,
  root: str,
  max_samples: int = MAX_SAMPLES,
  required: tuple[str, ...] = leads_lib.LEADS,
) -> Recording:
  """Reads a WFDB record.

  Args:
    path: without suffix, relative to `root` (or absolute and under it).
    root: the raw folder, which no path and no link may leave.
    max_samples: per lead; a header that claims more is refused.
    required: leads that must be there.

  Raises:
    BadRecord: see `validate`; `file` is relative to `root`.
  """
  try:
    return _read_wfdb(os.fspath(path), root, max_samples, required)
  except BadRecord as error:
    if not error.file:
      raise BadRecord(error.reason, error.detail, str(path)) from None
    raise


def _read_wfdb(path, root, max_samples, required) -> Recording:
  base = confine(path, root)
  try:
    data = _read(base + '.hea', root, 'missing_file', wfdb_header.MAX_BYTES)
  except BadRecord as error:
    if error.reason == 'missing_file' and any(
      os.path.exists(base + suffix) for suffix in ('.dat', '.mat')
    ):
      raise BadRecord('missing_header', error.detail) from None
    raise
  header = wfdb_header.parse(data)
  if header.segments:
    raise BadRecord('unreadable', 'records of several segments')
  signals = header.signals
  order = lead_order([signal.lead for signal in signals], required)
  claimed = header.samples or 0
  if claimed > max_samples or len(signals) > MAX_SIGNALS:
    raise BadRecord(
      'too_large', f'{len(signals)} x {header.samples} samples claimed'
    )
  first = signals[0]
  folder = os.path.dirname(base)
  for name in {signal.file for signal in signals}:
    if '/' in name or '\\' in name or name in ('.', '..', '~'):
      raise BadRecord('outside_root', f'signal file {name!r} in the header')
  if (
    any(
      signal[:5] != (first.file, '16', 1, 0, first.offset) or signal.block
      for signal in signals
    )
    or header.samples is None
  ):
    raise BadRecord('unreadable', 'not yet')
  samples = _read_int16(os.path.join(folder, first.file), root, header)
  # Lead after lead in memory: every later step works along time.
  samples = np.ascontiguousarray(samples.T[order])  # [C, T]
  signals = [signals[k] for k in order]
  total = samples.view(np.uint16).sum(axis=1, dtype=np.uint16)
  checked = _verify_checksums(signals, total)
  return Recording(
    samples.T,
    np.array([signal.gain for signal in signals]),
    np.array([float(signal.baseline) for signal in signals]),
    header.rate,
    tuple(signal.lead for signal in signals),
    header.comments,
    checked,
    path,
  )


def _read_int16(path, root, header) -> np.ndarray:
  """The fast path: [T, C] int16 in the order of the file."""
  signals = header.signals
  offset = signals[0].offset
  expected = offset + 2 * header.samples * len(signals)
  descriptor, size = _open(path, root, 'missing_signal_file')
  try:
    if size != expected:
      raise BadRecord(
        'short_file' if size < expected else 'long_file',
        f'{size} bytes, {expected} expected',
      )
    data = os.read(descriptor, size)
  finally:
    os.close(descriptor)
  if path.endswith('.mat'):
    kind, rows, columns = np.frombuffer(data, '<i4', 3)
    if (offset, kind, rows, columns) != (
      _MAT_OFFSET,
      _MAT_TYPE,
      len(signals),
      header.samples,
    ):
      raise BadRecord(
        'mat_header', f'type {kind}, {rows} x {columns}, offset {offset}'
      )
  return np.frombuffer(data, '<i2', offset=offset).reshape(-1, len(signals))


def _verify_checksums(signals, totals) -> bool:
  """True if all signals have a checksum, which then is right."""
  checked = True
  for signal, total in zip(signals, totals.tolist()):
    if signal.checksum is None:
      checked = False
    elif (total - signal.checksum) % 65536:
      raise BadRecord(
        'checksum',
        f'lead {signal.lead}: sum {total}, header {signal.checksum % 65536}',
      )
  return checked
