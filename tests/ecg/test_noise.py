import functools

import jax
import numpy as np
import pytest

from ecgjax.ecg import draws as draws_lib
from ecgjax.ecg import leads as leads_lib
from ecgjax.ecg import noise

RATE, LENGTH = 250, 2000
KEY = jax.random.key(4)


@pytest.fixture(scope='module')
def kinds():
  """200 draws of each kind of noise, [200, 9, L] mV."""

  def one(key):
    draws = draws_lib.Draws.of(key, 9)
    made = {name: f(draws, LENGTH, RATE) for name, f in noise.KINDS.items()}
    return made | {'slow mains': noise.mains(draws, LENGTH, 100)}

  made = jax.jit(jax.vmap(one))(jax.random.split(KEY, 200))
  return jax.tree.map(np.asarray, made)


def tracing(rows=None):
  """Made-up leads that obey Einthoven and Goldberger, [(rows,) L, 12] mV."""
  shape = (LENGTH, 8) if rows is None else (rows, LENGTH, 8)
  eight = np.random.default_rng(1).normal(0, 0.3, shape)
  return leads_lib.from_independent(np, eight).astype(np.float32)


def test_electrodes_to_leads():
  rng = np.random.default_rng(0)
  potentials = rng.normal(size=(50, 9))
  ra, la, ll, *chest = potentials.T
  expected = {
    'I': la - ra,
    'II': ll - ra,
    'III': ll - la,
    'aVR': ra - (la + ll) / 2,
    'aVL': la - (ra + ll) / 2,
    'aVF': ll - (ra + la) / 2,
  }
  expected |= {
    f'V{k + 1}': chest[k] - (ra + la + ll) / 3 for k in range(len(chest))
  }
  found = potentials @ noise.electrode_matrix(leads_lib.LEADS)
  for k, name in enumerate(leads_lib.LEADS):
    np.testing.assert_allclose(found[:, k], expected[name], atol=1e-6)
  eight = np.asarray(noise.independent_leads(potentials.T.astype(np.float32)))
  order = leads_lib.indices(leads_lib.INDEPENDENT_LEADS)
  np.testing.assert_allclose(eight.T, found[:, order], atol=1e-5)


def test_size_and_spectrum_of_each_kind(kinds):
  wander = kinds['baseline_wander']
  hertz = np.fft.rfftfreq(LENGTH, 1 / RATE)
  power = (np.abs(np.fft.rfft(wander * np.hanning(LENGTH))) ** 2).sum((0, 1))
  assert power[hertz < 0.6].sum() > 0.99 * power.sum()
  # Three sines of amplitude N(0, 35 uV): variance 3 x 35^2 / 2.
  assert abs(np.sqrt((wander**2).mean()) - 0.035 * np.sqrt(1.5)) < 0.004
  muscle = kinds['muscle']
  assert abs(muscle.std() - 0.008) < 1e-4
  assert abs(np.mean(muscle[..., 1:] * muscle[..., :-1])) < 1e-6  # white
  mains = kinds['mains']
  power = (np.abs(np.fft.rfft(mains)) ** 2).sum((0, 1))
  assert hertz[power.argmax()] == 50 and power.max() > 0.99 * power.sum()
  assert abs(np.sqrt((mains**2).mean()) - 0.004 / np.sqrt(2)) < 4e-4
  # One phase for all electrodes: any two are proportional.
  assert np.linalg.matrix_rank(mains[0], tol=1e-5) == 1
  motion = kinds['electrode_motion']
  assert 0.05 < np.abs(motion).max(axis=2).mean() < 0.2
  assert (np.abs(motion).max(axis=2) == 0).any()  # an electrode left alone


def test_mains_needs_more_than_twice_its_frequency(kinds):
  assert not kinds['slow mains'].any()
  with pytest.raises(ValueError, match='cannot hold 50 Hz mains'):
    noise.add_noise(KEY, tracing(), kind='mains', snr_db=6, rate=100)


def measured_snr(clean, noisy):
  """Independent of the code: powers about the mean, all leads together."""
  clean, noisy = clean.astype(float), noisy.astype(float)
  if (noisy == clean).all():
    return np.inf
  added = noisy - clean
  return 10 * np.log10(clean.var(axis=0).sum() / added.var(axis=0).sum())


