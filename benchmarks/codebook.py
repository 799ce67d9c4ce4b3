"""Codebook statistics: scatter-add against the usual one-hot products.

  python -m benchmarks.codebook

Tokens of one step are counted and summed per code (the EMA update), and codes
are looked up; both ways give the same figures. 65,536 tokens, 1,024 codes of 64
numbers; medians of interleaved rounds, and the same by CPU time.
"""

import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.models import codebook, codebook_update

TOKENS, CODES, DIM = 65_536, 1_024, 64
ROUNDS = 5


def measure(tasks: dict) -> dict[str, tuple[float, float]]:
  """Name -> median wall and CPU time of a call, ms."""
  found = {name: [] for name in tasks}
  for task in tasks.values():
    jax.block_until_ready(task())  # compiles
  for _ in range(ROUNDS):
    for name, task in tasks.items():
      wall, cpu = time.perf_counter(), time.process_time()
      jax.block_until_ready(task())
      found[name].append(
        (time.perf_counter() - wall, time.process_time() - cpu)
      )
  return {
    name: tuple(1000 * statistics.median(column) for column in zip(*rows))
    for name, rows in found.items()
  }


def main():
  rng = np.random.default_rng(0)
  z = jnp.asarray(rng.normal(size=(TOKENS, DIM)), jnp.float32)
  embed = jnp.asarray(rng.normal(size=(CODES, DIM)), jnp.float32)
  indices = jax.jit(codebook.vq_assign)(embed, z)
  mask = jnp.ones(TOKENS)
  stats = {
    kind: jax.jit(
      lambda z, i, mask, kind=kind: codebook_update.vq_stats(
        z, i, CODES, mask, kind
      )
    )
    for kind in codebook_update.STATS
  }
  look_up = jax.jit(codebook.vq_lookup)
  by_product = jax.jit(lambda embed, i: jax.nn.one_hot(i, CODES) @ embed)
  for a, b in zip(*(run(z, indices, mask) for run in stats.values())):
    np.testing.assert_allclose(a, b, atol=1e-2)
  times = measure({
    'statistics, scatter-add': lambda: stats['segment'](z, indices, mask),
    'statistics, one-hot': lambda: stats['onehot'](z, indices, mask),
    'lookup, gather': lambda: look_up(embed, indices),
    'lookup, one-hot': lambda: by_product(embed, indices),
  })  # fmt: skip
  print(
    f'{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0]}, jax '
    f'{jax.__version__}; {TOKENS} tokens, {CODES} codes of {DIM}\n'
  )
  print('| what | wall ms | CPU ms | times faster (wall, CPU) |')
  print('|---|---|---|---|')
  names = list(times)
  for fast, slow in (names[:2], names[2:]):
    ratio = [b / a for a, b in zip(times[fast], times[slow])]
    print(
      f'| {fast} | {times[fast][0]:.2f} | {times[fast][1]:.2f} | '
      f'{ratio[0]:.0f}x, {ratio[1]:.0f}x |'
    )
    print(f'| {slow} | {times[slow][0]:.1f} | {times[slow][1]:.1f} | |')


if __name__ == '__main__':
  main()
