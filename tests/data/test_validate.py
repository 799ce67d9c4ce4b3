"""Clean recordings pass, each damage has its code, each rule its formula."""

import re

import numpy as np
import pytest

from ecgjax.data.raw import ludb_waves, validate
from ecgjax.ecg import leads as leads_lib
from ecgjax.ecg.recording import REASONS, BadRecord, Recording
from ecgjax.formats import wfdb
from tests.data import damage

PTBXL = {'seconds': 10, 'gain': 1000, 'limb_limit': 20}


def _recording(samples, rate=500.0, gain=1000.0):
  samples = np.asarray(samples, np.int16)
  return Recording(
    samples,
    np.full(samples.shape[1], gain),
    np.zeros(samples.shape[1]),
    rate,
    leads_lib.LEADS,
    file='r',
  )


def _verdict(recording, rules=validate.ANY):
  """The reason code, or None."""
  try:
    validate.check(recording, rules)
  except BadRecord as error:
    return error.reason


def _read_verdict(path, root, rules=validate.ANY):
  try:
    validate.check(wfdb.read_wfdb(path, str(root)), rules)
  except BadRecord as error:
    return error.reason


def test_the_docstring_lists_the_codes():
  listed = re.findall(r'\b[a-z]+(?:_[a-z]+)*\b', validate.__doc__)
  assert set(REASONS) <= set(listed)
  for code in REASONS:
    assert listed.count(code) == 1 or '_' not in code, code


def test_reasons_are_closed():
  with pytest.raises(KeyError):
    BadRecord('bad_luck', '')


@pytest.mark.parametrize(
  'folder, count, rules',
  [
    ('ptbxl/records100', 1987, validate.Rules(rate=100, **PTBXL)),
    ('ptbxl/records500', 488, validate.Rules(rate=500, **PTBXL)),
    ('ludb/data', 100, ludb_waves.RULES),
    ('cinc2021', 60, validate.Rules(gain=1000, limb_limit=20)),
  ],
)
def test_no_clean_record_is_rejected(recordings, folder, count, rules):
  paths = sorted((recordings / folder).rglob('*.hea'))
  assert len(paths) == count
  rejected, remarks = {}, {}
  read = [
    wfdb.read_wfdb(path.with_suffix(''), str(recordings)) for path in paths
  ]
  for path, verdict in zip(paths, validate.check_all(read, [rules] * count)):
    if isinstance(verdict, BadRecord):
      rejected[path.stem] = verdict.reason
    elif verdict.remarks:
      remarks[path.stem] = verdict.remarks
  # What the corpus promises rejects nothing else.
  anything = validate.check_all(read, [validate.ANY] * count)
  assert rejected == {
    path.stem: verdict.reason
    for path, verdict in zip(paths, anything)
    if isinstance(verdict, BadRecord)
  }
  flat = {'JS20004': 'flat', 'JS20008': 'flat'}
  assert rejected == (flat if folder == 'cinc2021' else {})
  if folder == 'ludb/data':
    assert set(remarks.values()) == {('span_gain',)} and len(remarks) == 100
  else:  # 17 samples with a pacemaker's spike in aVR and aVF alone
    spike = {'00162_hr': ('limb_spike',)}
    assert remarks == (spike if folder == 'ptbxl/records500' else {})


def _check_damages(folder, clean, rules):
  """Returns what was found where it is not what was expected."""
  expected = damage.make(str(folder), clean)
  assert _read_verdict('clean', folder, rules) is None
  wrong = {}
  for name, entry in expected.items():
    known = rules != validate.ANY or not entry.corpus
    found = _read_verdict(name, folder, rules)
    if found != (entry.reason if known else None):
      wrong[name] = found
  return wrong


def test_every_damage_has_its_code(tmp_path):
  assert len(damage.DAMAGES) > 60
  rules = validate.Rules(rate=500, **PTBXL)
  assert not _check_damages(tmp_path, damage.synthetic(), rules)
  # Without a corpus all but its promises are still noticed.
  assert not _check_damages(tmp_path, damage.synthetic(1), validate.ANY)
  found = {entry.reason for entry in damage.DAMAGES.values()}
  others = {'missing_file', 'unreadable', 'mat_header'}  # in test_readers
  assert found | others == set(REASONS)


@pytest.mark.parametrize(
  'folder, every, rate',
  [('ptbxl/records100', 500, 100), ('ptbxl/records500', 200, 500),
   ('ludb/data', 25, None)],
)  # fmt: skip
def test_every_damage_to_a_real_recording(
  recordings, tmp_path, folder, every, rate
):
  rules = validate.Rules(rate=rate, **PTBXL) if rate else validate.ANY
  for path in sorted((recordings / folder).rglob('*.hea'))[::every]:
    clean = damage.load(str(path.with_suffix('')))
    wrong = _check_damages(tmp_path, clean, rules)
    # Reversed leads may happen to look like one exchanged pair, and LUDB's
    # baselines are not used.
    assert wrong.pop('offset_300_mv', None) is None
    assert set(wrong) <= {'permuted'}, (path.stem, wrong)
    assert wrong.get('permuted', 'limb_').startswith('limb_'), wrong


