"""The simulator as a function: purity, exact relations, oracle, gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.ecg import leads
from ecgjax.ecg.vcg import DOWER
from ecgjax.simulator import simulator, tables
from tests.simulator import oracle, simulated

CORE = dict(itertools.islice(tables.FACTORS.items(), tables.EXTRA))
ALLOWED = [
  '+'.join(name for name in choice if name not in ('SR', 'none')) or 'NORM'
  for choice in itertools.product(*CORE.values())
  if choice[0] == 'SR' or not {'PAC', '1AVB'} & set(choice)
]


def test_limb_relations_are_exact_with_noise(noisy_classes):
  i, ii, iii, avr, avl, avf = np.moveaxis(noisy_classes.ecg[..., :6], -1, 0)
  assert (iii == ii - i).all()
  assert (avr == -(i + ii) / 2).all()
  for residual in (avl - (i - iii) / 2, avf - (ii + iii) / 2, avr + avl + avf):
    assert np.abs(residual).max() < 1e-6


def test_finite_and_bounded(noisy_classes):
  assert noisy_classes.ecg.dtype == np.float32
  assert noisy_classes.ecg.shape == (253, 1000, 12)
  assert np.abs(noisy_classes.ecg).max() < 5  # millivolts
  assert np.ptp(noisy_classes.ecg, axis=1).max(axis=1).min() > 0.3


def test_all_180_allowed_combinations_are_finite():
  assert len(ALLOWED) == 180
  records = simulated.simulate(
    ALLOWED, np.arange(180), rate=100, noise=1.0, intra=1.0
  )
  assert np.isfinite(records.ecg).all()
  assert np.abs(records.ecg).max() < 6
  names = simulator.labels(records.truth.factors)
  for row, name in zip(names, ALLOWED):
    found = {simulator.ALL_CLASSES[k] for k in np.flatnonzero(row)}
    assert found == set(name.split('+'))


@pytest.mark.parametrize(
  'names, message',
  [
    (('AF', 'PAC'), 'cannot be combined'),
    (('AFL', '1AVB'), 'cannot be combined'),
    (('LBBB', 'RBBB'), 'exclude each other'),
    (('STE', 'STD'), 'exclude each other'),
    (('NORM', 'MI'), 'not a class'),
    (('LVH', 'AF'), 'cannot be combined'),
    (('VT', 'VF'), 'exclude each other'),
    (('SVT',), 'the classes are NORM, AF'),
  ],
)
def test_forbidden_combinations_raise(names, message):
  with pytest.raises(ValueError, match=message):
    simulator.factors(*names)


@pytest.mark.parametrize(
  'factors, message',
  [
    ([[1, 1, 0, 0, 0, 0, 0]], 'AF and AFL cannot be combined'),
    ([[0, 0, 3, 0, 0, 0, 0]], 'factor conduction must be in 0..2'),
    ([[0, 0, 0, 0, 0, 0]], 'the last axis must hold rhythm'),
    ([[0] * 7] * 2, 'must agree in their first axis'),
  ],
)
def test_batch_refuses_bad_factors(factors, message):
  with pytest.raises(ValueError, match=message):
    simulator.batch(0, [1], [0], factors, simulator.Config())


@pytest.mark.parametrize(
  'fields',
  [{'rate': 99}, {'rate': 1001}, {'length': 0}, {'intra': 1.1}, {'noise': -1}],
)
def test_config_refuses_what_is_out_of_range(fields):
  with pytest.raises(ValueError, match=f'{next(iter(fields))} is'):
    simulator.Config(**fields)


@simulated.compiled_as_by_users()
def test_values_depend_on_neither_order_nor_size(noisy_classes):
  names, patients = noisy_classes.labels, noisy_classes.patients
  order = np.random.default_rng(0).permutation(len(names))
  options = {'rate': 100, 'noise': 1.0, 'intra': 0.5}
  mixed = simulated.simulate(names[order], patients[order], 1, **options)
  np.testing.assert_array_equal(mixed.ecg, noisy_classes.ecg[order])
  config = simulator.Config(100, 1000)  # the defaults: noise 1, intra 0.5
  for rows in (slice(40, 42), slice(40, 41), slice(252, 253)):
    factors = np.stack([simulator.factors(name) for name in names[rows]])
    few, truth = simulator.batch(
      simulated.SEED, patients[rows], [1] * len(factors), factors, config
    )
    np.testing.assert_array_equal(few, noisy_classes.ecg[rows])
    np.testing.assert_array_equal(truth.r, noisy_classes.truth.r[rows])


def test_seed_patient_and_record_matter():
  options = {'rate': 100, 'intra': 0.5}
  first = simulated.simulate(['NORM'] * 3, [5, 5, 6], [0, 1, 0], **options)
  other = simulated.simulate(['NORM'], [5], seed=4, **options)
  again = simulated.simulate(['NORM'], [5], **options)
  ecg = [*first.ecg, other.ecg[0]]
  for a, b in itertools.combinations(ecg, 2):
    assert np.abs(a - b).max() > 0.05
  np.testing.assert_array_equal(again.ecg[0], first.ecg[0])


def test_patients_persist(noisy_classes):
  """PR, territory and flutter rate are the patient's, the rest the day's."""
  patients = np.repeat(np.arange(20), 2)
  names = ['NORM', 'AFL'] * 20
  truth = simulated.simulate(
    names, patients, np.tile([0, 1], 20), rate=100, noise=1.0, intra=1.0
  ).truth
  other = simulated.simulate(['AFL'] * 20, np.arange(20), 2, rate=100).truth
  np.testing.assert_array_equal(truth.rhythm_hz[1::2], other.rhythm_hz)
  np.testing.assert_array_equal(truth.territory[::2], other.territory)
  assert len(set(other.rhythm_hz.tolist())) == 20
  again = simulated.simulate(['NORM'] * 20, np.arange(20), 3, rate=100).truth
  np.testing.assert_allclose(truth.pr[::2], again.pr, atol=1e-6)
  assert (truth.rate[::2] != again.rate).all()


def test_agrees_with_the_float64_oracle(noisy_classes):
  for row in range(0, 253, 17):  # every class once
    record = noisy_classes
    name, patient = record.labels[row], record.patients[row]
    ecg, r = oracle.simulate(
      simulated.SEED, patient, 1, simulator.factors(name), 100, 1000, 1.0, 0.5
    )
    assert np.abs(ecg.T - record.ecg[row]).max() < 5e-4, name
    seen = ~np.isnan(record.truth.r[row])
    np.testing.assert_allclose(record.truth.r[row][seen], r[seen], atol=1e-5)
    assert ((r > 0) & (r < 10) == seen).all()


def test_any_rate_and_length_against_the_oracle():
  """204.8 Hz, 333 samples, combined conditions, mains."""
  names = ['AF+LBBB+STD', 'PAC+1AVB+MI', 'PVC+RBBB+STE+MI', 'AFL+PVC+STE']
  factors = np.stack([simulator.factors(*name.split('+')) for name in names])
  config = simulator.Config(204.8, 333, noise=2.0, intra=1.0)
  ids = np.arange(4)
  ecg, truth = simulator.batch(11, ids, ids, factors, config)
  assert ecg.shape == (4, 333, 12)
  for k in range(4):
    expected, _ = oracle.simulate(11, k, k, factors[k], 204.8, 333, 2.0, 1.0)
    assert np.abs(expected.T - ecg[k]).max() < 5e-4, names[k]
  # A record begins like any other of the same heart, so it has beats.
  assert (~np.isnan(truth.r)).sum(axis=1).min() >= 1


def test_ground_truth_is_that_of_the_batch(noisy_classes):
  names = noisy_classes.labels
  factors = np.stack([simulator.factors(name) for name in names])
  config = simulator.Config(100, 1000)
  truth = simulator.ground_truth(
    simulated.SEED, noisy_classes.patients, np.ones(len(names)), factors, config
  )
  for field, expected in zip(truth, noisy_classes.truth):
    np.testing.assert_allclose(field, expected, rtol=3e-7, atol=2e-6)


def test_three_dimensions_lead_to_eight_leads(slow_classes):
  eight = slow_classes.ecg[..., leads.indices(leads.INDEPENDENT_LEADS)]
  values = np.linalg.svd(eight.astype(float), compute_uv=False)  # [N, 8]
  assert (values[:, 2] > 0.01 * values[:, 0]).all()
  assert (values[:, 3] < 1e-6 * values[:, 0]).all()


def test_inverse_dower_table():
  """Rows over V1-V6, I, II, as printed in the literature."""
  table = np.array([
    [-.172, -.074, .122, .231, .239, .194, .156, -.010],
    [.057, -.019, -.106, -.022, .041, .048, -.227, .887],
    [-.229, -.310, -.246, -.063, .055, .108, .022, .102],
  ])  # fmt: skip
  order = [2, 3, 4, 5, 6, 7, 0, 1]
  inverse = np.linalg.pinv(DOWER.astype(float))[:, order]
  np.testing.assert_allclose(inverse, table, atol=6e-4)


def test_vector_and_gradients():
  """The vector behind the leads, and derivatives by the patient's traits."""
  config = simulator.Config(100, 300, noise=0.0, intra=0.0)
  factors = jnp.asarray(simulator.factors('STE', 'MI'))
  patient_key, key = simulator.record_keys(5, 2, 0)
  patient = simulator.patient_params(patient_key)
  patient = patient._replace(electrodes=jnp.zeros((8, 3)))

  @jax.jit
  def run(traits):
    def energy(traits):
      heart = patient._replace(**traits)
      ecg, _ = simulator.simulate(key, heart, factors, config)
      return (ecg**2).sum(), ecg

    vector = simulator.heart_vector(
      key, patient._replace(**traits), factors, config
    )
    return jax.value_and_grad(energy, has_aux=True)(traits), vector

  names = ('amplitude', 'width', 'heart_rate', 'angles', 'qtf', 'pr')
  traits = {name: getattr(patient, name) for name in names}
  ((_, ecg), gradient), vector = run(traits)
  eight = np.asarray(ecg)[:, leads.indices(leads.INDEPENDENT_LEADS)]
  back = eight @ np.linalg.pinv(DOWER.astype(float)).T
  assert np.abs(vector).max() > 0.3
  np.testing.assert_allclose(back, vector, atol=1e-5)
  for name, value in gradient.items():
    assert np.isfinite(value).all() and (value != 0).all(), name
