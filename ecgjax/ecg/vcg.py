"""Rotating the heart: augmentation in the space of the vectorcardiogram.

3KG (Gopal et al. 2021): twelve leads to the vectorcardiogram by the inverse
Dower matrix, a random rotation and scaling there, and back. What is not in
the vector (about a tenth of the signal) is lost on the way, or kept where that
is asked for. The paper's ranges (at most 45 degrees and a factor of 1.5) are
the default; that angles and factors are drawn per axis is our choice.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.leads import from_independent, indices
from ecgjax.runtime.shapes import Array, Float


def lead_matrices(leads: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns matrices [C, 3] and [3, C] from leads to the vector and back.

  Args:
    leads: names of C leads that determine all twelve: V1-V6 and two limb leads.

  Raises:
    ValueError: if they do not.
  """
  independent = from_independent(np, np.eye(8))  # [8, 12]
  independent = independent[:, indices(leads)]  # [8, C]
  if np.linalg.matrix_rank(independent) < 8:
    raise ValueError(
      f'leads {", ".join(leads)} do not determine the vectorcardiogram; V1 to '
      'V6 and two limb leads are needed'
    )
  dower = DOWER.astype(float)
  to_vector = np.linalg.pinv(independent) @ np.linalg.pinv(dower).T
  return to_vector.astype(np.float32), (dower.T @ independent).astype(
    np.float32
  )


def rotation(angles: Float[Array, ' 3']) -> Float[Array, '3 3']:
  """Rotation matrix [3, 3] from three angles about X, Y and Z, in radians."""
  (cx, cy, cz), (sx, sy, sz) = jnp.cos(angles), jnp.sin(angles)
  one, zero = jnp.ones_like(cx), jnp.zeros_like(cx)
  matrix = lambda *rows: jnp.stack([jnp.stack(row) for row in rows])
  about_x = matrix((one, zero, zero), (zero, cx, -sx), (zero, sx, cx))
  about_y = matrix((cy, zero, sy), (zero, one, zero), (-sy, zero, cy))
  about_z = matrix((cz, -sz, zero), (sz, cz, zero), (zero, zero, one))
  product = lambda a, b: jnp.matmul(a, b, precision='highest')
  return product(about_z, product(about_y, about_x))


def make_rotate_heart(
  leads: Sequence[str],
  max_degrees: float = 45.0,
  max_scale: float = 1.5,
  keep_rest: bool = False,
) -> Callable:
  """Returns the rotation of the module, `(key, ecg [L, C]) -> [L, C]`.

  Args:
    leads: names of the C leads.
    max_degrees: every angle is U(-max_degrees, max_degrees).
    max_scale: every axis is stretched by U(1, max_scale).
    keep_rest: leave what is not in the vector as it is, in place of losing it.

  Raises:
    ValueError: if the leads do not determine the vector.
  """
  to_vector, to_leads = lead_matrices(leads)

  def rotate_heart(key, ecg: Float[Array, 'L C']) -> Float[Array, 'L C']:
    angle_key, scale_key = jax.random.split(key)
    radians = jnp.deg2rad(max_degrees) * jax.random.uniform(
      angle_key, (3,), minval=-1.0
    )
    scale = jax.random.uniform(scale_key, (3, 1), minval=1.0, maxval=max_scale)
    # Column vectors v -> S R v, written for rows.
    change = (scale * rotation(radians)).T
    if keep_rest:
      change = change - jnp.eye(3)
    product = jnp.matmul(
      to_vector,
      jnp.matmul(change, to_leads, precision='highest'),
      precision='highest',
    )
    turned = jnp.matmul(ecg, product, precision='highest')
    return ecg + turned if keep_rest else turned

  return rotate_heart


# Dower's matrix: rows in the order of `leads.INDEPENDENT_LEADS`.
DOWER = np.array(
  [
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
  ],
  np.float32,
)  # [8, 3]
