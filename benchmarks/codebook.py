"""Codebook statistics: scatter-add against the usual one-hot products.

  python -m benchmarks.codebook

Tokens of one step are counted and summed per code (the EMA update), and codes
are looked up; both ways give the same figures. 65,536 tokens, 1,024 codes of 64
numbers; medians of interleaved rounds, and the same by CPU time.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from ecgjax.models import codebook, codebook_update

TOKENS, CODES, DIM = 65_536, 1_024, 64


def one_hot_stats(z, indices, mask):
  """Number and sum of the tokens of each code as matrix products."""
  hot = jax.nn.one_hot(indices, CODES, dtype=z.dtype) * mask[:, None]
  add = lambda x: jnp.matmul(hot.T, x, precision='highest')
  return add(mask), add(z)


def measure(options: timing.Options) -> list[timing.Row]:
  rng = np.random.default_rng(0)
  z = jnp.asarray(rng.normal(size=(TOKENS, DIM)), jnp.float32)
  embed = jnp.asarray(rng.normal(size=(CODES, DIM)), jnp.float32)
  indices = jax.jit(codebook.vq_assign)(embed, z)
  mask = jnp.ones(TOKENS)
  scatter = jax.jit(
    lambda z, i, mask: codebook_update.vq_stats(z, i, CODES, mask)
  )
  products = jax.jit(one_hot_stats)
  look_up = jax.jit(codebook.vq_lookup)
  by_product = jax.jit(lambda embed, i: jax.nn.one_hot(i, CODES) @ embed)
  both = (run(z, indices, mask) for run in (scatter, products))
  for a, b in zip(*both):
    np.testing.assert_allclose(a, b, atol=1e-2)
  tasks = {
    'statistics, scatter-add': lambda: scatter(z, indices, mask),
    'statistics, one-hot': lambda: products(z, indices, mask),
    'lookup, gather': lambda: look_up(embed, indices),
    'lookup, one-hot': lambda: by_product(embed, indices),
  }
  times = timing.medians(
    {
      name: lambda task=task: jax.block_until_ready(task())
      for name, task in tasks.items()
    },
    options.rounds,
  )
  for name, taken in times.items():
    print(f'{name}: {1e3 * taken.wall:.2f} ms, CPU {1e3 * taken.cpu:.2f} ms')
  names = list(times)
  ratio = lambda fast, slow: f'{times[slow].wall / times[fast].wall:.0f}'
  size = f'{TOKENS} tokens, {CODES} codes of {DIM}'
  return [
    timing.Row(
      f'VQ statistics, one-hot / scatter-add, {size}',
      ratio(*names[:2]),
      '20',
      '200',
    ),
    timing.Row('VQ lookup, one-hot / gather', ratio(*names[2:])),
  ]


if __name__ == '__main__':
  timing.run(measure, __doc__)
