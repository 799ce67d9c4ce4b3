"""Readers against the wfdb package, and against hostile files."""

import os
import struct
import tracemalloc

import numpy as np
import pytest

from ecgjax.data.raw import validate
from ecgjax.ecg import leads as leads_lib
from ecgjax.ecg.recording import INVALID, BadRecord
from ecgjax.formats import raw_files, wfdb_fallback, wfdb_header
from ecgjax.formats import wfdb as wfdb_lib
from tests.data import damage

pytestmark = pytest.mark.filterwarnings(
  'ignore:The inplace keyword in DataFrame'  # of pandas, in wfdb
)
DIGITAL = damage.synthetic().samples


def _reason(path, root, **options):
  with pytest.raises(BadRecord) as error:
    wfdb_lib.read_wfdb(path, str(root), **options)
  assert error.value.file == str(path)
  assert str(error.value) == (
    f'{path}: {error.value.reason}: {error.value.detail}'
  )
  return error.value.reason


def _write(folder, name, samples, lines, comments='', suffix='.dat'):
  """A record of format 16 with the signal lines given."""
  head = f'{name} {len(lines)} 500 {len(samples)}\n'
  text = head + ''.join(f'{name}{suffix} {line}\n' for line in lines) + comments
  (folder / f'{name}.hea').write_bytes(text.encode())
  (folder / f'{name}{suffix}').write_bytes(
    np.ascontiguousarray(samples, '<i2').tobytes()
  )


def _lines(samples, leads=leads_lib.LEADS, gain='1000/mV', storage='16'):
  return [
    f'{storage} {gain} 16 0 {ecg[0]} {int(ecg.sum()) % 65536} 0 {lead}'
    for ecg, lead in zip(samples.T.astype(int), leads)
  ]


def _real(recordings, every=1):
  for corpus, step in (
    ('ptbxl/records100', 150), ('ptbxl/records500', 60), ('ludb/data', 8),
    ('cinc2021', 1),
  ):  # fmt: skip
    paths = sorted((recordings / corpus).rglob('*.hea'))
    yield from (str(path.with_suffix('')) for path in paths[:: step * every])


def test_real_recordings_bit_for_bit_as_wfdb(recordings):
  import wfdb

  count = 0
  for path in _real(recordings):
    recording = wfdb_lib.read_wfdb(path, str(recordings))
    reference = wfdb.rdrecord(path, physical=False)
    assert recording.samples.dtype == np.int16
    np.testing.assert_array_equal(recording.samples, reference.d_signal)
    if recording.remarks:  # LUDB's gains are none
      assert 'ludb' in path and recording.remarks == ('span_gain',)
    else:
      np.testing.assert_array_equal(recording.gain, reference.adc_gain)
      np.testing.assert_array_equal(recording.baseline, reference.baseline)
    assert recording.rate == reference.fs
    assert list(recording.comments) == reference.comments
    assert recording.leads == leads_lib.LEADS
    names = [name.lower() for name in reference.sig_name]
    assert names == [name.lower() for name in leads_lib.LEADS]
    assert recording.checksum_checked
    count += 1
  assert count > 80


def test_ludb_is_read_in_microvolts(recordings):
  """Header: every lead spans 1 mV. Counts: the limb leads agree."""
  paths = sorted((recordings / 'ludb/data').glob('*.hea'))
  assert len(paths) == 100
  for path in paths:
    found = wfdb_lib.read_wfdb(path.with_suffix(''), str(recordings))
    assert found.remarks == ('span_gain',)
    ecg = found.millivolts()
    counts = np.fromfile(path.with_suffix('.dat'), '<i2').reshape(-1, 12)
    np.testing.assert_allclose(ecg, counts / 1000, atol=1e-6)
    assert leads_lib.limb_residual(np, ecg).max() <= 1.001e-3  # 1 uV
    span = np.ptp(counts.astype(int), axis=0)
    np.testing.assert_allclose(
      np.ptp(ecg, axis=0) / np.ptp(ecg[:, 0]), span / span[0], rtol=1e-5
    )


