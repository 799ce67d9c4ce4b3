"""Recordings from files: WFDB by a fast path, else through the wfdb package.

Nothing here trusts a file: paths stay under the raw folder, no memory is
reserved because a header says so, and what cannot be read is a `BadRecord`.
"""

import os

import numpy as np

from ecgjax.ecg import resample
from ecgjax.ecg.leads import LEADS, limb_residual
from ecgjax.ecg.recording import BadRecord, Recording
from ecgjax.formats import raw_files, wfdb_fallback, wfdb_header

# Per lead: 70 minutes at 500 Hz. No step below needs more than 1 GB for it.
MAX_SAMPLES = 1 << 21
# Units; more, and a float32 cannot tell neighbouring samples apart.
_MAX_BASELINE = 1 << 24
# Units by which counts of one scale may miss the limb-lead relations.
_COUNTS_AGREE = 4
# MATLAB level 4: int16, little endian, full matrix, real; name 'val'.
_MAT_OFFSET = 24
_MAT_TYPE = 30


def lead_order(names, required=LEADS) -> list[int]:
  """Returns where the canonical leads stand in the file.

  Args:
    names: leads of the file's signals, as `wfdb_header.Signal.lead`.
    required: canonical names that must be there.

  Raises:
    BadRecord: `duplicate_lead`, `unknown_lead`, `missing_lead` or
      `extra_lead`. The orthogonal leads of 15-lead PTB files (vx, vy, vz)
      are extra leads: no corpus of this project has them.
  """
  if len(set(names)) != len(names):
    twice = sorted({name for name in names if names.count(name) > 1})
    raise BadRecord('duplicate_lead', ', '.join(map(repr, twice)))
  unknown = [name for name in names if name not in LEADS]
  missing = [name for name in required if name not in names]
  if missing:
    reason = 'unknown_lead' if unknown else 'missing_lead'
    detail = f'no {", ".join(missing)}'
    raise BadRecord(reason, detail + (f' but {unknown}' if unknown else ''))
  if unknown:
    raise BadRecord('extra_lead', ', '.join(map(repr, unknown)))
  return [names.index(name) for name in LEADS if name in names]


def read_wfdb(
  path: str,
  root: str,
  max_samples: int = MAX_SAMPLES,
  required: tuple[str, ...] = LEADS,
  names: tuple[str, ...] = (),
) -> Recording:
  """Reads a WFDB record of one or several segments.

  Args:
    path: without suffix, relative to `root` (or absolute and under it).
    root: the raw folder, which no path and no link may leave.
    max_samples: per lead; a header that claims more is refused.
    required: leads that must be there.
    names: leads of the signals in order, where the header names none.

  Raises:
    BadRecord: see `validate`; its `file` is `path`.
  """
  try:
    return _read_record(os.fspath(path), root, max_samples, required, names)
  except BadRecord as error:
    raise BadRecord(error.reason, error.detail, str(path)) from None


def _read_record(
  path, root, max_samples, required, names=(), whole=True
) -> Recording:
  """`read_wfdb`, of a whole record or one segment."""
  base = raw_files.confine(path, root)
  header = read_header(base, root)
  if header.samples is not None:
    if header.samples > max_samples:
      raise BadRecord('too_large', f'{header.samples} samples claimed')
    if header.samples < 2:
      raise BadRecord('too_short', f'{header.samples} samples')
  if header.segments:
    if not whole:
      raise BadRecord('header_malformed', 'segments within a segment')
    joined = _join(header, base, root, max_samples, required, names)
    return joined._replace(file=path)
  signals = _named(header.signals, names)
  order = lead_order([signal.lead for signal in signals], required)
  first = signals[0]
  for name in {signal.file for signal in signals}:
    raw_files.require_plain(name)
  if header.samples is not None and all(
    signal[:5] == (first.file, '16', 1, 0, first.offset) and not signal.block
    for signal in signals
  ):
    samples = _read_int16(base, root, header)  # [C, T], as in the header
    gain = np.array([signal.gain for signal in signals])
    baseline = np.array([float(signal.baseline) for signal in signals])
    totals = samples.view(np.uint16).sum(axis=1, dtype=np.uint16).tolist()
  else:
    samples, gain, baseline, totals = wfdb_fallback.read(
      base, root, header, max_samples
    )
  if np.abs(baseline).max() > _MAX_BASELINE:
    raise BadRecord('gain_malformed', f'baseline {np.abs(baseline).max():g}')
  checked = _verify_checksums(signals, totals)
  if order != list(range(len(signals))):
    samples, gain, baseline = samples[order], gain[order], baseline[order]
  leads = tuple(signals[k].lead for k in order)
  remarks = ()
  if _gains_are_spans(samples, gain, leads):
    gain, baseline = np.full_like(gain, 1e3), np.zeros_like(baseline)
    remarks = ('span_gain',)
  return Recording(
    samples.T,
    gain,
    baseline,
    header.rate,
    leads,
    header.comments,
    checked,
    path,
    remarks,
  )


