"""WFDB records that are not plain format 16, through the wfdb package.

The package believes headers: what they claim is compared with the files
before it is asked, and the checksums, which it ignores, afterwards.
"""

import math
import os

import numpy as np

from ecgjax.ecg import resample
from ecgjax.ecg.recording import INVALID, BadRecord
from ecgjax.formats import raw_files, wfdb_header

# Bytes per sample of the storage formats of fixed size.
_BYTES = {
  '8': 1,
  '80': 1,
  '16': 2,
  '61': 2,
  '160': 2,
  '24': 3,
  '32': 4,
  '212': 3 / 2,
  '310': 4 / 3,
  '311': 4 / 3,
}
_COMPRESSED = ('508', '516', '524')
# What says that a sample is missing; format 8 (differences) has no such value.
_MISSING = {
  '80': -(1 << 7),
  '508': -(1 << 7),
  '16': INVALID,
  '61': INVALID,
  '160': INVALID,
  '516': INVALID,
  '24': -(1 << 23),
  '524': -(1 << 23),
  '32': -(1 << 31),
  '212': -(1 << 11),
  '310': -(1 << 9),
  '311': -(1 << 9),
}
_PADDING = 3  # bytes that formats with whole blocks may add


def read(base: str, root: str, header: wfdb_header.Header, max_samples: int):
  """Reads the signals of one record.

  Args:
    base: resolved path without suffix.
    root: the raw folder.
    header: the parsed header of this record.
    max_samples: per lead; more are refused.

  Returns:
    samples [C, T] int16 in the order of the header, gain [C] units/mV,
    baseline [C] units, and the sum of each signal's values [C].

  Raises:
    BadRecord: where files and header disagree, or the package fails.
  """
  signals = header.signals
  for name in {signal.file for signal in signals}:
    _check_file(base, root, header, name, max_samples)
  import wfdb

  try:
    record = wfdb.rdrecord(
      base, physical=False, smooth_frames=False, ignore_skew=True
    )
    totals = [int(ecg.sum()) for ecg in record.e_d_signal]
    frames = [
      row.reshape(-1, signal.frames)
      for row, signal in zip(record.e_d_signal, signals)
    ]
  except Exception as error:  # whatever a hostile file makes it raise
    detail = ' '.join(str(error).split())[:200]
    raise BadRecord('unreadable', f'wfdb: {detail}') from None
  # Of several samples in a frame the mean, as the package has it, but none
  # where one of them is missing: the package averages that one as a value.
  missing = _aligned(
    [
      (part == _MISSING.get(signal.format)).any(axis=1)
      for part, signal in zip(frames, signals)
    ],
    signals,
  )
  ecg = _aligned(
    [(part.sum(axis=1) / part.shape[1]).astype(int) for part in frames], signals
  )
  gain = np.array([signal.gain for signal in signals])
  baseline = np.array([float(signal.baseline) for signal in signals])
  ecg = np.where(missing, 0, ecg)
  if np.abs(ecg).max(initial=0) <= np.iinfo(np.int16).max:
    samples = np.where(missing, INVALID, ecg).astype(np.int16)
    return samples, gain, baseline, totals
  values = np.where(missing, np.nan, ecg - baseline[:, None])
  samples, gain = resample.fit_int16(values.T, gain)
  return samples.T, gain, np.zeros_like(baseline), totals


def _aligned(rows, signals) -> np.ndarray:
  """[C, T] of the frames in which all leads were recorded, skew undone."""
  skew = [signal.skew for signal in signals]
  length = min(map(len, rows)) - max(skew)
  return np.stack([row[s : s + length] for row, s in zip(rows, skew)])


def _check_file(base, root, header, name, max_samples):
  """Compares what the header claims with one of its signal files."""
  signals = [signal for signal in header.signals if signal.file == name]
  first = signals[0]
  if any(signal.format != first.format for signal in signals) or (
    first.format not in _BYTES and first.format not in _COMPRESSED
  ):
    raise BadRecord('unreadable', f'storage format {first.format} of {name}')
  path = os.path.join(os.path.dirname(base), name)
  descriptor, size = raw_files.open_regular(path, root, 'missing_signal_file')
  os.close(descriptor)
  frame = sum(signal.frames for signal in signals)
  longest = (header.samples or 0) * max(signal.frames for signal in signals)
  if max(longest, *(signal.skew for signal in signals)) > max_samples:
    raise BadRecord('too_large', f'{longest} samples claimed')
  if first.format in _COMPRESSED:
    if header.samples is None:
      raise BadRecord('header_malformed', 'compressed, and no sample count')
    return
  each = _BYTES[first.format]
  if header.samples is None:  # the file decides
    if size > max_samples * frame * each:
      raise BadRecord('too_large', f'{size} bytes in {name}')
    if (size - first.offset) % (frame * each) >= 1:
      raise BadRecord('short_file', f'{size} bytes in {name}')
  elif not first.block:
    expected = first.offset + math.ceil(header.samples * frame * each)
    padding = 0 if isinstance(each, int) else _PADDING
    raw_files.check_size(size, expected, expected + padding)
