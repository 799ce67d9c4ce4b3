"""Reconstruction against its formulas, beats against the simulator."""

import numpy as np
import pytest
from scipy import signal, stats

from ecgjax.ecg import beats, leads
from ecgjax.ecg.contract import InputContract
from ecgjax.metrics import bootstrap, reconstruction
from ecgjax.simulator import simulator

RATE = 100.0
CLASSES = ('NORM', 'LBBB', 'PVC', 'AF', 'STE', 'NORM', 'LBBB', 'MI')


@pytest.fixture(scope='module')
def simulated():
  """ecg [8, 1000, 12] mV and what is known about it."""
  ecg, truth = simulator.batch(
    5,
    patient_ids=np.arange(8),
    record_ids=np.zeros(8, int),
    factors=np.stack(
      [simulator.factors(*(() if c == 'NORM' else (c,))) for c in CLASSES]
    ),
    recorder=simulator.Config(rate=RATE, length=1000),
  )
  return np.asarray(ecg, np.float64), truth


def pair(seed=0, shape=(3, 400, 2)):
  rng = np.random.default_rng(seed)
  x = 0.3 + rng.normal(size=shape)
  return x, x + 0.2 * rng.normal(size=shape)


def test_lead_errors_equal_their_formulas():
  x, y = pair()
  found = reconstruction.lead_errors(x, y, RATE)
  for i in range(3):
    for c in range(2):
      a, b = x[i, :, c], y[i, :, c]
      error = np.linalg.norm(a - b)
      expected = {
        'prd': 100 * error / np.linalg.norm(a),
        'prdn': 100 * error / (np.std(a) * 20),
        'rmse_uv': 1000 * error / 20,
        'max_error_uv': 1000 * np.max(np.abs(a - b)),
        'r': stats.pearsonr(a, b)[0],
      }
      for name, value in expected.items():
        assert found[name][i, c] == pytest.approx(value, rel=1e-9), name


def test_an_offset_flatters_prd_but_not_prdn():
  x, y = pair()
  before = reconstruction.record_errors(x, y, RATE)
  after = reconstruction.record_errors(x + 5, y + 5, RATE)
  assert (after['prd'] < 0.5 * before['prd']).all()
  np.testing.assert_allclose(after['prdn'], before['prdn'])
  np.testing.assert_allclose(after['r'], before['r'])


def test_record_errors_pool_the_leads():
  x, y = pair()
  x[:, :, 1] *= 10  # a large lead weighs more
  found = reconstruction.record_errors(x, y, RATE)
  for i in range(3):
    centred = x[i] - x[i].mean(axis=0)
    other = y[i] - y[i].mean(axis=0)
    error = np.linalg.norm(x[i] - y[i])
    assert found['prdn'][i] == pytest.approx(
      100 * error / np.linalg.norm(centred)
    )
    assert found['rmse_uv'][i] == pytest.approx(1000 * error / np.sqrt(800))
    assert found['r'][i] == pytest.approx(
      np.sum(centred * other) / np.linalg.norm(centred) / np.linalg.norm(other)
    )


def test_spectral_error_of_a_known_gain():
  """Halving everything between 15 and 40 Hz costs 6.02 dB in that band."""
  time = np.arange(1000) / RATE
  sines = lambda gain: sum(
    a * np.sin(2 * np.pi * f * time) for f, a in ((2, 1), (10, 1), (25, gain))
  )
  x, y = (sines(g)[None, :, None] for g in (1.0, 0.5))
  found = reconstruction.lead_errors(x, y, RATE)['spectral_db']
  assert found[0, 0] == pytest.approx(20 * np.log10(2) / 3, abs=0.02)


def test_constant_leads_are_undefined_not_infinite():
  x, y = pair()
  x[0, :, 0] = 0
  found = reconstruction.lead_errors(x, y, RATE)
  for name in ('prd', 'prdn', 'r'):
    assert np.isnan(found[name][0, 0])
    assert np.isfinite(found[name][1:]).all()