def _gains_are_spans(samples, gain, leads) -> bool:
  """Whether the gains are no gains, and the counts have one scale.

  LUDB's headers give every lead its own span as gain, so that all of them
  would span 1 mV, lead I twice and V4 two thirds of their true size beside the
  others. Its counts fulfil the limb-lead relations to the unit, which leads of
  several scales cannot. That one scale is taken for microvolts, as it is in
  LUDB; whether that is plausible is what `validate` asks of every recording.

  Args:
    samples: [C, T] int16.
    gain: [C] units/mV by the header.
    leads: C canonical names, in canonical order.
  """
  if leads[:6] != LEADS[:6] or (gain == gain[0]).all():
    return False
  span = samples.max(axis=1).astype(int) - samples.min(axis=1)
  if not (gain == span).all():
    return False
  limb = samples[:6].T.astype(np.float64)
  return limb_residual(np, limb).max() <= _COUNTS_AGREE


def _named(signals, names) -> tuple[wfdb_header.Signal, ...]:
  """Signals of a header without a lead name, with those of the caller."""
  if not names or any(signal.lead in LEADS for signal in signals):
    return signals
  if len(names) != len(signals):
    raise BadRecord(
      'unknown_lead',
      f'{len(signals)} signals without lead names, {len(names)} names given',
    )
  return tuple(
    signal._replace(lead=name) for signal, name in zip(signals, names)
  )


def read_header(base: str, root: str) -> wfdb_header.Header:
  """Reads the header of the record `base` (path without suffix) in `root`."""
  try:
    limit = wfdb_header.MAX_BYTES
    return wfdb_header.parse(
      raw_files.read(base + '.hea', root, 'missing_file', 0, limit)
    )
  except BadRecord as error:
    if error.reason == 'missing_file' and any(
      os.path.exists(base + suffix) for suffix in ('.dat', '.mat')
    ):
      raise BadRecord('missing_header', error.detail) from None
    if error.reason == 'long_file':
      size = error.detail.partition(',')[0]
      raise BadRecord('too_large', f'header of {size}') from None
    raise


def _read_int16(base, root, header) -> np.ndarray:
  """The fast path: [C, T] int16 in the order of the file."""
  signals = header.signals
  name, offset = signals[0].file, signals[0].offset
  path = os.path.join(os.path.dirname(base), name)
  size = offset + 2 * header.samples * len(signals)
  data = raw_files.read(path, root, 'missing_signal_file', size, size)
  if name.endswith('.mat'):
    expected = [_MAT_TYPE, len(signals), header.samples]
    if (
      offset != _MAT_OFFSET
      or expected != np.frombuffer(data, '<i4', 3).tolist()
    ):
      raise BadRecord('mat_header', f'{name} is not {expected[1:]} of int16')
  samples = np.frombuffer(data, '<i2', offset=offset)
  # Lead after lead in memory: every later step works along time.
  return np.ascontiguousarray(samples.reshape(-1, len(signals)).T)


def _verify_checksums(signals, totals) -> bool:
  """True if all signals have a checksum; it is right then."""
  checked = True
  for signal, total in zip(signals, totals):
    if signal.checksum is None:
      checked = False
    elif (total - signal.checksum) % 65536:
      raise BadRecord(
        'checksum',
        f'lead {signal.lead}: sum {total % 65536}, header '
        f'{signal.checksum % 65536}',
      )
  return checked


def _join(header, base, root, max_samples, required, names) -> Recording:
  """Reads a record of several segments with the same leads."""
  claimed = sum(length for _, length in header.segments)
  if claimed > max_samples:
    raise BadRecord('too_large', f'{claimed} samples in segments')
  if header.samples not in (None, claimed):
    raise BadRecord('header_malformed', f'{claimed} samples in segments')
  parts = []
  for name, length in header.segments:
    if length:  # else it describes the leads of the others
      raw_files.require_plain(name)
      path = os.path.join(os.path.dirname(base), name)
      part = _read_record(path, root, max_samples, required, names, False)
      if len(part.samples) != length:
        raise BadRecord('wrong_length', f'segment {name}, not {length} samples')
      parts.append(part)
  if not parts or any(
    (part.leads, part.rate) != (parts[0].leads, header.rate) for part in parts
  ):
    raise BadRecord('header_malformed', 'segments of other leads or rates')
  microvolts = np.concatenate([part.millivolts() for part in parts]) * 1e3
  gain = np.full(microvolts.shape[1], 1e3)
  samples, gain = resample.fit_int16(microvolts, gain)
  return Recording(
    samples,
    gain,
    np.zeros_like(gain),
    header.rate,
    parts[0].leads,
    header.comments,
    all(part.checksum_checked for part in parts),
    remarks=tuple(sorted({r for part in parts for r in part.remarks})),
  )
