"""One way from ECGs in memory to what a model says of them."""

import jax
import numpy as np
import pytest

from ecgjax import model as model_lib
from ecgjax.data.batches.from_recording import make_batch
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.methods.method import Method

CONTRACT = InputContract(100.0, 50, ('V1', 'II'), normalisation='none')


def make_model(contract=CONTRACT, per_lead=False):
  """Features are each lead's mean and largest sample, times a weight."""

  def predict(params, model_state, batch):
    ecg = batch['ecg'] * params
    seen = jax.numpy.stack([ecg.mean(axis=1), ecg.max(axis=1)], axis=-1)
    return {'features': seen.reshape(len(ecg), -1)}

  method = Method(None, None, predict, per_lead=per_lead)
  return model_lib.Model(method, contract, 2.0, {})


def ecgs(count, length=50, seed=0):
  return np.random.default_rng(seed).normal(size=(count, length, 12)) + 1


def test_features_are_of_the_contracts_leads_and_first_samples():
  ecg = ecgs(300, length=70)  # more than a batch
  found = model_lib.features(make_model(), ecg, 100, leads.LEADS)
  chosen = 2 * ecg[:, :50, [leads.LEADS.index(x) for x in ('V1', 'II')]]
  wanted = np.stack([chosen.mean(axis=1), chosen.max(axis=1)], axis=-1)
  np.testing.assert_allclose(found, wanted.reshape(300, -1), rtol=1e-5)
  reordered = ecg[..., [1, 6]]
  again = model_lib.features(make_model(), reordered, 100, ('ii', 'v1'))
  np.testing.assert_array_equal(again, found)


def test_what_was_not_recorded_does_not_count():
  contract = InputContract(100.0, 50, ('II',), normalisation='lead')
  batch = make_batch(ecgs(3, length=30), 100, leads.LEADS, contract)
  assert batch['ecg'].shape == (3, 50, 1) and not batch['ecg'][:, 30:].any()
  np.testing.assert_array_equal(batch['valid_len'], [30] * 3)
  # Standardised over 30 samples: zero mean of these, and of the flat rest.
  found = model_lib.features(
    make_model(contract), ecgs(3, length=30), 100, leads.LEADS
  )
  np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)


def test_another_rate_is_resampled():
  time = np.arange(200)[:, None] / 400
  slow = np.sin(2 * np.pi * 5 * time) * np.ones(12)
  batch = make_batch(slow[None], 400, leads.LEADS, CONTRACT)
  np.testing.assert_allclose(
    batch['ecg'][0, 5:45, 0], slow[20:180:4, 0], atol=0.02
  )


def test_some_leads_only_where_features_are_by_lead():
  """They are normalised together, without the others."""
  contract = InputContract(100.0, 50, ('I', 'V1', 'II'))
  model = make_model(contract, per_lead=True)
  ecg = ecgs(4).astype(np.float32)[..., [0, 6, 1]]
  found = model_lib.outputs(model, {'ecg': ecg[..., [0, 2]]}, ('I', 'II'))
  two = InputContract(100.0, 50, ('I', 'II'))
  alone = model_lib.outputs(make_model(two), {'ecg': ecg[..., [0, 2]]})
  np.testing.assert_allclose(found['features'], alone['features'], rtol=1e-5)
  with pytest.raises(ValueError, match='needs I, V1, II; II will not do'):
    model_lib.outputs(make_model(contract), {'ecg': ecg[..., :1]}, ('II',))


@pytest.mark.parametrize(
  ('ecg', 'names', 'message'),
  [
    (ecgs(2)[..., :1], ('II',), 'ecg has no lead V1; the model needs V1, II'),
    (ecgs(2)[0], leads.LEADS, 'shape .50, 12.; expected .ECGs, samples, lead'),
    (ecgs(2), leads.LEADS[:8], 'with the 8 leads I, II'),
    (ecgs(2) * np.nan, leads.LEADS, 'samples that are not finite'),
  ],
)
def test_what_cannot_be_used_is_refused(ecg, names, message):
  with pytest.raises(ValueError, match=message):
    model_lib.features(make_model(), ecg, 100, names)