def test_noise_floor(simulated):
  ecg, _ = simulated
  rng = np.random.default_rng(0)
  quiet = reconstruction.noise_floor(0 * ecg + rng.normal(size=ecg.shape))
  np.testing.assert_allclose(quiet, 100, atol=3)  # nothing but noise
  clean, _ = simulator.batch(
    5, np.arange(8), np.zeros(8, int), np.zeros((8, 7), int),
    simulator.Config(rate=RATE, length=1000, noise=0.0),
  )  # fmt: skip
  clean = np.asarray(clean, np.float64)
  noisy = clean + 0.02 * rng.normal(size=clean.shape)
  deviation = np.sqrt(np.mean(clean.var(axis=1), axis=1))
  expected = 100 * 0.02 / np.hypot(deviation, 0.02)
  found = reconstruction.noise_floor(noisy)
  np.testing.assert_allclose(found, expected, rtol=0.25)


def test_r_peaks_are_those_of_the_simulator(simulated):
  ecg, truth = simulated
  for i, name in enumerate(CLASSES):
    times = np.asarray(truth.r[i])
    times = RATE * times[np.isfinite(times)]
    times = times[(times > 15) & (times < 985)]
    peaks = beats.r_peaks(ecg[i], RATE)
    found, true = beats.match(peaks, times, 8)
    assert len(true) >= 0.9 * len(times), name
    assert len(peaks) <= len(times) + 2, name
    assert np.abs(np.median(peaks[found] - times[true])) < 3


def test_r_peaks_at_the_lowest_rate(simulated):
  """50 Hz, where 25 Hz, the end of the band, is half the rate."""
  ecg, _ = simulated
  for x in ecg:
    slow = signal.decimate(x, 2, ftype='fir', axis=0)
    found, expected = beats.r_peaks(slow, 50), beats.r_peaks(x, RATE)
    pairs, _ = beats.match(found / 50, expected / RATE, 0.02)
    assert len(pairs) == len(found) == len(expected)


def test_r_peaks_of_silence_and_of_short_records():
  assert not len(beats.r_peaks(np.zeros((1000, 2)), RATE))
  assert len(beats.r_peaks(np.ones((60, 2)), RATE)) == 0


def test_match():
  i, j = beats.match(np.array([1.0, 5, 9, 30]), np.array([2.0, 8.5, 9.2]), 2)
  assert list(zip(i, j)) == [(0, 0), (2, 2)]
  i, j = beats.match(np.array([]), np.array([1.0]), 2)
  assert len(i) == len(j) == 0


def test_median_beat(simulated):
  ecg, truth = simulated
  measures = [beats.median_beat(e, RATE, beats.r_peaks(e, RATE)) for e in ecg]
  width = dict(zip(CLASSES, (m.qrs_ms for m in measures)))
  assert 75 < width['NORM'] < 115 and 150 < width['LBBB'] < 215
  st = dict(zip(CLASSES, (np.abs(m.st_mv).max() for m in measures)))
  assert st['STE'] > 0.15 > st['NORM']
  i = CLASSES.index('NORM')
  times = np.asarray(truth.r[i])
  r = [int(round(RATE * t)) for t in times if 0.2 < t < 9.6]
  v5 = leads.LEADS.index('V5')
  span = np.median([np.ptp(ecg[i, t - 7 : t + 8, v5]) for t in r])
  assert measures[i].r_mv[v5] == pytest.approx(span, rel=0.1)
  assert beats.median_beat(ecg[0], RATE, np.array([500.0])) is None


