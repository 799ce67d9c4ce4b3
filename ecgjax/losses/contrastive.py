"""Contrastive losses over the patients of the global batch.

Rows are views of ECGs with a patient id. Every function gathers the rows of
all devices and gives the same value on each of them, so that `pmean` of the
gradients is the gradient of that value. Who is whose positive
or negative follows from the equality of patient ids and never from positions;
a position only says which gathered row a row itself is.

Equations and sources: docs/methods.md, Patient contrast.
"""

import jax
import jax.numpy as jnp

from ecgjax.runtime import collectives
from ecgjax.runtime.shapes import Array, Bool, Float, Int, Shaped

EPS = 1e-12  # added to squared norms, so that zero vectors have a gradient
_NOTHING = -1e30  # log of an empty sum; finite, so that gradients are


def unit(z: Float[Array, '*B D']) -> Float[Array, '*B D']:
  """Scales rows of [..., D] to length 1; zero rows stay zero."""
  z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
  return z / jnp.sqrt(jnp.sum(z**2, axis=-1, keepdims=True) + EPS)


def similarity(
  a: Float[Array, 'A D'], b: Float[Array, 'B D']
) -> Float[Array, 'A B']:
  """Cosine similarity [A, B] of the rows of two [., D] arrays of unit rows."""
  return jnp.matmul(a, b.T, precision='highest')


def relations(
  patient: Int[Array, ' B'],
  valid: Shaped[Array, ' B'] | None = None,
  axis_name: str | None = None,
) -> tuple[Bool[Array, 'B N'], Bool[Array, 'B N']]:
  """Tells which rows of the global batch are positives and negatives.

  Args:
    patient: [B] ids of this device's rows.
    valid: [B], 0 for rows that are padding; None: all count.
    axis_name: mapped axis, or None.

  Returns:
    positive and negative, both bool [B, n] over the n rows of the global
    batch. Nothing is its own positive; padding is neither.
  """
  rows = patient.shape[0]
  valid = jnp.ones(rows) if valid is None else valid
  everyone = collectives.all_gather(patient, axis_name)
  counts = collectives.all_gather(valid, axis_name) > 0
  same = patient[:, None] == everyone
  both = (valid > 0)[:, None] & counts
  me = collectives.global_row(rows, axis_name)[:, None]
  itself = me == jnp.arange(everyone.shape[0])
  return same & both & ~itself, ~same & both


def lpc_loss(
  z: Float[Array, 'B D'],
  patient: Int[Array, ' B'],
  *,
  tau: float | jax.Array = 0.1,
  anchor_weight: Float[Array, ' B'] | None = None,
  pair_weight: Float[Array, 'B N'] | None = None,
  valid: Shaped[Array, ' B'] | None = None,
  queue: dict | None = None,
  axis_name: str | None = None,
) -> Float[Array, '']:
  """Longitudinal patient contrast: all ECGs of a patient attract each other.

  L = -1 / sum_v w_v  sum_v w_v / sum_u w_vu  sum_u w_vu
      log [ E(v, u) / (E(v, u) + sum_{w in Neg(v)} E(v, w)) ]

  with E(v, u) = e^{cos(v, u) / tau}, over anchors v with a positive, their
  positives u (the other rows of the patient) and negatives Neg(v) (rows of
  other patients). Other positives of v are not in the denominator. With two
  rows per patient this is half of PCLR's loss (Diamant et al. 2022), and with
  two augmented copies of N records it is NT-Xent (SimCLR, Chen et al. 2020).

  Args:
    z: [B, D] embeddings of this device's rows, any length.
    patient: [B] int32.
    tau: temperature.
    anchor_weight: [B] w_v >= 0, or None for 1.
    pair_weight: [B, n] w_vu > 0 over the global batch, or None for 1.
    valid: [B], 0 for padding rows; None: all count.
    queue: further negatives, without gradient: `embedding` [Q, D] of unit
      length and `patient` [Q], -1 where nothing is. Entries of the anchor's
      own patient are ignored.
    axis_name: mapped axis, or None.

  Returns:
    Scalar; 0 if no anchor has a positive.
  """
  z = unit(z)
  positive, negative = relations(patient, valid, axis_name)
  logits = similarity(z, collectives.all_gather(z, axis_name)) / tau  # [B, n]
  others = jnp.where(negative, logits, _NOTHING)
  if queue is not None:
    past = similarity(z, jax.lax.stop_gradient(queue['embedding'])) / tau
    theirs = queue['patient']
    foreign = (patient[:, None] != theirs) & (theirs >= 0)
    others = jnp.concatenate([others, jnp.where(foreign, past, _NOTHING)], 1)
  denominator = jax.nn.logsumexp(others, axis=1, keepdims=True)  # [B, 1]
  terms = jax.nn.softplus(denominator - logits)  # [B, n]
  weight = positive.astype(terms.dtype)
  if pair_weight is not None:
    weight *= pair_weight
  total = jnp.sum(weight, axis=1)
  anchor = (total > 0).astype(terms.dtype)
  if anchor_weight is not None:
    anchor *= anchor_weight
  mean = jnp.sum(weight * terms, axis=1) / jnp.where(total > 0, total, 1)
  numerator = collectives.psum(jnp.sum(anchor * mean), axis_name)
  norm = collectives.psum(jnp.sum(anchor), axis_name)
  return numerator / jnp.where(norm > 0, norm, 1)