@pytest.mark.parametrize('power', [-3, -2, -1, 1, 2, 3])
def test_factors_of_ten(recordings, power):
  """Of any record; a factor of ten in nearly all, amplitudes do vary."""
  found = []
  for folder, every in (('ptbxl/records100', 20), ('ludb/data', 2)):
    for path in sorted((recordings / folder).rglob('*.hea'))[::every]:
      path = path.with_suffix('')
      recording = wfdb.read_wfdb(str(path), str(recordings))
      scaled = recording._replace(gain=recording.gain * 10.0**power)
      found.append(_verdict(scaled) == 'unit_scale')
  assert np.mean(found) == 1 if abs(power) > 1 else np.mean(found) > 0.95


def test_residual_is_the_95th_percentile(recordings):
  for path in sorted((recordings / 'ludb/data').glob('*.hea'))[::10]:
    path = path.with_suffix('')
    recording = wfdb.read_wfdb(str(path), str(recordings))
    # Leads normalised one by one do not agree.
    recording = recording._replace(gain=np.ptp(recording.millivolts(), 0) * 1e3)
    i, ii, iii, avr, avl, avf = recording.millivolts()[:, :6].T.astype(float)
    violation = np.max(
      np.abs(
        [i + iii - ii, avr + (i + ii) / 2, avl - (i - iii) / 2,
         avf - (ii + iii) / 2]
      ),
      axis=0,
    )  # fmt: skip
    expected = 1e3 * np.percentile(violation, 95, method='nearest')
    found = validate.check(recording).residual
    assert found == pytest.approx(expected, abs=0.1)


def test_limit_of_the_limb_residual():
  samples = damage.synthetic().samples.copy()
  samples[:, 3] += 30  # an offset of aVR: no exchange, no inversion
  assert _verdict(_recording(samples)) is None
  limit = validate.Rules(limb_limit=20)
  assert _verdict(_recording(samples), limit) == 'limb_inconsistent'
  samples[:, 3] -= 15
  assert _verdict(_recording(samples), limit) is None


def _spiked(leads, size=2000, samples=17):
  """The synthetic record with a spike in some of its leads."""
  ecg = damage.synthetic().samples.copy()
  for lead in leads:
    ecg[3000 : 3000 + samples, lead] += size
  return _recording(ecg)


def test_a_moment_in_which_limb_leads_disagree():
  seen = lambda recording: validate.check(recording).remarks
  assert seen(_recording(damage.synthetic().samples)) == ()
  assert seen(_spiked([3, 5])) == ('limb_spike',)
  assert seen(_spiked([3], 150, 1)) == ('limb_spike',)
  assert seen(_spiked([3], 50)) == ()  # noise of a recorder
  assert seen(_spiked([8])) == ()  # chest leads need not agree
  # 6 % of the time: no moment any more.
  assert _verdict(_spiked([3], 200, 300), validate.Rules(limb_limit=20)) == (
    'limb_inconsistent'
  )


def test_recorder_that_settles():
  """Seen where it jumps in its first 20 ms, and only there."""
  clean = damage.synthetic().samples
  time = np.arange(len(clean)) / 500
  for start, lead, size, expected in (
    (0.004, 11, 10_000, 250),
    (0.010, 6, -9000, 250),
    (0.004, 11, 500, 0),  # no larger than a beat
    (0.200, 11, 10_000, 0),  # late: an electrode that was touched
    (0.7, 11, 10_000, 0),  # an artefact, but not of the start
  ):
    samples = clean.astype(float)
    decay = np.exp(-(time - start) / 0.05) * (time >= start)
    samples[:, lead] += size * decay
    found = validate.check(_recording(np.rint(samples)))
    assert found.start == expected
    assert found.remarks == (('start_transient',) if expected else ())


@pytest.mark.parametrize('offset, reason', [(40, None), (60, 'offset')])
def test_absurd_offsets(offset, reason):
  recording = _recording(damage.synthetic().samples)
  baseline = recording.baseline.copy()
  baseline[7] -= 1000 * offset
  assert _verdict(recording._replace(baseline=baseline)) == reason


def _longest_flat(ecg, rate):
  """Whether some window of over a second has a deviation under 1 uV."""
  window = int(rate) + 1
  windows = np.lib.stride_tricks.sliding_window_view(ecg.astype(float), window)
  return (windows.std(axis=1) < 1).any()