def test_spans_as_gains(tmp_path):
  """Only where all gains are spans and the counts agree with each other."""
  span = np.ptp(DIGITAL.astype(int), axis=0)
  assert len(set(span)) > 6

  def read(name, gains, samples=DIGITAL):
    lines = _lines(samples)
    lines = [x.replace('1000/mV', f'{g}(7)/mV') for x, g in zip(lines, gains)]
    _write(tmp_path, name, samples, lines)
    return wfdb_lib.read_wfdb(name, str(tmp_path))

  found = read('spans', span)
  assert found.remarks == ('span_gain',)
  assert (found.gain == 1000).all() and not found.baseline.any()
  other = span.copy()
  other[4] += 1
  inconsistent = DIGITAL.copy()
  inconsistent[:, 1] *= 2
  for name, gains, samples in (
    ('one', other, DIGITAL),
    ('scaled', np.ptp(inconsistent.astype(int), axis=0), inconsistent),
  ):
    found = read(name, gains, samples)
    assert found.remarks == ()
    np.testing.assert_array_equal(found.gain, gains)
    assert (found.baseline == 7).all()


def test_both_paths_agree_bit_for_bit(recordings):
  for path in _real(recordings, every=3):
    fast = wfdb_lib.read_wfdb(path, str(recordings))
    with open(path + '.hea', 'rb') as file:
      header = wfdb_header.parse(file.read())
    samples, gain, baseline, totals = wfdb_fallback.read(
      path, str(recordings), header, wfdb_lib.MAX_SAMPLES
    )
    np.testing.assert_array_equal(fast.samples, samples.T)
    if not fast.remarks:
      np.testing.assert_array_equal(fast.gain, gain)
      np.testing.assert_array_equal(fast.baseline, baseline)
    expected = [signal.checksum % 65536 for signal in header.signals]
    assert [total % 65536 for total in totals] == expected


