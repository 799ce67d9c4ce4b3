"""Facts planted in made-up recordings, one by one."""

import numpy as np
import pytest

from ecgjax.data.raw import record_facts
from ecgjax.ecg import leads
from ecgjax.ecg.recording import INVALID
from tests.data import raw_corpora

RATE = 500.0
GAIN, BASELINE = np.full(12, 1000.0), np.zeros(12)


@pytest.fixture
def counts():
  """[5000, 12] int16 of a consistent recording."""
  eight = raw_corpora.ecg(3, RATE)[:, leads.indices(
    leads.INDEPENDENT_LEADS
  )]  # fmt: skip
  eight = 2 * np.rint(500 * eight)  # even, so that halves are whole
  return leads.from_independent(np, eight).astype(np.int16)


def measure(counts, rate=RATE, gain=GAIN, baseline=BASELINE):
  return record_facts.measure(counts, gain, baseline, rate)


def test_a_clean_recording(counts):
  facts = measure(counts)
  assert facts['seconds'] == 10 and facts['missing'] == 0
  assert facts['einthoven_counts'] == facts['einthoven_over_one'] == 0
  assert (facts['avr_low'], facts['avr_high']) == (0, 0)
  assert (facts['held_start'], facts['held_end']) == (1, 1)
  assert facts['flat_leads'] == facts['quiet_leads'] == []
  assert facts['step_uv'] == 2 and facts['step_conversion'] == 'exact'
  assert facts['phase_step_uv'] is None
  rng = np.random.default_rng(3)
  assert facts['bpm'] == pytest.approx(60 / rng.uniform(0.7, 1.1), rel=0.01)


def test_limb_relations(counts):
  counts[100, 2] += 2  # III
  counts[200, 2] -= 1
  counts[:, 3] += 1  # aVR
  counts[300, 3] += 4
  facts = measure(counts)
  assert facts['einthoven_counts'] == 2
  assert facts['einthoven_over_one'] == 1 and facts['samples'] == 5000
  assert facts['einthoven_uv'] == pytest.approx(2)
  assert (facts['avr_low'], facts['avr_high']) == (2, 10)
  assert facts['avr_mean'] == pytest.approx(2 + 8 / 5000)
  # 2 aVL = I - III, 2 aVF = II + III.
  assert facts['avl_mean'] == pytest.approx(1 / 5000)
  assert facts['avf_mean'] == pytest.approx(-1 / 5000)


def test_limb_relations_of_unequal_gains_are_in_microvolts_alone(counts):
  gain = GAIN.copy()
  gain[2] = 500
  counts[:, 2] //= 2
  facts = measure(counts, gain=gain)
  assert facts['einthoven_uv'] == pytest.approx(0, abs=1e-9)
  assert 'einthoven_counts' not in facts
  assert facts['step_uv'] == pytest.approx(2)  # III is not looked at


def test_held_ends(counts):
  counts[-37:] = counts[-37]
  counts[:12] = counts[11]
  facts = measure(counts)
  assert (facts['held_start'], facts['held_end']) == (12, 37)
  assert facts['last_step'] == 0
  counts[-2, 8] += 1
  assert measure(counts)['held_end'] == 1


def test_last_step_and_first_half_second(counts):
  steps = np.diff(counts[:, 1].astype(float))
  expected = abs(steps[-1]) / steps.std()
  assert measure(counts)['last_step'] == pytest.approx(expected)
  counts[:4, 6:] += 9000
  values = counts - counts.mean(axis=0)
  expected = (values[:250] ** 2).sum() / (values**2).sum()
  share = measure(counts)['start_share']
  assert share == pytest.approx(expected) and share > 0.5


@pytest.mark.parametrize('line, other', [(50, 60), (60, 50)])
def test_mains(counts, line, other):
  time = np.arange(5000) / RATE
  hum = np.rint(20 * np.sin(2 * np.pi * line * time)).astype(np.int16)
  facts = measure(counts + hum[:, None])
  assert facts[f'mains_{line}'] > 10
  assert 0.4 < facts[f'mains_{other}'] < 2.5


def test_bandwidth():
  rng = np.random.default_rng(0)
  spectrum = np.fft.rfft(rng.normal(0, 300, (5000, 12)), axis=0)
  hz = np.fft.rfftfreq(5000, 1 / RATE)
  spectrum[hz > 150] *= 1e-5
  ecg = np.fft.irfft(spectrum, axis=0)
  facts = record_facts.spectrum_facts(ecg, RATE)
  assert facts['top_hz'] == pytest.approx(150, abs=3)
  assert facts['high_db'] < -70
  assert facts['above_50'] == pytest.approx(2 / 3, abs=0.02)
  assert facts['above_100'] == pytest.approx(1 / 3, abs=0.02)
  steps = np.diff(np.fft.irfft(spectrum, axis=0), axis=0, append=ecg[:1])
  power = np.abs(np.fft.rfft(steps, axis=0)) ** 2
  expected = power[hz > 50].sum() / power.sum()
  assert facts['quick_above_50'] == pytest.approx(expected, abs=0.01)
  slow = record_facts.spectrum_facts(ecg[::5], 100.0)
  assert slow['mains_50'] is slow['above_50'] is slow['high_db'] is None


def test_offsets(counts):
  clean = measure(counts)
  counts[:, 9] += 5000
  facts = measure(counts)
  median = abs(np.median(counts[:, 9]))
  assert facts['offset_uv'] == pytest.approx(median)
  values = counts.astype(float)
  expected = 1 - values.var(axis=0).mean() / values.var()
  assert facts['between_share'] == pytest.approx(expected)
  assert facts['between_share'] > 0.5 > 0.2 > clean['between_share']
  # Gain and baseline are the recorder's.
  same = measure(counts, gain=2 * GAIN, baseline=np.full(12, 100.0))
  assert same['offset_uv'] == pytest.approx((median - 100) / 2)


def test_leads_without_signal(counts):
  counts[:, 7] = 0
  counts[1000:1501, 11] = 4
  counts[2000:2400, 10] = 4  # under a second
  facts = measure(counts)
  assert facts['flat_leads'] == ['V2'] and facts['quiet_leads'] == ['V6']


def test_missing_samples_leave_the_rest_unknown(counts):
  counts[7, 3] = INVALID
  facts = measure(counts)
  assert set(facts) == {'seconds', 'rate', 'missing'}
  assert facts['missing'] == pytest.approx(1 / 60000)