def test_beat_errors(simulated):
  ecg, _ = simulated
  same = reconstruction.beat_errors(ecg[0], ecg[0], RATE)
  assert same == {
    'r_sensitivity': 1, 'r_ppv': 1, 'r_time_ms': 0, 'qrs_ms': 0,
    'r_percent': 0, 'st_uv': 0,
  }  # fmt: skip
  late = reconstruction.beat_errors(ecg[0], np.roll(ecg[0], 2, axis=0), RATE)
  assert late['r_time_ms'] == pytest.approx(20, abs=0.5)
  small = reconstruction.beat_errors(ecg[0], 0.8 * ecg[0], RATE)
  assert small['r_percent'] == pytest.approx(20, abs=0.01)
  assert small['st_uv'] > 1
  silent = reconstruction.beat_errors(ecg[0], 0 * ecg[0], RATE)
  assert silent['r_sensitivity'] == 0 and np.isnan(silent['r_ppv'])
  half = ecg[0].copy()
  half[500:] = half[500]
  lost = reconstruction.beat_errors(ecg[0], half, RATE)
  assert 0.35 < lost['r_sensitivity'] < 0.65 and lost['r_ppv'] == 1


def test_code_usage():
  indices = np.array([[[0, 3], [0, 3]], [[1, 3], [2, 3]]])
  first, second = reconstruction.code_usage(indices, 4)
  entropy = 0.5 * np.log(2) + 2 * 0.25 * np.log(4)
  assert first['perplexity'] == pytest.approx(np.exp(entropy))
  assert first['usage'] == 0.75 and first['top1'] == 0.5 and first['dead'] == 1
  assert second['perplexity'] == 1 and second['usage'] == 0.25


def test_median_with_interval():
  rng = np.random.default_rng(0)
  values, patients = rng.normal(size=41), np.arange(41) // 2
  found = reconstruction.median_with_interval(values, patients, 300)
  assert found['value'] == np.median(values)
  counts = bootstrap.patient_counts(patients, 300)
  drawn = [
    np.quantile(np.repeat(values, c), 0.5, method='inverted_cdf')
    for c in counts.T
  ]
  np.testing.assert_allclose(found['ci95'], bootstrap.interval(np.array(drawn)))


def test_summarise(simulated):
  x, _ = simulated
  rng = np.random.default_rng(0)
  y = x + 0.03 * rng.normal(size=x.shape)
  # Eight leads and a padding row in, twelve leads out.
  eight = leads.indices(leads.INDEPENDENT_LEADS)
  indices = rng.integers(0, 512, (9, 125, 2))
  batch = {
    'ecg': x[[*range(8), 7]][:, :, eight].astype(np.float32),
    'mask': np.array([1.0] * 8 + [0]),
    'patient': np.arange(9),
  }
  split = reconstruction.reconstruct(
    lambda batch: {'reconstruction': y[[*range(8), 7]], 'indices': indices},
    InputContract(RATE, 1000, leads.INDEPENDENT_LEADS, normalisation='none'),
    [batch],
  )
  np.testing.assert_allclose(split.original, x, atol=1e-6)
  assert len(split.patients) == len(split.indices) == 8
  found = reconstruction.summarise(split, RATE, 512, draws=200)
  records = reconstruction.record_errors(x, y, RATE)
  value = found['metrics']['prdn']
  # What is summarised went through float32, on the device.
  assert value['value'] == pytest.approx(np.sort(records['prdn'])[3], rel=1e-6)
  assert value['ci95'][0] <= value['value'] <= value['ci95'][1]
  assert found['metrics']['r_sensitivity']['value'] == pytest.approx(
    records['r_sensitivity'].mean()
  )
  assert found['codebook']['bits_per_second'] == pytest.approx(225)
  assert found['codebook']['compression'] == pytest.approx(12800 / 225)
  assert set(found['per_lead']) == set(leads.LEADS)
  assert 'prdn' in found['per_lead']['V2']
  figures = reconstruction.plot_examples(split, RATE, synthetic=True)
  title = ' '.join(t.get_text() for t in figures['worst'][1].texts)
  assert f'{records["prdn"].max():.1f} %' in title