@pytest.mark.parametrize(
  'leads', [leads_lib.LEADS, leads_lib.LCD_LEADS, ('II',)], ids=len
)
def test_noise_has_the_snr_asked_for(leads):
  clean = tracing(8)[..., leads_lib.indices(leads)]

  def add(key, ecg):
    options = {'rate': RATE, 'leads': leads, 'snr_db': 6}
    return {
      kind: noise.add_noise(key, ecg, kind=kind, **options)
      for kind in noise.KINDS
    }

  made = jax.jit(jax.vmap(add))(jax.random.split(KEY, 8), clean)
  for kind, noisy in made.items():
    noisy = np.asarray(noisy)
    assert noisy.shape == clean.shape and noisy.dtype == np.float32
    found = np.array([measured_snr(a, b) for a, b in zip(clean, noisy)])
    if kind == 'electrode_motion' and len(leads) == 1:
      # The jolted electrodes may all be others than RA and LL.
      assert np.isinf(found).any()
      found = found[np.isfinite(found)]
    assert len(found) and (np.abs(found - 6) < 0.01).all()
    if len(leads) == 12:
      assert leads_lib.limb_residual(np, noisy).max() < 1e-5


def test_snr_from_a_range_and_other_keys():
  clean = tracing(40)
  add = functools.partial(
    noise.add_noise, kind='muscle', rate=RATE, snr_db=(0.0, 24.0)
  )
  keys = jax.random.split(KEY, 40)
  noisy = np.asarray(jax.jit(jax.vmap(add))(keys, clean))
  found = [measured_snr(a, b) for a, b in zip(clean, noisy)]
  assert min(found) > -0.01 and max(found) < 24.01 and np.ptp(found) > 15


@pytest.mark.parametrize(
  'leads', [leads_lib.LEADS, ('II', 'V1', 'V5'), leads_lib.LCD_LEADS], ids=len
)
def test_a_lead_falls_off(leads):
  """The electrode's ECG is gone for a while, all else is as it was."""
  rows = 60
  clean = tracing(rows)[..., leads_lib.indices(leads)]
  off = functools.partial(noise.lead_off, rate=RATE, leads=leads)
  keys = jax.random.split(KEY, rows)
  damaged = np.asarray(jax.jit(jax.vmap(off))(keys, clean))
  changed = np.abs(damaged - clean) > 1e-5  # [N, L, C]
  seen = set()
  for before, after, where in zip(clean, damaged, changed):
    span = np.flatnonzero(where.any(axis=1))
    assert 0.05 * LENGTH <= len(span) <= 0.51 * LENGTH
    assert span[-1] - span[0] < len(span) + 20  # one stretch
    hit = tuple(np.array(leads)[where.any(axis=0)])
    seen.add(hit)
    if len(hit) == 1:  # a chest electrode: what is left is smooth
      lead = leads.index(hit[0])
      assert hit[0].startswith('V')
      assert np.diff(after[span, lead]).std() < 0.01
      assert np.diff(before[span, lead]).std() > 0.3
    else:  # a limb electrode: Wilson's terminal moves with it
      assert {name for name in leads if name[0] == 'V'} <= set(hit)
      if len(leads) == 12:
        assert leads_lib.limb_residual(np, after).max() < 1e-5
  chest = {hit for hit in seen if len(hit) == 1}
  assert len(chest) == sum(name[0] == 'V' for name in leads)
  limb = seen - chest
  assert bool(limb) == (len(leads) > 3)
  if len(leads) == 12:  # RA spares III, LA spares II, LL spares I
    spared = {frozenset(leads) - set(hit) for hit in limb}
    assert spared == {frozenset({name}) for name in ('I', 'II', 'III')}


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda ecg: noise.lead_off(KEY, ecg[:, 1:2], rate=RATE, leads=('II',)),
     'determine no electrode'),
    (lambda ecg: noise.lead_off(KEY, ecg[:, :3], rate=RATE),
     r'expected \(samples, 12 leads\)'),
    (lambda ecg: noise.add_noise(KEY, ecg, kind='hum', snr_db=6, rate=RATE),
     "noise 'hum' is not one of"),
  ],
)  # fmt: skip
def test_impossible_requests_are_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call(tracing())
