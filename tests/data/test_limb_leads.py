"""Exchanged, inverted and permuted leads, under any gains, noise and filter."""

import itertools

import numpy as np
import pytest
import scipy.signal

from ecgjax.data.raw import limb_leads
from ecgjax.formats import wfdb
from tests.data import damage

PAIRS = list(itertools.combinations(range(6), 2))


def _records(recordings):
  """[T, 12] of LUDB (every lead normalised) and of PTB-XL (millivolts)."""
  for folder, every in (('ludb/data', 12), ('ptbxl/records500', 60)):
    for path in sorted((recordings / folder).glob('**/*.hea'))[::every]:
      path = str(path.with_suffix(''))
      ecg = wfdb.read_wfdb(path, str(recordings)).millivolts()
      yield ecg / np.ptp(ecg, axis=0) if folder == 'ludb/data' else ecg


def _exchange(ecg, a, b):
  order = list(range(ecg.shape[1]))
  order[a], order[b] = b, a
  return ecg[:, order]


def test_energy_is_that_of_the_relations():
  """The quadratic form of the docstring, against sums over samples."""
  rng = np.random.default_rng(0)
  ecg = rng.standard_normal((200, 6))
  ecg -= ecg.mean(axis=0)
  ecg /= ecg.std(axis=0)
  gains = rng.uniform(-1, 1, 6)
  i, ii, iii, avr, avl, avf = (gains * ecg).T
  violation = [
    i + iii - ii,
    avr + (i + ii) / 2,
    avl - (i - iii) / 2,
    avf - (ii + iii) / 2,
  ]
  expected = np.mean(np.square(violation), axis=1).sum()
  form = limb_leads._WEIGHTS * np.corrcoef(ecg, rowvar=False)
  assert gains @ form @ gains == pytest.approx(expected)


def test_every_exchange_and_inversion_is_named(recordings):
  for ecg in itertools.chain(
    [damage.synthetic().samples / 1000], _records(recordings)
  ):
    assert limb_leads.misplaced(ecg) is None
    for a, b in PAIRS:
      reason, detail = limb_leads.misplaced(_exchange(ecg, a, b))
      assert reason == 'limb_swapped'
      first, second = limb_leads.LIMB[a], limb_leads.LIMB[b]
      assert f'with {first} and {second} exchanged' in detail
    for a in range(6):
      inverted = ecg.copy()
      inverted[:, a] *= -1
      reason, detail = limb_leads.misplaced(inverted)
      assert reason == 'limb_flipped'
      assert f'with {limb_leads.LIMB[a]} inverted' in detail


def _residual(ecg, signs):
  """By the best gains, with the leads that `signs` says inverted."""
  form = limb_leads._WEIGHTS * np.corrcoef(ecg[:, :6], rowvar=False)
  gains = np.abs(np.linalg.eigh(form)[1][:, 0]) * signs
  return np.sqrt(gains @ form @ gains)


@pytest.mark.parametrize('kind', ['swapped', 'flipped'])
def test_half_of_the_residual_decides(kind):
  """Noise hides an exchange or inversion, more and more and then wholly."""
  ecg = damage.synthetic().samples / 1000
  noise = np.random.default_rng(0).standard_normal(ecg.shape)
  signs = np.array([1, -1, 1, 1, 1, 1])
  seen = set()
  for size in (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2):
    noisy = ecg + size * noise
    before = _residual(noisy, 1)
    if kind == 'swapped':
      wrong = _exchange(noisy, 0, 1)
      after = _residual(wrong, 1)
    else:
      wrong = noisy.copy()
      wrong[:, 1] *= -1
      after = _residual(wrong, 1)
      assert _residual(wrong, signs) == pytest.approx(before)
    found = limb_leads.misplaced(wrong)
    assert (found is not None) == (before < after / 2)
    if found:
      assert found[0] == f'limb_{kind}'
      assert f'{before / after:.1%} of' in found[1]
    seen.add(found is None)
  assert seen == {True, False}


def test_all_orders_of_the_limb_leads():
  ecg = damage.synthetic().samples / 1000
  passed = [
    order
    for order in itertools.permutations(range(6))
    if limb_leads.misplaced(ecg[:, list(order) + list(range(6, 12))]) is None
  ]
  # Other orders that satisfy the relations with positive gains do not exist.
  assert passed == [tuple(range(6))]


def test_permuted_with_chest_leads(recordings):
  rng = np.random.default_rng(0)
  found = []
  for ecg in _records(recordings):
    for order in (
      np.roll(range(12), 1),
      range(11, -1, -1),
      rng.permutation(12),
    ):
      found.append(limb_leads.misplaced(ecg[:, list(order)]) is not None)
  assert np.mean(found) > 0.97


def test_gains_noise_filters_and_delays_are_no_exchange(recordings):
  rng = np.random.default_rng(0)
  for ecg in _records(recordings):
    noise = rng.standard_normal(ecg.shape)
    wander = np.cumsum(noise, axis=0)
    wander *= 0.1 / wander.std(axis=0)
    filtered = [
      scipy.signal.sosfiltfilt(
        scipy.signal.butter(
          2,
          [rng.uniform(0.3, 1), rng.uniform(25, 45)],
          'band',
          fs=500,
          output='sos',
        ),
        lead,
      )
      for lead in ecg.T
    ]
    delayed = [np.roll(lead, rng.integers(-4, 5)) for lead in ecg.T]
    for variant in (
      ecg * np.exp(rng.standard_normal(12)),
      ecg + 0.05 * noise,
      ecg + wander,
      np.stack(filtered, axis=1),
      np.stack(delayed, axis=1),
    ):
      assert limb_leads.misplaced(variant) is None


def test_plain_rule_would_reject_leads_normalised_one_by_one(recordings):
  """Why gains are fitted: the module says so."""
  from ecgjax.ecg import leads

  halved = 0
  for path in sorted((recordings / 'ludb/data').glob('*.hea')):
    path = str(path.with_suffix(''))
    ecg = wfdb.read_wfdb(path, str(recordings)).millivolts()
    ecg = ecg / np.ptp(ecg, axis=0)
    before = np.percentile(leads.limb_residual(np, ecg), 95)
    after = min(
      np.percentile(leads.limb_residual(np, _exchange(ecg, a, b)), 95)
      for a, b in PAIRS
    )
    halved += after < before / 2
  assert halved > 0
