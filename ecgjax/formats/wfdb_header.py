"""Parser of WFDB header files (`.hea`).

The general reader spends its time on the header (about 8 ms); this one needs
some tens of microseconds and is stricter: what it does not understand is a
`BadRecord`, never a default. Format: https://wfdb.io, `header(5)`.
"""

import functools
import re
from typing import NamedTuple

from ecgjax.ecg import leads
from ecgjax.ecg.recording import BadRecord

# Headers are some hundred bytes; the longest of known corpora are under 20 kB.
MAX_BYTES = 1 << 20
_MAX_LINE = 1000  # also keeps numbers short enough for int()

_NUMBER = r'[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?'
_FORMAT = re.compile(r'(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?')
_GAIN = re.compile(rf'({_NUMBER})(?:\(([-+]?\d+)\))?(?:/(\S+))?')
_RATE = re.compile(rf'({_NUMBER})(?:/\S*)?')
# Units of the file in one millivolt, by lower-case name ('mV' and 'MV' are the
# only pair that differs by case, and nobody records megavolts).
_PER_MILLIVOLT = {'nv': 1e6, 'uv': 1e3, 'mv': 1.0, 'v': 1e-3}


# Units per millivolt that a float32 can work with; recorders have 1 to 1e6.
_GAINS = (1e-9, 1e12)


class Signal(NamedTuple):
  """One signal line.

  Attributes:
    file: name of the signal file.
    format: WFDB storage format, e.g. '16' or '212'.
    frames: samples per frame.
    skew: in samples.
    offset: byte of the file at which the samples begin.
    gain: digital units per millivolt.
    baseline: digital value of zero millivolts.
    checksum: sum of the digital values modulo 65536; None if not given.
    block: block size, bytes.
    lead: canonical name where it is one of the twelve, else as written.
  """

  file: str
  format: str
  frames: int
  skew: int
  offset: int
  gain: float
  baseline: int
  checksum: int | None
  block: int
  lead: str


class Header(NamedTuple):
  """A parsed header.

  Attributes:
    rate: sampling rate, Hz.
    samples: per lead as claimed; None if not given.
    signals: one per lead; empty for a record of several segments.
    segments: (record name, samples) of each; empty for a plain record.
    comments: without the leading '#'.
  """

  rate: float
  samples: int | None
  signals: tuple[Signal, ...]
  segments: tuple[tuple[str, int], ...]
  comments: tuple[str, ...]


@functools.lru_cache(maxsize=1024)
def _format(token: str) -> tuple[str, int, int, int]:
  """'16x1:0+24' to (format, samples per frame, skew, byte offset)."""
  match = _FORMAT.fullmatch(token)
  if not match:
    raise BadRecord('header_malformed', f'{token!r} is not a storage format')
  name, frames, skew, offset = match.groups()
  return name, int(frames or 1), int(skew or 0), int(offset or 0)


@functools.lru_cache(maxsize=4096)
def _gain(token: str) -> tuple[float, int | None]:
  """'1000.0(0)/mV' to (units per millivolt, baseline or None)."""
  match = _GAIN.fullmatch(token)
  if not match:
    raise BadRecord(
      'gain_malformed', f'{token!r} is not a gain like 1000(0)/mV'
    )
  number, baseline, unit = match.groups()
  gain = float(number)
  if gain == 0:
    raise BadRecord('gain_zero', f'gain {token!r} means uncalibrated')
  per_millivolt = _PER_MILLIVOLT.get((unit or 'mV').lower())
  if per_millivolt is None:
    raise BadRecord('unit_unknown', f'{unit!r} is not a unit of volts')
  gain *= per_millivolt
  if not _GAINS[0] <= gain <= _GAINS[1]:
    raise BadRecord('gain_malformed', f'gain {token!r} is not usable')
  return gain, None if baseline is None else int(baseline)


@functools.lru_cache(maxsize=1024)
def _lead(name: str) -> str:
  try:
    return leads.canonical(name)
  except ValueError:
    return name


