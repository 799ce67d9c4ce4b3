"""Interpolation of ECGs in the latent space of a codec.

z = encode(x), q = quantiser, e = code of z; a and b are of one class and of two
patients, b aligned with a (`generation.align`), lambda is the weight of a:

  A  q(lambda z_a + (1 - lambda) z_b), the default: always valid codes
  B  lambda e_a + (1 - lambda) e_b: no codes, for ablation only
  C  q(lambda e_a + (1 - lambda) e_b)
  D  blocks of tokens of a, the others of b
  E  one cut between two beats: a before it, b behind
  F  A with b among the nearest neighbours of a (SMOTE in latent space)
  G  A with lambda beyond [0, 1]; only behind the plausibility filter

Residual codecs mix the continuous z and code it again by all stages; bounded
scalars (FSQ) are mixed before they are rounded. The functions on codes are pure
and take the array functions of `models.codec.Codec`; what is drawn comes from a
NumPy generator, so that it depends on no device.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from ecgjax.generation import align

OPERATORS = ('A', 'B', 'C', 'D', 'E', 'F', 'G')
LAWS = {
  # of lambda: (generator, number) -> [number]
  'near': lambda rng, n: rng.beta(0.4, 0.4, n),  # one of the parents
  'middle': lambda rng, n: rng.beta(2.0, 2.0, n),
  'half': lambda rng, n: np.full(n, 0.5),  # where ghost beats are strongest
  'uniform': lambda rng, n: rng.uniform(0.0, 1.0, n),
  'beyond': lambda rng, n: rng.uniform(-0.2, 1.2, n),
}
DEFAULT_LAW = {'F': 'uniform', 'G': 'beyond'}  # others: near
BLOCK = (4, 16)  # tokens, of operator D


def mix(operator: str, quantise: Callable, lookup: Callable, z_a, z_b, weight):
  """Applies an operator to a batch.

  Args:
    operator: one of `OPERATORS`.
    quantise: z [B, T, D] -> indices [B, T, Q].
    lookup: indices -> codes [B, T, D].
    z_a, z_b: [B, T, D].
    weight: [B, T], lambda of each token; 0 or 1 for D and E.

  Returns:
    z_q [B, T, D] to decode, and indices [B, T, Q] (of B: the nearest codes).
  """
  weight = weight[..., None]
  blend = lambda a, b: weight * a + (1 - weight) * b
  if operator in ('A', 'F', 'G'):
    indices = quantise(blend(z_a, z_b))
    return lookup(indices), indices
  a, b = quantise(z_a), quantise(z_b)
  if operator in ('D', 'E'):
    indices = jnp.where(weight > 0.5, a, b)
    return lookup(indices), indices
  codes = blend(lookup(a), lookup(b))
  indices = quantise(codes)
  return (codes if operator == 'B' else lookup(indices)), indices


def changed_share(indices, parent_a, parent_b):
  """Share of indices that differ from a parent's, of the nearer parent.

  Args:
    indices, parent_a, parent_b: [B, T, Q].

  Returns:
    [B].
  """
  share = lambda other: (indices != other).mean(axis=(1, 2))
  return jnp.minimum(share(parent_a), share(parent_b))


def block_weights(rng, weight: np.ndarray, tokens: int) -> np.ndarray:
  """Weights of operator D: each block is a's with probability lambda.

  Args:
    rng: NumPy generator.
    weight: [B] lambda.
    tokens: T.

  Returns:
    [B, T] float32 in {0, 1}.
  """
  low, high = BLOCK
  sizes = rng.integers(low, high + 1, (len(weight), -(-tokens // low)))
  ends = np.cumsum(sizes, axis=1)  # [B, blocks]
  block = (np.arange(tokens)[None, :, None] >= ends[:, None]).sum(axis=2)
  ours = rng.uniform(size=sizes.shape) < weight[:, None]
  return np.take_along_axis(ours, block, axis=1).astype(np.float32)


def splice_weights(
  rng, peaks: np.ndarray, count: np.ndarray, tokens: int, length: int
) -> np.ndarray:
  """Weights of operator E: 1 up to a cut between two beats of a, then 0.

  Args:
    rng: NumPy generator.
    peaks: [B, P] R times of a, samples.
    count: [B] their numbers, at least 2.
    tokens: T.
    length: samples of the record.

  Returns:
    [B, T] float32 in {0, 1}.
  """
  beat = rng.integers(0, count - 1)[:, None]
  at = lambda index: np.take_along_axis(peaks, index, axis=1)
  cut = at(beat) + align.DIASTOLE * (at(beat + 1) - at(beat))  # [B, 1] samples
  end = (np.arange(tokens) + 0.5) * (length / tokens)
  return (end < cut).astype(np.float32)


def token_weights(
  operator: str, rng, weight, peaks, count, tokens: int, length: int
) -> np.ndarray:
  """Lambda of each token, [B, T] float32; arguments as in the two above."""
  if operator == 'D':
    return block_weights(rng, weight, tokens)
  if operator == 'E':
    return splice_weights(rng, peaks, count, tokens, length)
  return np.repeat(weight[:, None], tokens, axis=1).astype(np.float32)


def draw_weight(rng, law: str, operator: str, number: int) -> np.ndarray:
  """Lambda of `number` children, [B].

  Args:
    rng: NumPy generator.
    law: one of `LAWS`; '' for that of the operator.
    operator: see the module.
    number: B.
  """
  return LAWS[law or DEFAULT_LAW.get(operator, 'near')](rng, number)