def clocs_loss(
  views: Float[Array, 'B V D'],
  patient: Int[Array, ' B'],
  *,
  tau: float | jax.Array = 0.1,
  axis_name: str | None = None,
) -> Float[Array, '']:
  """CLOCS (Kiyasseh et al. 2021): view v of a row attracts its other views.

  For a pair of views A, B with M_ij = e^{s(a_i, b_j) / tau}:

  L_AB = 1/T [ - mean_i log M_ii / sum_j M_ij - mean_i log M_ii / sum_j M_ji
               - mean_{j > i} log M_ij / sum_k M_ik
               - mean_{j < i} log M_ij / sum_k M_kj ]

  where the last two means are over pairs of rows of the same patient and T is
  the number of means that have a term. The mean over ALL pairs of views is
  returned; the public code keeps the last pair only.

  Args:
    views: [B, V, D] embeddings, V >= 2 views of each row.
    patient: [B] int32.
    tau: temperature.
    axis_name: mapped axis, or None.

  Returns:
    Scalar.
  """
  rows, num_views, _ = views.shape
  z = unit(views)
  everything = collectives.all_gather(z, axis_name)  # [n, V, D]
  num_rows = everything.shape[0]
  me = collectives.global_row(rows, axis_name)[:, None]  # [B, 1]
  other = jnp.arange(num_rows)  # [n]
  same = patient[:, None] == collectives.all_gather(patient, axis_name)
  itself, later = me == other, same & (other > me)

  def mean_log(a, b, chosen):
    """-mean log M_ij / sum_k M_ik over the chosen (i, j), and their number."""
    logits = similarity(z[:, a], everything[:, b]) / tau  # [B, n]
    log = jax.nn.log_softmax(logits, axis=1)
    total = collectives.psum(jnp.sum(jnp.where(chosen, log, 0)), axis_name)
    count = collectives.psum(jnp.sum(chosen), axis_name)
    return -total / jnp.maximum(count, 1), count > 0

  losses = []
  for a in range(num_views):
    for b in range(a + 1, num_views):
      # Column sums of M are row sums of its transpose, so that every device
      # needs its own rows only; (i, j) with j < i are (j, i) with i > j.
      terms, present = zip(
        mean_log(a, b, itself),
        mean_log(b, a, itself),
        mean_log(a, b, later),
        mean_log(b, a, later),
      )
      losses.append(sum(terms) / sum(p.astype(z.dtype) for p in present))
  return sum(losses) / len(losses)


def retrieval_metrics(
  z: Float[Array, 'B D'],
  patient: Int[Array, ' B'],
  valid: Shaped[Array, ' B'] | None = None,
  axis_name: str | None = None,
) -> dict[str, Float[Array, '']]:
  """Measures how well positives stand out in the batch (no gradient).

  Args:
    z: [B, D] embeddings.
    patient: [B] int32.
    valid: [B], 0 for padding rows; None: all count.
    axis_name: mapped axis, or None.

  Returns:
    `positive_similarity` and `negative_similarity`, mean cosines over all
    pairs, and `batch_recall`: share of the rows with a positive whose nearest
    other row is one.
  """
  z = unit(jax.lax.stop_gradient(z))
  positive, negative = relations(patient, valid, axis_name)
  cosine = similarity(z, collectives.all_gather(z, axis_name))  # [B, n]
  best = lambda mask: jnp.max(jnp.where(mask, cosine, -2.0), axis=1)
  anchor = jnp.any(positive, axis=1)
  hit = anchor & (best(positive) > best(negative))

  def share(values, mask):
    total = collectives.psum(jnp.sum(jnp.where(mask, values, 0)), axis_name)
    count = collectives.psum(jnp.sum(mask), axis_name)
    return total / jnp.maximum(count, 1)

  return {
    'positive_similarity': share(cosine, positive),
    'negative_similarity': share(cosine, negative),
    'batch_recall': share(hit.astype(z.dtype), anchor),
  }
