"""Codebooks in float64 NumPy, and ours compiled: shared by the tests here."""

import functools

import jax
import numpy as np

from ecgjax.models import codebook as cb
from ecgjax.models import codebook_update as update
from ecgjax.runtime import collectives

K, D = 16, 4
KEY = jax.random.key(1)
FIXED = update.Options(restart_every=0)


def nearest(embed, z):
  """[K, D], [n, D] -> [n], by brute force in float64."""
  embed, z = np.float64(embed), np.float64(z)
  return np.array([np.argmin(((embed - row) ** 2).sum(1)) for row in z])


def tally(z, indices, size=K):
  """n [K] and s [K, D], token by token."""
  n, s = np.zeros(size), np.zeros((size, z.shape[1]))
  for row, k in zip(np.float64(z), indices):
    n[k] += 1
    s[k] += row
  return n, s


def ema(state, n, s, g=0.99, eps=1e-5):
  """N, M, e after one update (docs/methods.md, Codebooks)."""
  counts = g * np.float64(state.counts) + (1 - g) * n
  sums = g * np.float64(state.sums) + (1 - g) * s
  total = counts.sum()
  smooth = (counts + eps) / (total + len(counts) * eps) * total
  return counts, sums, sums / smooth[:, None]


@functools.partial(jax.jit, static_argnames=('size', 'dim'))
def make_state(seed=0, size=K, dim=D):
  return cb.create(jax.random.key(seed), size, dim)


def tokens(seed=0, n=200, dim=D):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(n, dim)).astype(np.float32)


def learn(state, z, mask, key, options, axis_name=None):
  """One step of one codebook, the pool being all tokens."""
  stages = jax.tree.map(lambda x: x[None], state)
  found = cb.rvq_apply(stages.embed, z, mask, axis_name=axis_name)
  gather = functools.partial(collectives.all_gather, axis_name=axis_name)
  pool = gather(found.residuals[0]), gather(found.valid[0])
  new = update.rvq_update(stages, found, key, pool, options, axis_name)
  return jax.tree.map(lambda x: x[0], new), found


jit_learn = jax.jit(learn, static_argnames=('options', 'axis_name'))
assign = jax.jit(cb.vq_assign)
rvq_apply = jax.jit(cb.rvq_apply)
data_init = jax.jit(update.rvq_data_init, static_argnames='options')


def step(state, z, mask=None, options=FIXED):
  mask = np.ones(len(z), np.float32) if mask is None else mask
  return jit_learn(state, z, mask, KEY, options)


def repeat(state, z, times, options):
  mask = np.ones(len(z), np.float32)
  body = lambda _, state: learn(state, z, mask, KEY, options)[0]
  run = lambda state: jax.lax.fori_loop(0, times, body, state)
  return jax.jit(run)(state)
