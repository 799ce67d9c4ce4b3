"""Loss functions; every one of them sees the global batch.

Functions that take `axis_name` give the same value on every device of a
`jax.pmap`, and `pmean` of their gradients is the gradient of that value
(`psum` would be D times too large).
"""

import jax
import jax.numpy as jnp

from ecgjax.runtime import collectives
from ecgjax.runtime.shapes import Array, Float, Shaped


def cosine_distance(
  u: Float[Array, '... D'], w: Float[Array, '... D'], eps: float = 1e-12
) -> Float[Array, '...']:
  """d(u, w) = 2 - 2 <u, w> / (|u| |w|), the squared distance on the sphere.

  Args:
    u: [..., D].
    w: [..., D].
    eps: added to the squared norms, so that zero vectors have a gradient.

  Returns:
    [...] in [0, 4]. BYOL (Grill et al. 2020), eq. 2.
  """
  norms = jnp.sqrt((jnp.sum(u**2, -1) + eps) * (jnp.sum(w**2, -1) + eps))
  return 2 - 2 * jnp.sum(u * w, -1) / norms


def constant_distance(
  w: Float[Array, 'B D'], axis_name: str | None = None
) -> Float[Array, '']:
  """Mean `cosine_distance` of the rows to the best constant prediction.

  Args:
    w: [B, D] rows of this device.
    axis_name: mapped axis, or None.

  Returns:
    Scalar in [0, 2]: 0 where all rows are one direction. Predictions that are
    worth anything are nearer.
  """
  unit = w / jnp.sqrt(jnp.sum(w**2, -1, keepdims=True) + 1e-12)
  mean = collectives.pmean(jnp.mean(unit, axis=0), axis_name)
  return 2 - 2 * jnp.linalg.norm(mean)


def standardise(
  h: Float[Array, 'B D'], axis_name: str | None = None, eps: float = 1e-5
) -> Float[Array, 'B D']:
  """Batch normalisation without scale and shift, over the global batch.

  Args:
    h: [B, D].
    axis_name: mapped axis, or None.
    eps: added to the (biased) variance.

  Returns:
    [B, D].
  """
  mean = collectives.pmean(jnp.mean(h, axis=0), axis_name)
  centred = h - mean
  variance = collectives.pmean(jnp.mean(centred**2, axis=0), axis_name)
  return centred / jnp.sqrt(variance + eps)


def decorrelation_loss(
  h: Float[Array, 'B D'],
  *,
  axis_name: str | None = None,
  off_diagonal_weight: float = 0.0051,
  divisor: int | None = None,
  on_diagonal: bool = False,
) -> Float[Array, '']:
  """Squared off-diagonal entries of the auto-correlation of `h`.

  C = Hn^T Hn / n with Hn the standardised rows of the global batch; the loss
  is w * sum_{i != j} C_ij^2, plus sum_i (C_ii - 1)^2 if `on_diagonal` (which
  has no gradient when n is the divisor: C_ii = var / (var + eps)). LCD (Liu et
  al. 2025); the same criterion as Barlow Twins (Zbontar et al. 2021) on one
  matrix with itself.

  The sum of C_ij^2 is taken from the n x n Gram matrix, which has the same
  Frobenius norm and is the smaller one for n < D.

  Args:
    h: [B, D] rows of this device.
    axis_name: mapped axis, or None.
    off_diagonal_weight: w.
    divisor: replaces n where C is divided; None divides by the number of rows
      of the global batch.
    on_diagonal: adds the on-diagonal term.

  Returns:
    Scalar.
  """
  rows = standardise(h, axis_name)
  everything = collectives.all_gather(rows, axis_name)  # [n, D]
  divisor = divisor or everything.shape[0]
  gram = rows @ everything.T  # [B, n]
  total = collectives.psum(jnp.sum(gram**2), axis_name) / divisor**2
  diagonal = collectives.psum(jnp.sum(rows**2, axis=0), axis_name) / divisor
  loss = off_diagonal_weight * (total - jnp.sum(diagonal**2))
  if on_diagonal:
    loss += jnp.sum((diagonal - 1) ** 2)
  return loss


def classification_loss(
  logits: Float[Array, 'B K'],
  label: Shaped[Array, 'B K'],
  mask: Shaped[Array, 'B K'],
  *,
  single_label: bool = False,
  class_weights=(),
  label_smoothing: float = 0.0,
  axis_name: str | None = None,
) -> Float[Array, '']:
  """Cross-entropy, averaged over the annotated entries of the global batch.

  Args:
    logits: [B, K].
    label: [B, K] in [0, 1].
    mask: [B, K], 0 where a class is not annotated or the row is padding.
    single_label: softmax over the classes instead of a sigmoid for each; a row
      counts if all its classes are annotated.
    class_weights: K weights of the positive term (of the whole row if
      `single_label`), or ().
    label_smoothing: s; targets become (1 - s) y + s / 2, or s / K if
      `single_label`.
    axis_name: mapped axis, or None.

  Returns:
    Scalar; 0 if nothing is annotated.
  """
  weights = jnp.asarray(class_weights or (1.0,) * label.shape[-1])
  classes = label.shape[-1] if single_label else 2
  target = (1 - label_smoothing) * label + label_smoothing / classes
  if single_label:
    mask = jnp.min(mask, axis=-1)
    row_weight = jnp.sum(label * weights, axis=-1)
    terms = -jnp.sum(target * jax.nn.log_softmax(logits), -1) * row_weight
  else:
    positive = weights * target * jax.nn.log_sigmoid(logits)
    terms = -(positive + (1 - target) * jax.nn.log_sigmoid(-logits))
  total = collectives.psum(jnp.sum(terms * mask), axis_name)
  count = collectives.psum(jnp.sum(mask), axis_name)
  return total / jnp.maximum(count, 1)


def embedding_health(
  h: Float[Array, 'B D'], axis_name: str | None = None
) -> dict[str, Float[Array, '']]:
  """Measures whether a batch of embeddings has collapsed.

  Args:
    h: [B, D].
    axis_name: mapped axis, or None.

  Returns:
    `embedding_std`: sqrt(D) times the standard deviation of the normalised
    embeddings, averaged over dimensions (1: spread over the sphere, 0:
    collapsed to a point), and `effective_rank`: (tr S)^2 / tr(S^2) of their
    covariance S (1: a line, D: isotropic).
  """
  h = jax.lax.stop_gradient(h)
  unit = h / jnp.sqrt(jnp.sum(h**2, -1, keepdims=True) + 1e-12)
  mean = collectives.pmean(jnp.mean(unit, axis=0), axis_name)
  centred = unit - mean
  everything = collectives.all_gather(centred, axis_name)  # [n, D]
  variance = jnp.mean(everything**2, axis=0)
  gram = everything @ everything.T / everything.shape[0]
  return {
    'embedding_std': jnp.mean(jnp.sqrt(variance)) * jnp.sqrt(h.shape[-1]),
    'effective_rank': jnp.sum(variance) ** 2
    / jnp.maximum(jnp.sum(gram**2), 1e-30),
  }