@pytest.mark.parametrize('rate', [100, 257, 500])
def test_flat_is_what_a_sliding_window_says(rate):
  rng = np.random.default_rng(rate)
  clean = damage.synthetic().samples[::5][: 4 * rate]
  clean = np.tile(clean, (3, 1))[: 8 * rate]
  verdicts = []
  for _ in range(60):
    samples = clean.copy()
    length = int(rate * rng.uniform(0.9, 1.2))
    start = int(rng.integers(len(samples) - length))
    part = slice(start, start + length)
    deviation = rng.choice([0, 0.7, 1.2])
    noise = np.rint(deviation * rng.standard_normal(length))
    if rng.random() < 0.3:  # one spike: still nothing but a flat lead
      noise[length // 2] += rng.choice([5, 40])
    samples[part, 7] = -3000 + noise
    verdict = _verdict(_recording(samples, rate))
    expected = _longest_flat(samples[:, 7], rate)
    assert verdict == ('flat' if expected else None)
    verdicts.append(expected)
  assert 10 < sum(verdicts) < 50


def test_limiter_needs_plateaus_not_peaks():
  samples = damage.synthetic().samples.astype(int)
  verdicts = set()
  for level in (1, 0.99, 0.95, 0.9, 0.5, 0.2):
    cut = samples.copy()
    cut[:, 6:] = np.minimum(cut[:, 6:], level * samples[:, 6:].max(axis=0))
    plateaus = []
    for ecg in cut.T:
      same = np.convolve(ecg == ecg.max(), np.ones(10)) > 9.5  # 20 ms
      plateaus.append(np.sum(np.diff(same.astype(int)) > 0))
    verdict = _verdict(_recording(cut))
    assert verdict == ('saturated' if max(plateaus) >= 6 else None)
    verdicts.add(verdict)
  assert len(verdicts) == 2
  # Full range given to every lead is how some software writes int16.
  centre = (samples.max(axis=0) + samples.min(axis=0)) / 2
  half = (samples.max(axis=0) - samples.min(axis=0)) / 2
  full = np.rint((samples - centre) / half * 32767)
  recording = _recording(full)._replace(
    gain=32767 / half * 1000, baseline=-centre / half * 32767
  )
  np.testing.assert_allclose(recording.millivolts(), samples / 1000, atol=1e-4)
  assert _verdict(recording) is None
  full[100:110, 4] = -32768  # missing even so
  recording = recording._replace(samples=full.astype(np.int16))
  assert _verdict(recording) == 'nan'


@pytest.mark.parametrize('rate', [100, 128, 204.8, 500, 1000])
def test_mains_share(rate):
  """Against the spectrum: 90 % hum passes, 99 % does not."""
  rng = np.random.default_rng(0)
  time = np.arange(int(10 * rate)) / rate
  clean = np.stack(
    [
      np.interp(time, np.arange(5000) / 500, ecg)
      for ecg in damage.synthetic().samples.T
    ],
    axis=1,
  )
  for frequency in (50.0, 60.0, 50.1):
    if rate == 100 and frequency == 50.1:
      continue  # beats with the samples
    for share, expected in ((0.90, None), (0.99, 'mains')):
      samples = clean.copy()
      hum = np.cos(2 * np.pi * frequency * time + rng.uniform(0.2, 1))
      noise = rng.standard_normal(len(time))
      mix = hum / hum.std() * share**0.5 + noise * (1 - share) ** 0.5
      samples[:, 8] = 500 * mix - 10_000
      assert _verdict(_recording(np.rint(samples), rate)) == expected


def test_slow_and_low_but_clean():
  """20 beats per minute, and leads of a quarter of the usual size."""
  time = np.arange(5000) / 500
  beat = np.exp(-0.5 * ((time % 3 - 1.5) / 0.015) ** 2)
  wave = 0.2 * np.exp(-0.5 * ((time % 3 - 1.8) / 0.06) ** 2)
  rng = np.random.default_rng(0)
  size = rng.uniform(0.8, 1.2, 8)
  ecg = (beat + wave)[:, None] * size + 0.01 * rng.standard_normal((5000, 8))
  ecg = leads_lib.from_independent(np, ecg)
  assert _verdict(_recording(np.rint(1000 * ecg))) is None
  assert _verdict(_recording(np.rint(500 * ecg))) is None


def test_together_as_one_by_one(recordings):
  """Batches of mixed shapes, rates, rules and verdicts, in any order."""
  batch, rules = [], []
  for folder in ('ptbxl/records100', 'ptbxl/records500', 'ludb/data'):
    for path in sorted((recordings / folder).rglob('*.hea'))[:40]:
      recording = wfdb.read_wfdb(path.with_suffix(''), str(recordings))
      batch.append(recording)
      gain = (1000, 900)[len(batch) % 4 // 3]
      rules.append(validate.Rules(gain=gain, limb_limit=20))
      samples = recording.samples.copy()
      value = (0, -32768, 32767)[len(batch) // 3 % 3]
      samples[300:900, len(batch) % 12] = value
      batch.append(recording._replace(samples=samples))
      rules.append(validate.Rules(rate=100))
      batch.append(recording._replace(samples=samples[: 40 * len(batch)]))
      rules.append(validate.ANY)
  order = np.random.default_rng(0).permutation(len(batch))
  batch, rules = [batch[k] for k in order], [rules[k] for k in order]
  together = validate.check_all(batch, rules)
  reasons = set()
  for recording, rule, verdict in zip(batch, rules, together):
    if isinstance(verdict, BadRecord):
      with pytest.raises(BadRecord) as error:
        validate.check(recording, rule)
      assert str(error.value) == str(verdict)
      reasons.add(verdict.reason)
    else:
      assert validate.check(recording, rule) == verdict
  assert {'flat', 'nan', 'saturated', 'wrong_rate', 'wrong_gain'} < reasons
