"""Rotation of the vectorcardiogram (3KG)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.ecg import leads as leads_lib
from ecgjax.ecg import vcg
from ecgjax.ecg.vcg import DOWER


@pytest.mark.parametrize('leads', [leads_lib.LEADS, leads_lib.LCD_LEADS])
def test_no_rotation_is_the_reconstruction(leads):
  """0 degrees, factor 1: the leads of the vector of the independent leads."""
  rng = np.random.default_rng(0)
  ecg = leads_lib.from_independent(np, rng.normal(size=(50, 8)))  # [50, 12]
  independent = ecg[:, leads_lib.indices(leads_lib.INDEPENDENT_LEADS)]
  vector = independent @ np.linalg.pinv(DOWER.astype(float)).T
  expected = leads_lib.from_independent(np, vector @ DOWER.T)
  rotate = vcg.make_rotate_heart(leads, max_degrees=0.0, max_scale=1.0)
  columns = leads_lib.indices(leads)
  found = rotate(jax.random.key(0), jnp.float32(ecg[:, columns]))
  np.testing.assert_allclose(found, expected[:, columns], atol=1e-5)


def test_rotation_matrix():
  """Right-handed and of the right sense: Z turns X to Y."""
  angles = jnp.float32([0.3, -0.7, 1.1])
  matrix = vcg.rotation(angles)
  np.testing.assert_allclose(np.linalg.det(matrix), 1, rtol=1e-6)
  np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
  quarter = vcg.rotation(jnp.float32([0, 0, np.pi / 2]))
  np.testing.assert_allclose(quarter @ jnp.eye(3)[0], [0, 1, 0], atol=1e-6)


def test_rotation_changes_and_stays_a_vector():
  rng = np.random.default_rng(1)
  vector = rng.normal(size=(50, 3))
  ecg = leads_lib.from_independent(np, vector @ DOWER.T)
  rotate = vcg.make_rotate_heart(leads_lib.LEADS)
  found = np.asarray(rotate(jax.random.key(3), jnp.float32(ecg)), float)
  assert np.abs(found - ecg).max() > 0.3
  to_vector, to_leads = vcg.lead_matrices(leads_lib.LEADS)
  np.testing.assert_allclose(found @ to_vector @ to_leads, found, atol=1e-4)
  # 45 degrees about each axis and a factor of at most 1.5: no sample shrinks.
  lengths = np.linalg.norm(found @ to_vector, axis=1)
  ratio = lengths / np.linalg.norm(vector, axis=1)
  assert ratio.min() > 0.999 and ratio.max() < 1.501