@pytest.mark.parametrize('storage', ['16', '212', '24', '32', '80', '516'])
def test_formats_as_written_by_wfdb(tmp_path, storage):
  import wfdb

  digital = np.clip(DIGITAL // (16 if storage == '80' else 1), -2000, 2000)
  wfdb.wrsamp(
    'r', 500, ['mV'] * 12, list(leads_lib.LEADS),
    d_signal=digital.astype(int), fmt=[storage] * 12, adc_gain=[200.0] * 12,
    baseline=[7] * 12, write_dir=str(tmp_path),
  )  # fmt: skip
  recording = wfdb_lib.read_wfdb('r', str(tmp_path))
  np.testing.assert_array_equal(recording.samples, digital)
  assert recording.checksum_checked
  np.testing.assert_array_equal(recording.gain, 200)
  np.testing.assert_array_equal(recording.baseline, 7)
  np.testing.assert_allclose(
    recording.millivolts(), (digital - 7) / 200, rtol=1e-6, atol=1e-7
  )


def test_24_bit_recorder_fits_into_int16_without_clipping(tmp_path):
  import wfdb

  digital = DIGITAL.astype(int) * 1000 + 5000
  digital[17, 3] = -(1 << 23)  # missing
  wfdb.wrsamp(
    'r', 500, ['uV'] * 12, list(leads_lib.LEADS), d_signal=digital,
    fmt=['24'] * 12, adc_gain=[1000.0] * 12, baseline=[5000] * 12,
    write_dir=str(tmp_path),
  )  # fmt: skip
  recording = wfdb_lib.read_wfdb('r', str(tmp_path))
  assert recording.samples[17, 3] == INVALID
  found = recording.millivolts()
  assert np.isnan(found[17, 3]) and np.isnan(found).sum() == 1
  found[17, 3] = DIGITAL[17, 3] / 1000
  step = 1 / recording.gain.min()
  np.testing.assert_allclose(found, DIGITAL / 1000, atol=step)
  assert 16000 < np.abs(recording.samples.astype(int)[20:]).max() <= 32000


def test_several_files_frames_skew_and_unknown_length(tmp_path):
  # Each half of the leads in a file of its own, six leads twice as often.
  lines = _lines(DIGITAL)
  (tmp_path / 'a.dat').write_bytes(DIGITAL[:, :6].astype('<i2').tobytes())
  (tmp_path / 'b.dat').write_bytes(DIGITAL[:, 6:].astype('<i2').tobytes())
  text = ''.join(f'{"ab"[k // 6]}.dat {line}\n' for k, line in enumerate(lines))
  (tmp_path / 'two.hea').write_text('two 12 500 5000\n' + text)
  (tmp_path / 'open.hea').write_text('open 12 500\n' + text)
  for name in ('two', 'open'):
    recording = wfdb_lib.read_wfdb(name, str(tmp_path))
    np.testing.assert_array_equal(recording.samples, DIGITAL)
    assert recording.checksum_checked
  skewed = DIGITAL.copy()
  skewed[3:, 2] = DIGITAL[:-3, 2]
  lines = _lines(skewed)
  lines[2] = '16:3' + lines[2][2:]
  _write(tmp_path, 'skew', skewed, lines)
  recording = wfdb_lib.read_wfdb('skew', str(tmp_path))
  np.testing.assert_array_equal(recording.samples, DIGITAL[:4997])
  twice = np.repeat(DIGITAL[:, :6], 2, axis=1)  # two samples per frame
  frames = np.concatenate([twice, DIGITAL[:, 6:]], axis=1)
  lines = [
    line if k >= 6 else f'16x2 1000/mV 16 0 0 {2 * int(total) % 65536} 0 {lead}'
    for k, (line, lead, total) in enumerate(
      zip(_lines(DIGITAL), leads_lib.LEADS, DIGITAL.sum(axis=0, dtype=int))
    )
  ]
  _write(tmp_path, 'frames', frames, lines)
  text = (tmp_path / 'frames.hea').read_text()
  recording = wfdb_lib.read_wfdb('frames', str(tmp_path))
  np.testing.assert_array_equal(recording.samples, DIGITAL)
  # One of the two samples of a frame is missing: so is the frame.
  frames[70, 2] = -32768
  lines[1] = f'16x2 1000/mV 16 0 0 {frames[:, 2:4].sum() % 65536} 0 II'
  _write(tmp_path, 'missing', frames, lines)
  found = wfdb_lib.read_wfdb('missing', str(tmp_path))
  assert np.argwhere(np.isnan(found.millivolts())).tolist() == [[70, 1]]
  with pytest.raises(BadRecord, match='nan: lead II'):
    validate.check(found)
  (tmp_path / 'frames.hea').write_text(text.replace(' 5000\n', ' 5001\n', 1))
  assert _reason('frames', tmp_path) == 'short_file'
  text = text.replace('16x2', '0')
  (tmp_path / 'open.hea').write_text(text)
  assert _reason('open', tmp_path) == 'unreadable'


def test_segments_are_joined(tmp_path):
  half = DIGITAL[:2500], DIGITAL[2500:]
  for name, part, gain in zip('ab', half, ('1000/mV', '1000(0)/mV')):
    _write(tmp_path, name, part, _lines(part, gain=gain))
  (tmp_path / 'all.hea').write_text(
    'all/2 12 500 5000\na 2500\nb 2500\n#Age: 3\n'
  )
  recording = wfdb_lib.read_wfdb('all', str(tmp_path))
  np.testing.assert_array_equal(recording.samples, DIGITAL)
  assert recording.comments == ('Age: 3',) and recording.checksum_checked
  for text, reason in (
    ('all/2 12 500 5001\na 2500\nb 2500\n', 'header_malformed'),
    ('all/2 12 500 5000\na 2500\n', 'header_signal_count'),
    ('all/2 12 500 5000\na 2400\nb 2600\n', 'wrong_length'),
    ('all/2 12 500 5000\na 2500\nall 2500\n', 'header_malformed'),
    ('all/2 12 500 5000\n../a 2500\nb 2500\n', 'outside_root'),
    ('all/2 12 250 5000\na 2500\nb 2500\n', 'header_malformed'),
    (f'all/2 12 500\na {10**9}\nb {10**9}\n', 'too_large'),
  ):
    (tmp_path / 'all.hea').write_text(text)
    assert _reason('all', tmp_path) == reason


def test_leads_by_name_not_position(tmp_path):
  # MIMIC-IV-ECG stores aVF before aVL, in capitals.
  order = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
  names = [leads_lib.LEADS[k].upper() for k in order]
  gains = np.array([200, 400] * 6)
  lines = [
    line.replace('1000', str(gain))
    for line, gain in zip(_lines(DIGITAL[:, order], names), gains[order])
  ]
  _write(tmp_path, 'r', DIGITAL[:, order], lines)
  recording = wfdb_lib.read_wfdb('r', str(tmp_path))
  np.testing.assert_array_equal(recording.samples, DIGITAL)
  np.testing.assert_array_equal(recording.gain, gains)
  some = [11, 1, 0]
  _write(
    tmp_path, 's', DIGITAL[:, some], _lines(DIGITAL[:, some], ('V6', 'II', 'I'))
  )
  assert _reason('s', tmp_path) == 'missing_lead'
  recording = wfdb_lib.read_wfdb('s', str(tmp_path), required=('I', 'II'))
  assert recording.leads == ('I', 'II', 'V6')
  np.testing.assert_array_equal(recording.samples, DIGITAL[:, [0, 1, 11]])


@pytest.mark.parametrize(
  'gain, units',
  [('1000/mV', 1000), ('1/uV', 1000), ('1/\u00b5V', 1000), ('1/\u03bcV', 1000),
   ('1e6/V', 1000), ('0.001(5)/nV', 1000), ('200', 200), ('2.5e2(-3)/mv', 250)],
)  # fmt: skip
def test_units_become_millivolts(tmp_path, gain, units):
  lines = _lines(DIGITAL, gain=gain)
  _write(tmp_path, 'r', DIGITAL, lines)
  recording = wfdb_lib.read_wfdb('r', str(tmp_path))
  np.testing.assert_allclose(recording.gain, units, rtol=1e-12)
  baseline = {'0.001(5)/nV': 5, '2.5e2(-3)/mv': -3}.get(gain, 0)
  np.testing.assert_array_equal(recording.baseline, baseline)


def test_baseline_falls_back_to_adc_zero_and_checksum_may_be_absent(tmp_path):
  lines = [line.replace(' 16 0 ', ' 16 12 ') for line in _lines(DIGITAL)]
  _write(tmp_path, 'r', DIGITAL, lines, comments='#Dr. M\u00fcller\n# x\n')
  recording = wfdb_lib.read_wfdb('r', str(tmp_path))
  np.testing.assert_array_equal(recording.baseline, 12)
  assert recording.checksum_checked
  assert recording.comments == ('Dr. M\u00fcller', 'x')
  # Signed checksums are as good.
  totals = DIGITAL.sum(axis=0, dtype=int).astype('<i2')
  lines = [
    f'16 1000/mV 16 0 0 {total} 0 {lead}'
    for total, lead in zip(totals, leads_lib.LEADS)
  ]
  assert (totals < 0).any()
  _write(tmp_path, 's', DIGITAL, lines)
  assert wfdb_lib.read_wfdb('s', str(tmp_path)).checksum_checked
  # Without a name there is no lead; without a checksum no name.
  _write(tmp_path, 't', DIGITAL, ['16 1000/mV'] * 12)
  assert _reason('t', tmp_path) == 'duplicate_lead'


def test_mat_files_carry_their_own_header(tmp_path):
  samples = DIGITAL.astype('<i2')
  lines = _lines(DIGITAL, storage='16x1+24')
  _write(tmp_path, 'r', DIGITAL, lines, suffix='.mat')
  good = (30, 12, 5000, 0, 4, b'val\0')
  for head, reason in (
    (good, None),
    ((30, 5000, 12, 0, 4, b'val\0'), 'mat_header'),
    ((0, 12, 5000, 0, 4, b'val\0'), 'mat_header'),
  ):
    data = struct.pack('<5i4s', *head) + samples.tobytes()
    (tmp_path / 'r.mat').write_bytes(data)
    if reason:
      assert _reason('r', tmp_path) == reason
    else:
      recording = wfdb_lib.read_wfdb('r', str(tmp_path))
      np.testing.assert_array_equal(recording.samples, DIGITAL)


def test_a_header_does_not_make_us_allocate(tmp_path):
  huge = 5 * 10**10
  for storage in ('16', '212', '516', '16x1000000', '16:99999999'):
    for count in (huge, wfdb_lib.MAX_SAMPLES):
      _write(tmp_path, 'r', DIGITAL, _lines(DIGITAL, storage=storage))
      text = (tmp_path / 'r.hea').read_text()
      (tmp_path / 'r.hea').write_text(text.replace('5000', str(count), 1))
      tracemalloc.start()
      try:
        reason = _reason('r', tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
      finally:
        tracemalloc.stop()
      if storage != '516':  # compressed: its size cannot be known
        assert peak < 5e6, (storage, count)
      if count == huge or storage[2:3] in ('x', ':'):
        assert reason == 'too_large'
      else:
        assert reason == ('unreadable' if storage == '516' else 'short_file')
  (tmp_path / 'r.hea').write_bytes(b'#' * (wfdb_header.MAX_BYTES + 1))
  assert _reason('r', tmp_path) == 'too_large'
  (tmp_path / 'r.hea').write_bytes(b'r 12 500 5000' + b'0' * 5000)
  assert _reason('r', tmp_path) == 'header_malformed'


def test_paths_cannot_leave_the_root(tmp_path):
  root, outside = tmp_path / 'raw', tmp_path / 'raw2'
  for folder in (root, outside, root / 'sub'):
    folder.mkdir()
  for folder in (root / 'sub', outside):
    _write(folder, 'r', DIGITAL, _lines(DIGITAL))
  wfdb_lib.read_wfdb('sub/r', str(root))
  wfdb_lib.read_wfdb('sub/../sub/r', str(root))
  wfdb_lib.read_wfdb(str(root / 'sub/r'), str(root))
  for path in ('../raw2/r', str(outside / 'r'), '..', '', 'sub/r\0', '/'):
    assert _reason(path, root) == 'outside_root'
  (root / 'linked').symlink_to(outside)
  assert _reason('linked/r', root) == 'outside_root'
  (root / 'inside').symlink_to(root / 'sub')  # as in a git-annex
  wfdb_lib.read_wfdb('inside/r', str(root))
  (root / 'sub/r.dat').unlink()
  (root / 'sub/r.dat').symlink_to(outside / 'r.dat')
  assert _reason('sub/r', root) == 'outside_root'
  (root / 'sub/r.hea').unlink()
  (root / 'sub/r.hea').symlink_to(outside / 'r.hea')
  assert _reason('sub/r', root) == 'outside_root'
  link = tmp_path / 'link'
  link.symlink_to(outside)
  wfdb_lib.read_wfdb('r', str(link))  # the root itself may be a link


def test_what_is_not_a_regular_file(tmp_path):
  assert _reason('absent', tmp_path) == 'missing_file'
  _write(tmp_path, 'r', DIGITAL, _lines(DIGITAL))
  os.remove(tmp_path / 'r.dat')
  os.mkfifo(tmp_path / 'r.dat')  # must not wait for a writer
  assert _reason('r', tmp_path) == 'unreadable'
  os.remove(tmp_path / 'r.hea')
  (tmp_path / 'r.hea').mkdir()
  assert _reason('r', tmp_path) == 'unreadable'
  (tmp_path / 'loop.hea').symlink_to(tmp_path / 'loop.hea')
  assert _reason('loop', tmp_path) in ('unreadable', 'outside_root')
  with pytest.raises(BadRecord, match='unreadable'):
    raw_files.open_regular(str(tmp_path / ('x' * 300)), str(tmp_path), 'x')


def test_random_damage_to_headers_only_ever_rejects(tmp_path):
  _write(tmp_path, 'r', DIGITAL, _lines(DIGITAL), comments='#Age: 5\n')
  original = (tmp_path / 'r.hea').read_bytes()
  rng = np.random.default_rng(0)
  rejected = 0
  for _ in range(500):
    data = bytearray(original)
    for _ in range(rng.integers(1, 4)):
      place = int(rng.integers(len(data)))
      kind = rng.integers(4)
      if kind == 0:
        data[place] = int(rng.integers(256))
      elif kind == 1:
        del data[place : place + int(rng.integers(1, 30))]
      elif kind == 2:
        data[place:place] = rng.choice(
          [b'9' * 40, b'-', b'/', b'\n', b'e9', b'0']
        )
      else:
        data[place] = int(rng.choice(list(b'0123456789 -+./()xV')))
    (tmp_path / 'r.hea').write_bytes(data)
    try:
      recording = wfdb_lib.read_wfdb('r', str(tmp_path))
    except BadRecord as error:
      rejected += 1
      assert error.reason != 'missing_file'
    else:
      assert np.isfinite(recording.gain).all()
  assert rejected > 200


def test_parser_as_wfdb_on_real_headers(recordings):
  import wfdb

  for path in _real(recordings, every=2):
    with open(path + '.hea', 'rb') as file:
      header = wfdb_header.parse(file.read())
    reference = wfdb.rdheader(path)
    assert (header.rate, header.samples) == (reference.fs, reference.sig_len)
    for k, signal in enumerate(header.signals):
      assert signal.file == reference.file_name[k]
      assert signal.format == reference.fmt[k]
      assert signal.offset == (reference.byte_offset[k] or 0)
      assert signal.gain == reference.adc_gain[k]
      assert signal.baseline == reference.baseline[k]
      assert signal.checksum == reference.checksum[k]
