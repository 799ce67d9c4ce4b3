"""Fidelity figures against brute force, and on sets whose answer is known."""

import json

import numpy as np
import pytest
import scipy.linalg

from ecgjax.ecg import leads
from ecgjax.metrics import fidelity

RATE = 100.0


def normal(n, d=4, shift=0.0, seed=0):
  return np.random.default_rng(seed).normal(shift, size=(n, d))


def make_ecgs(n, interval, seed=0, noise=0.01):
  """Records of triangular beats, one every `interval` s, in twelve leads."""
  rng = np.random.default_rng(seed)
  time = np.arange(1000) / RATE
  ecg = np.zeros((n, 1000, 8))
  for row in range(n):
    beats = np.arange(0.3 + 0.3 * rng.random(), 10, interval)
    form = np.maximum(1 - np.abs(time[:, None] - beats) / 0.05, 0).sum(axis=1)
    ecg[row] = form[:, None] * rng.normal(1, 0.1, 8)
  ecg += noise * rng.normal(size=ecg.shape)
  return leads.from_independent(np, ecg)


def test_frechet_distance_equals_the_formula():
  x, y = normal(200), normal(150, shift=0.5, seed=1) * [1, 2, 0.5, 1]
  sx, sy = np.cov(x.T), np.cov(y.T)
  root = scipy.linalg.sqrtm(sx @ sy).real
  expected = np.square(x.mean(0) - y.mean(0)).sum()
  expected += np.trace(sx + sy - 2 * root)
  assert fidelity.frechet_distance(x, y) == pytest.approx(expected, abs=1e-8)
  assert fidelity.frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
  assert fidelity.frechet_distance(x, x + 3) == pytest.approx(36)


def test_kernel_distance_equals_the_sums():
  x, y = normal(9), normal(7, shift=0.5, seed=1)
  kernel = lambda a, b: (np.dot(a, b) / 4 + 1) ** 3

  def inside(rows):
    pairs = [(a, b) for a in range(len(rows)) for b in range(len(rows))]
    values = [kernel(rows[a], rows[b]) for a, b in pairs if a != b]
    return np.mean(values)

  between = np.mean([kernel(a, b) for a in x for b in y])
  expected = inside(x) + inside(y) - 2 * between
  assert fidelity.kernel_distance(x, y) == pytest.approx(expected)


def test_frechet_needs_ten_rows_per_dimension():
  x = normal(40)
  assert 'frechet' in fidelity.feature_distance(x, normal(60, seed=1))
  assert 'frechet' not in fidelity.feature_distance(x, normal(39, seed=1))


def test_manifold_equals_brute_force():
  real, fake, k = normal(12), normal(9, shift=0.8, seed=1), 3
  away = lambda a, b: np.linalg.norm(a - b)
  radius = lambda rows: [
    sorted(away(row, other) for other in rows)[k] for row in rows
  ]
  mine, theirs = radius(real), radius(fake)
  hit = [[away(f, r) <= mine[i] for i, r in enumerate(real)] for f in fake]
  back = [[away(r, f) <= theirs[i] for i, f in enumerate(fake)] for r in real]
  found = fidelity.manifold(real, fake, k)
  assert found['precision'] == pytest.approx(np.mean([any(x) for x in hit]))
  assert found['recall'] == pytest.approx(np.mean([any(x) for x in back]))
  assert found['density'] == pytest.approx(np.sum(hit) / (k * len(fake)))
  covered = np.any(hit, axis=0)
  assert found['coverage'] == pytest.approx(covered.mean())
  far = fidelity.manifold(real, fake + 100, k)
  assert set(far.values()) == {0.0}


def ecgs_of(features, patients):
  return fidelity.Ecgs(features, np.zeros((len(features), 0)), patients)


def test_two_sample_test():
  patients = np.arange(60)
  run = lambda x, y, who=patients: fidelity.two_sample_test(
    ecgs_of(x, who), ecgs_of(y, who), permutations=39
  )
  same = run(normal(60), normal(60, seed=1))
  assert same['p'] > 0.05 and same['discriminative_score'] < 0.2
  apart = run(normal(60), normal(60, shift=3.0, seed=1))
  assert apart['accuracy'] > 0.95 and apart['p'] == pytest.approx(1 / 40)
  # Ten records each of six patients who differ: no sign of generation.
  who = np.repeat(np.arange(6), 10)
  mine, theirs = normal(6, seed=2)[who], normal(6, seed=3)[who]
  noise = normal(60, seed=4) * 0.1
  assert run(mine + noise, theirs - noise, who)['p'] > 0.05


def test_memorisation():
  train, held, strangers = (normal(80, 3, seed=s) for s in range(3))
  copies = train[:40] + 1e-4
  found = fidelity.memorisation(copies, train, held)['all']
  assert found['ratio'] < 0.01 and found['near_share'] == 1
  fresh = fidelity.memorisation(strangers, train, held[:50])['all']
  assert 0.8 < fresh['ratio'] < 1.25 and fresh['near_share'] < 0.1
  parents = np.stack([np.arange(40), np.full(40, -1)], axis=1)
  found = fidelity.memorisation(copies, train, held, parents)
  assert found['with_parents']['ratio'] < 0.01
  assert found['without_parents']['ratio'] > 0.8
  assert fidelity.flagged([{'without_parents': {'ratio': 0.85}}])
  near = {'with_parents': {'ratio': 0.1}, 'without_parents': {'ratio': 0.95}}
  assert not fidelity.flagged([near])


def test_measures_of_known_beats():
  slow, fast = make_ecgs(4, 1.0), make_ecgs(4, 0.75, seed=1)
  one, two = (fidelity.measure(x, RATE) for x in (slow, fast))
  np.testing.assert_allclose(one['heart_rate'], 60, atol=0.5)
  assert np.all(one['rr_sd_ms'] < 10)
  found = fidelity.compare_measures(one, two)
  assert found['heart_rate'] == pytest.approx(20, abs=0.5)
  assert found['qrs_ms'] < 20
  flat = fidelity.measure(np.zeros((1, 1000, 12)), RATE)
  assert all(np.isnan(values).all() for values in flat.values())
  assert fidelity.compare_measures(one, flat) == {}


def test_spectrum_and_einthoven():
  ecg = make_ecgs(3, 0.8)
  difference = fidelity.log_spectrum(2 * ecg, RATE) - fidelity.log_spectrum(
    ecg, RATE
  )
  np.testing.assert_allclose(difference, 20 * np.log10(2), atol=1e-3)
  assert fidelity.einthoven_uv(ecg) < 1e-9
  ecg[1, 500, 2] += 0.1
  assert fidelity.einthoven_uv(ecg) == pytest.approx(100)


def test_summary_is_complete():
  sets = [
    fidelity.Ecgs(normal(12, seed=s), make_ecgs(12, 0.8, s), np.arange(12))
    for s in range(3)
  ]
  sets[0].ecg[3] = 0  # no beats
  parents = np.stack([np.arange(12), np.arange(12)[::-1]], axis=1)
  found = fidelity.summarise(*sets, RATE, parents)
  json.dumps(found, allow_nan=False)
  assert set(found['memorisation_of_beats']) == {
    'with_parents', 'without_parents'
  }  # fmt: skip
  assert found['measures']['heart_rate'] < 2
  assert found['real']['features'].keys() == found['features'].keys()
