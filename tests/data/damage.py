"""Copies of a clean recording, each damaged in one way.

`make(folder)` writes them with the reason that each must be rejected for.
Checksums are right wherever the damage could have been done by software that
writes them, so that they do not hide what is tested.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ecgjax.ecg import leads as leads_lib

RATE = 500
SECONDS = 10


class Clean(NamedTuple):
  """A WFDB record of format 16 in one file.

  Attributes:
    samples: [T, C] digital units.
    leads: C names.
    gains: C gain fields, e.g. '1000(0)/mV'.
    rate: Hz.
  """

  samples: np.ndarray
  leads: tuple[str, ...] = leads_lib.LEADS
  gains: tuple[str, ...] = ('1000(0)/mV',) * 12
  rate: int = RATE


class Damage(NamedTuple):
  """One way to damage a record.

  Attributes:
    reason: code it must be rejected with.
    change: Clean -> Clean, before it is written.
    header: text -> text or bytes, of the written header.
    data: bytes -> bytes, of the written signal file.
    corpus: whether only the promises of a corpus (`validate.Rules`) tell.
  """

  reason: str
  change: Callable = lambda record: record
  header: Callable = lambda text: text
  data: Callable = lambda data: data
  corpus: bool = False


def synthetic(seed: int = 0) -> Clean:
  """A clean record: Gaussian waves along a moving dipole, and noise."""
  rng = np.random.default_rng(seed)
  time = np.arange(RATE * SECONDS) / RATE
  beats = np.arange(0.4, SECONDS, 0.82)[:, None]
  dipole = np.zeros((len(time), 3))  # millivolts
  for delay, width, vector in (
    (-0.16, 0.025, (0.10, 0.12, 0.03)),
    (-0.03, 0.010, (-0.10, -0.08, 0.25)),
    (0.0, 0.012, (1.0, 0.9, -0.4)),
    (0.03, 0.012, (-0.3, -0.1, 0.6)),
    (0.28, 0.05, (0.25, 0.3, 0.15)),
  ):
    wave = np.exp(-0.5 * ((time - beats - delay) / width) ** 2).sum(axis=0)
    dipole += wave[:, None] * vector
  angles = np.linspace(2.0, -0.2, 6)  # V1 ... V6, in the transverse plane
  chest = np.stack([np.cos(angles), 0 * angles, np.sin(angles)])  # [3, 6]
  directions = np.concatenate([[[1, 0.5], [0, 1], [0, 0]], 1.4 * chest], 1)
  ecg = dipole @ directions + 0.01 * rng.normal(size=(len(time), 8))
  ecg += 0.05 * np.sin(2 * np.pi * 0.3 * time + rng.uniform(0, 6))[:, None]
  ecg = leads_lib.from_independent(np, ecg)
  return Clean(np.rint(1000 * ecg).astype(np.int16))


def load(path: str) -> Clean:
  """A real record of format 16, e.g. of PTB-XL or LUDB."""
  with open(path + '.hea', encoding='ascii') as file:
    lines = [line for line in file.read().splitlines() if line[0] != '#']
  rate = int(lines[0].split()[2])
  fields = [line.split() for line in lines[1:]]
  samples = np.fromfile(path + '.dat', '<i2').reshape(-1, len(fields))
  return Clean(
    samples,
    tuple(field[8] for field in fields),
    tuple(field[2] for field in fields),
    rate,
  )


NONE = Damage('')


def write(folder: str, name: str, record: Clean, damage: Damage = NONE):
  """Writes a record, and damages its files."""
  samples = np.asarray(record.samples).astype('<i2')
  lines = [f'{name} {samples.shape[1]} {record.rate} {len(samples)}']
  for ecg, lead, gain in zip(samples.T, record.leads, record.gains):
    first, total = ecg[0] if ecg.size else 0, int(ecg.sum(dtype=np.int64))
    lines.append(f'{name}.dat 16 {gain} 16 0 {first} {total % 65536} 0 {lead}')
  text = damage.header('\n'.join(lines + ['#Age: 50', '']))
  data = damage.data(samples.tobytes())
  path = os.path.join(folder, name)
  if text is not None:
    with open(path + '.hea', 'wb') as file:
      file.write(text.encode() if isinstance(text, str) else text)
  if data is not None:
    with open(path + '.dat', 'wb') as file:
      file.write(data)


def make(folder: str, clean: Clean | None = None) -> dict[str, Damage]:
  """Writes a record called `clean` and one for every entry of `DAMAGES`."""
  clean = clean or synthetic()
  write(folder, 'clean', clean)
  for name, damage in DAMAGES.items():
    write(folder, name, damage.change(clean), damage)
  return DAMAGES


def _put(value, lead, start=0, stop=None):
  """Seconds `start` to `stop` of a lead become `value` (a function or not)."""

  def change(record):
    samples = record.samples.copy()
    part = slice(
      int(start * record.rate),
      None if stop is None else int(stop * record.rate),
    )
    old = samples[part, lead]
    samples[part, lead] = value(old) if callable(value) else value
    return record._replace(samples=samples)

  return change


def _scale(factor):
  return lambda record: record._replace(
    samples=np.clip(
      np.rint(record.samples * float(factor)), -32767, 32767
    ).astype(np.int16)
  )


def _order(order):
  """The signals of other leads under the same names and gains."""
  return lambda record: record._replace(samples=record.samples[:, order])


def _swap(a, b):
  order = list(range(12))
  order[a], order[b] = b, a
  return _order(order)


def _clip(record):
  centre = np.median(record.samples, axis=0)
  limit = 0.3 * np.abs(record.samples - centre).max(axis=0)
  samples = np.clip(record.samples, centre - limit, centre + limit)
  return record._replace(samples=samples.astype(np.int16))


def _names(*names):
  return lambda record: record._replace(leads=names)


def _columns(*leads):
  """Adds (name) or keeps (index) leads."""

  def change(record):
    source = [lead if isinstance(lead, int) else 6 for lead in leads]
    return Clean(
      record.samples[:, source],
      tuple(
        record.leads[lead] if isinstance(lead, int) else lead for lead in leads
      ),
      tuple(record.gains[k] for k in source),
      record.rate,
    )

  return change


def _gain(value, lead=None):
  """Another gain field; {} stands for the number that was there."""

  def change(record):
    gains = [
      value.format(gain.split('(')[0].split('/')[0])
      if lead in (None, k)
      else gain
      for k, gain in enumerate(record.gains)
    ]
    return record._replace(gains=tuple(gains))

  return change


def _every_tenth_missing(ecg):
  ecg = ecg.copy()
  ecg[::10] = -32768
  return ecg


def _length(seconds=0.0, samples=0):
  return lambda record: record._replace(
    samples=record.samples[: int(seconds * record.rate) + samples]
  )


def _hum(leads):
  def change(record):
    time = np.arange(len(record.samples)) / record.rate
    samples = record.samples.copy()
    hum = 400 * np.cos(2 * np.pi * 50 * time + 0.3)
    samples[:, leads] = np.rint(hum)[:, None]
    return record._replace(samples=samples)

  return change


def _record_line(position, value):
  """Replaces a field of the record line."""

  def edit(text):
    line, rest = text.split('\n', 1)
    fields = line.split()
    fields[position] = value
    return ' '.join(fields) + '\n' + rest

  return edit


def _replace(old, new):
  return lambda text: text.replace(old, new)


def _flip_bit(data):
  changed = bytearray(data)
  changed[len(data) // 3] ^= 4
  return bytes(changed)


def _checksum_of_v3(text):
  lines = text.split('\n')
  fields = lines[9].split()
  fields[6] = str((int(fields[6]) + 1) % 65536)
  lines[9] = ' '.join(fields)
  return '\n'.join(lines)


def _drop_gain(text):
  lines = text.split('\n')
  lines[3] = ' '.join(lines[3].split()[:2])
  return '\n'.join(lines)


ALL = range(12)
DAMAGES = {
  # Missing, cut and dead signals.
  'nan_run': Damage('nan', _put(-32768, 8, 2, 2.5)),
  'nan_sample': Damage('nan', _put(-32768, 1, 3, 3.01)),
  'nan_lead': Damage('nan', _put(-32768, 11)),
  'nan_all': Damage('nan', _put(-32768, ALL)),
  'nan_often': Damage('nan', _put(_every_tenth_missing, ALL)),
  'saturated_high': Damage('saturated', _put(32767, 7, 4, 4.4)),
  'saturated_low': Damage('saturated', _put(-32767, 2, 4, 4.4)),
  'saturated_both': Damage(
    'saturated', lambda r: _put(-32768, 7, 5, 6)(_put(32767, 7, 4, 5)(r))
  ),
  'clipped': Damage('saturated', _clip),
  'flat_lead': Damage('flat', _put(0, 10)),
  'flat_offset': Damage('flat', _put(-700, 3)),
  'flat_second': Damage('flat', _put(lambda ecg: ecg[0], 9, 5, 6.2)),
  'flat_noise': Damage(
    'flat', _put(lambda ecg: np.arange(ecg.size) // 3 % 2, 6)
  ),
  'flat_all': Damage('flat', _put(0, ALL)),
  'mains': Damage('mains', _hum(ALL)),
  'mains_lead': Damage('mains', _hum([8])),
  'offset_300_mv': Damage('offset', _gain('{}(300000)/mV', 8)),
  # Amplitudes.
  'times_100': Damage('unit_scale', _scale(100)),
  'times_1000': Damage('unit_scale', _scale(1000)),
  'times_1000_wrapped': Damage('unit_scale', _put(lambda ecg: ecg * 1000, ALL)),
  'by_1000': Damage('unit_scale', _scale(0.001)),
  'unit_microvolts': Damage('unit_scale', _gain('{}/uV')),
  'unit_volts': Damage('unit_scale', _gain('{}/V')),
  'gain_1e5': Damage('unit_scale', _gain('1e5/mV')),
  'gain_other': Damage('wrong_gain', _gain('900/mV'), corpus=True),
  'gain_zero': Damage('gain_zero', _gain('0(0)/mV')),
  'gain_word': Damage('gain_malformed', _gain('1o00(0)/mV')),
  'gain_nan': Damage('gain_malformed', _gain('nan/mV', 4)),
  'gain_negative': Damage('gain_malformed', _gain('-{}/mV', 8)),
  'gain_absent': Damage('gain_malformed', header=_drop_gain),
  'gain_1e308': Damage('gain_malformed', _gain('1e308/mV')),
  'gain_1e-300': Damage('gain_malformed', _gain('1e-300/mV', 2)),
  'baseline_huge': Damage('gain_malformed', _gain('{}(999999999999)/mV', 5)),
  'unit_pressure': Damage('unit_unknown', _gain('{}/mmHg')),
  # Leads.
  'leads_11': Damage('missing_lead', _columns(*range(11))),
  'leads_13': Damage('extra_lead', _columns(*ALL, 'V7')),
  'leads_15': Damage('extra_lead', _columns(*ALL, 'vx', 'vy', 'vz')),
  'lead_twice': Damage('duplicate_lead', _names(*leads_lib.LEADS[:11], 'V1')),
  'lead_added_twice': Damage('duplicate_lead', _columns(*ALL, 'V2')),
  'lead_copied': Damage('duplicate_lead', _order([*range(11), 9])),
  'lead_unknown': Damage('unknown_lead', _names('MLII', *leads_lib.LEADS[1:])),
  'lead_nameless': Damage('unknown_lead', _names(*leads_lib.LEADS[:11], '')),
  'swapped_I_II': Damage('limb_swapped', _swap(0, 1)),
  'swapped_names': Damage(
    'limb_swapped', _names('I', 'II', 'aVL', 'aVR', 'III', *leads_lib.LEADS[5:])
  ),
  'flipped_aVF': Damage('limb_flipped', _put(lambda ecg: -ecg, 5)),
  'flipped_I': Damage('limb_flipped', _put(lambda ecg: -ecg, 0)),
  'permuted': Damage('limb_inconsistent', _order(range(11, -1, -1))),
  # Length and rate.
  'samples_0': Damage('too_short', _length(samples=0)),
  'samples_1': Damage('too_short', _length(samples=1)),
  'half_second': Damage('too_short', _length(0.5)),
  'seconds_8': Damage('wrong_length', _length(8), corpus=True),
  'rate_other': Damage(
    'wrong_rate', header=_record_line(2, '360'), corpus=True
  ),
  'rate_zero': Damage('wrong_rate', header=_record_line(2, '0')),
  'rate_tiny': Damage('wrong_rate', header=_record_line(2, '1')),
  # Files.
  'bit_flipped': Damage('checksum', data=_flip_bit),
  'checksum_other': Damage('checksum', header=_checksum_of_v3),
  'cut': Damage('short_file', data=lambda data: data[:-240]),
  'cut_odd': Damage('short_file', data=lambda data: data[:-1]),
  'empty': Damage('short_file', data=lambda data: b''),
  'appended': Damage('long_file', data=lambda data: data + data[:24]),
  'appended_byte': Damage('long_file', data=lambda data: data + b'\0'),
  'claims_more': Damage('short_file', header=_record_line(3, '99999')),
  'claims_less': Damage('long_file', header=_record_line(3, '700')),
  'claims_terabyte': Damage(
    'too_large', header=_record_line(3, '5' + '0' * 10)
  ),
  'no_signal_file': Damage('missing_signal_file', data=lambda data: None),
  'no_header': Damage('missing_header', header=lambda text: None),
  # Headers.
  'header_empty': Damage('header_empty', header=lambda text: ''),
  'header_comments': Damage('header_empty', header=lambda text: '#Age: 50\n'),
  'header_binary': Damage(
    'header_encoding', header=lambda text: b'\xff\xfe' * 99
  ),
  'header_accent': Damage(
    'header_encoding', header=lambda text: text.replace('0 ', '\u00e9 ', 1)
  ),
  'header_null': Damage('header_encoding', header=_replace('.dat', '.d\0t')),
  'header_garbage': Damage('header_malformed', header=lambda text: 'hello\n'),
  'header_count': Damage('header_malformed', header=_record_line(3, 'many')),
  'signals_13': Damage('header_signal_count', header=_record_line(1, '13')),
  'signals_11': Damage('header_signal_count', header=_record_line(1, '11')),
  'header_cut': Damage(
    'header_signal_count', header=lambda text: '\n'.join(text.split('\n')[:7])
  ),
  'path_above': Damage(
    'outside_root', header=_replace('path_above.dat', '../clean.dat')
  ),
  'path_absolute': Damage(
    'outside_root', header=_replace('path_absolute.dat', '/etc/hostname')
  ),
}
