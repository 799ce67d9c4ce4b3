import dataclasses

import numpy as np
import pytest

from ecgjax.ecg import contract as contract_lib

CONTRACT = contract_lib.InputContract(100.0, 50, ('II', 'V1', 'V2'))


def stored_batch(seed=0):
  rng = np.random.default_rng(seed)
  return {
    'ecg': rng.integers(-3000, 3000, (4, 50, 3)).astype(np.int16),
    'gain': rng.uniform(100, 2000, (4, 3)).astype(np.float32),
    'baseline': rng.integers(-50, 50, (4, 3)).astype(np.float32),
    'valid_start': np.zeros(4, np.int32),
    'valid_len': np.array([50, 50, 30, 1], np.int32),
    'record': np.arange(4, dtype=np.int32),
  }


@pytest.mark.parametrize('mode', contract_lib.NORMALISATIONS)
def test_matches_numpy(mode):
  batch = stored_batch()
  contract = dataclasses.replace(CONTRACT, normalisation=mode)
  found = np.asarray(contract_lib.to_model_input(batch, contract)['ecg'])
  for row in range(4):
    valid = batch['valid_len'][row]
    raw = batch['ecg'][row, :valid].astype(np.float64)
    signal = (raw - batch['baseline'][row]) / batch['gain'][row]
    if mode == 'record':
      signal = (signal - signal.mean()) / (signal.std() + 1e-5)
    elif mode == 'record_centred':
      signal = signal - signal.mean(0)
      signal = signal / (signal.std() + 1e-5)
    elif mode == 'lead':
      signal = (signal - signal.mean(0)) / (signal.std(0) + 1e-5)
    np.testing.assert_allclose(found[row, :valid], signal, atol=2e-4)
    assert not found[row, valid:].any()


def test_an_offset_of_one_lead_changes_no_lead():
  """5 mV on V2: with one mean over all leads, lead II shrinks to a tenth."""
  rng = np.random.default_rng(1)
  ecg = rng.normal(0, 0.2, (1, 50, 3)).astype(np.float32)
  there = ecg + np.float32([0, 0, 5])
  span = {}
  for mode in ('record_centred', 'record'):
    contract = dataclasses.replace(CONTRACT, normalisation=mode)
    before, after = (
      np.asarray(contract_lib.to_model_input({'ecg': x}, contract)['ecg'])
      for x in (ecg, there)
    )
    span[mode] = np.ptp(after[0, :, 0]) / np.ptp(before[0, :, 0])
    if mode == 'record_centred':
      np.testing.assert_allclose(after, before, atol=1e-4)
  assert span['record_centred'] == pytest.approx(1, abs=1e-4)
  assert span['record'] < 0.1
  assert CONTRACT.normalisation == 'record_centred'


def test_a_checkpoint_keeps_its_mode():
  fields = CONTRACT.to_json() | {'normalisation': 'record'}
  assert contract_lib.InputContract.from_json(fields).normalisation == 'record'


def test_keeps_other_fields_and_drops_storage():
  found = contract_lib.to_model_input(stored_batch(), CONTRACT)
  assert set(found) == {'ecg', 'record'}


def test_millivolts_without_storage_fields():
  ecg = np.random.default_rng(0).normal(3, 2, (2, 50, 3))
  found = contract_lib.to_model_input({'ecg': ecg}, CONTRACT)['ecg']
  np.testing.assert_allclose(np.mean(found, axis=(1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(np.std(found, axis=(1, 2)), 1, atol=1e-4)


def test_wrong_shape_is_refused():
  with pytest.raises(ValueError, match='input contract'):
    contract_lib.to_model_input({'ecg': np.zeros((2, 50, 4))}, CONTRACT)


def test_round_trip_and_checks():
  assert contract_lib.InputContract.from_json(CONTRACT.to_json()) == CONTRACT
  with pytest.raises(ValueError, match='normalisation'):
    dataclasses.replace(CONTRACT, normalisation='zscore')
  with pytest.raises(ValueError, match='not a standard lead'):
    dataclasses.replace(CONTRACT, leads=('II', 'X'))
