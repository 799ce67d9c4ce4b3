import numpy as np
import pytest

from ecgjax.ecg import leads


def test_canonical_spelling():
  assert leads.canonical('AVR') == 'aVR'
  assert leads.canonical(' v1') == 'V1'
  assert leads.canonical('iii') == 'III'


@pytest.mark.parametrize('name', ['V7', '', 'MLII', 'aV'])
def test_unknown_lead(name):
  with pytest.raises(ValueError, match='not a standard lead'):
    leads.canonical(name)


def test_indices_follow_names():
  assert leads.indices(('V6', 'I')) == (11, 0)
  with pytest.raises(ValueError, match='duplicate lead'):
    leads.indices(('II', 'ii'))


def test_derived_leads_obey_einthoven_and_goldberger():
  eight = np.random.default_rng(0).normal(size=(5, 8))
  twelve = leads.from_independent(np, eight)
  named = dict(zip(leads.LEADS, twelve.T))
  np.testing.assert_allclose(named['II'], named['I'] + named['III'])
  np.testing.assert_allclose(
    named['aVR'] + named['aVL'] + named['aVF'], 0, atol=1e-12
  )
  np.testing.assert_array_equal(named['V6'], eight[:, 7])
  assert leads.limb_residual(np, twelve).max() < 1e-12
  swapped = twelve[:, [1, 0, *range(2, 12)]]
  assert leads.limb_residual(np, swapped).max() > 0.1