def _signal(line: str) -> Signal:
  """Parses one signal line."""
  fields = line.split(None, 8)
  if len(fields) < 2:
    raise BadRecord('header_malformed', f'signal line {line[:60]!r}')
  file, storage, *rest = fields
  name, frames, skew, offset = _format(storage)
  if not rest:
    raise BadRecord('gain_malformed', f'no gain for {file}, so no millivolts')
  gain, baseline = _gain(rest[0])
  try:  # adc_resolution, adc_zero, initial value, checksum, block size
    numbers = [int(field) for field in rest[1:6]]
  except ValueError:
    raise BadRecord('header_malformed', f'signal line {line[:60]!r}') from None
  count = len(numbers)
  if baseline is None:  # the format's own rule
    baseline = numbers[1] if count > 1 else 0
  checksum = numbers[3] if count > 3 else None
  block = numbers[4] if count > 4 else 0
  lead = _lead(rest[6]) if len(rest) > 6 else ''
  return Signal(
    file, name, frames, skew, offset, gain, baseline, checksum, block, lead
  )


def _lines(data: bytes) -> tuple[list[str], tuple[str, ...]]:
  """Splits a header into lines and comments.

  Comments may hold any text (names, diagnoses); the lines that say how to
  read the signal must be ASCII, but for the sign of micro.
  """
  try:
    text, is_ascii = data.decode('ascii'), True
  except UnicodeDecodeError:
    text, is_ascii = data.decode('utf-8', errors='replace'), False
  lines, comments = [], []
  for line in text.splitlines():
    line = line.strip()
    if line.startswith('#'):
      comments.append(line.strip(' \t#'))
    elif line:
      lines.append(line)
      if not line.isprintable() and not line.replace('\t', ' ').isprintable():
        raise BadRecord('header_encoding', f'line {line[:60]!r}')
  if not is_ascii:
    lines = [
      line.replace('\u00b5', 'u').replace('\u03bc', 'u') for line in lines
    ]
    for line in lines:
      if not line.isascii():
        raise BadRecord('header_encoding', f'line {line[:60]!r}')
  return lines, tuple(comments)


def parse(data: bytes) -> Header:
  """Parses the bytes of a header file.

  Args:
    data: the whole file.

  Raises:
    BadRecord: with a reason starting with `header_` or `gain_`, or
      `unit_unknown`, `wrong_rate` or `too_large`.
  """
  if len(data) > MAX_BYTES:
    raise BadRecord('too_large', f'header of {len(data)} bytes')
  lines, comments = _lines(data)
  if not lines:
    raise BadRecord('header_empty', 'no record line')
  if max(map(len, lines)) > _MAX_LINE:
    raise BadRecord('header_malformed', f'line over {_MAX_LINE} long')
  fields = lines[0].split()
  name, _, segments = fields[0].partition('/')
  rate = _RATE.fullmatch(fields[2]) if len(fields) > 2 else None
  numbers = [segments or '0', *fields[1:2], *fields[3:4]]
  if rate is None or not all(number.isdecimal() for number in numbers):
    raise BadRecord('header_malformed', f'record line {lines[0][:60]!r}')
  rate = float(rate[1])
  if not 0 < rate < float('inf'):
    raise BadRecord('wrong_rate', f'sampling rate {fields[2]} Hz')
  samples = int(fields[3]) if len(fields) > 3 else None
  expected = int(segments or fields[1])
  if len(lines) - 1 != expected:
    raise BadRecord(
      'header_signal_count',
      f'{expected} signals announced, {len(lines) - 1} described',
    )
  if segments:
    parts = [line.split() for line in lines[1:]]
    if any(len(part) < 2 or not part[1].isdecimal() for part in parts):
      raise BadRecord('header_malformed', 'a segment line')
    parts = tuple((part[0], int(part[1])) for part in parts)
    return Header(rate, samples, (), parts, comments)
  if not expected:
    raise BadRecord('header_signal_count', 'no signals')
  signals = tuple(_signal(line) for line in lines[1:])
  return Header(rate, samples, signals, (), comments)
