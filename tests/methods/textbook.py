"""Layers, draws and views in NumPy, float64, written from their definitions.

Nothing here calls `ecgjax`. Random numbers come from `jax.random` by the key
layout that the methods keep: `fold_in` of the row, then `split`.
"""

import jax
import numpy as np
import scipy.signal

EPSILON = 1e-5  # of BatchNorm
MOMENTUM = 0.9  # that its running statistics keep


def double(tree):
  """All arrays of a tree as float64 NumPy arrays."""
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def shake(tree, seed: int):
  """The tree with every number changed, so that no two networks are alike."""
  rng = np.random.default_rng(seed)
  # To both sides: what all units share would hide what they do not.
  uniform = lambda x, width: width * (rng.random(x.shape) - 0.5)
  move = lambda x: np.asarray(
    x * (1 + uniform(x, 0.2)) + uniform(x, 0.05), x.dtype
  )
  return jax.tree.map(move, tree)


def linear(x, p):
  return x @ p['kernel'] + p['bias']


def convolution(x, kernel):
  """[B, L, C], [taps, C, D] -> [B, L, D], zero-padded ('SAME')."""
  taps, length = len(kernel), x.shape[1]
  before = (taps - 1) // 2
  x = np.pad(x, ((0, 0), (before, taps - 1 - before), (0, 0)))
  return sum(x[:, t : t + length] @ kernel[t] for t in range(taps))


def normalise(x, scale, shift, running, offset=0.0):
  """Batch statistics; returns also the new running ones."""
  axes = tuple(range(x.ndim - 1))
  mean, var = x.mean(axes), x.var(axes)
  keep = lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new
  new = {
    'mean': keep(running['mean'], mean + offset),
    'var': keep(running['var'], var),
  }
  return (x - mean) / np.sqrt(var + EPSILON) * scale + shift, new


def vgg(x, params, stats):
  """[B, L, 1] -> features [B, D], new statistics; a pool after each layer."""
  new = {}
  for name in sorted(params):
    p = params[name]
    x = convolution(x, p['kernel'])
    x, new[name] = normalise(x, p['scale'], p['shift'], stats[name], p['bias'])
    x = np.maximum(x, 0)
    half = x.shape[1] // 2
    x = x[:, : 2 * half].reshape(len(x), half, 2, -1).max(axis=2)
  return x.mean(axis=1), new


def mlp(h, params, stats):
  """Linear, BatchNorm, ReLU, Linear: [B, D] -> [B, E], new statistics."""
  norm = params['BatchNorm_0']
  x, new = normalise(
    linear(h, params['Linear_0']), norm['scale'], norm['bias'],
    stats['BatchNorm_0'],
  )  # fmt: skip
  return linear(np.maximum(x, 0), params['Linear_1']), {'BatchNorm_0': new}


def resnet_stem(x, params, stats):
  """Convolution, BatchNorm, ReLU, mean over time: [B, L, C] -> [B, D]."""
  norm = params['BatchNorm_0']
  x, new = normalise(
    convolution(x, params['Conv_0']['kernel']), norm['scale'], norm['bias'],
    stats['BatchNorm_0'],
  )  # fmt: skip
  return np.maximum(x, 0).mean(axis=1), {'BatchNorm_0': new}


def row_keys(key, rows: int) -> list:
  return [jax.random.fold_in(key, row) for row in range(rows)]


def _start(key, free: int, exclusive: bool) -> int:
  stop = max(free, 1) if exclusive else free + 1
  return int(jax.random.randint(key, (), 0, stop))


def crop(key, ecg, least: float, resample: str, exclusive=False):
  """RandomResizedCrop of [L, C]."""
  length = len(ecg)
  size_key, start_key = jax.random.split(key)
  share = jax.random.uniform(size_key, minval=least, maxval=1.0)
  size = int(np.floor(np.float32(share) * np.float32(length)))
  start = _start(start_key, length - size, exclusive)
  piece = ecg[start : start + size]
  if resample == 'fourier':
    return scipy.signal.resample(piece, length)
  at = np.minimum(np.arange(length) * size / length, size - 1)
  columns = [np.interp(at, np.arange(size), c) for c in piece.T]
  return np.stack(columns, axis=1)


def time_out(key, ecg, most: float = 0.5, exclusive=False):
  """TimeOut of [L, C]; also the number of samples that went."""
  length = len(ecg)
  span_key, start_key = jax.random.split(key)
  share = jax.random.uniform(span_key, maxval=most)
  span = int(np.floor(np.float32(share) * np.float32(length)))
  start = _start(start_key, length - span, exclusive)
  ecg = ecg.copy()
  ecg[start : start + span] = 0
  return ecg, span


def unit(z):
  return z / np.linalg.norm(z, axis=-1, keepdims=True)


def assert_gradient(value, params, gradients, rtol=2e-3):
  """Gradients of every module against differences of a float64 `value`.

  The direction is the gradient itself, so that a part of it that is missing or
  too much changes the slope.
  """
  for name in params:
    flat, tree = jax.tree.flatten(double(gradients[name]))
    norm = np.sqrt(sum(np.sum(g**2) for g in flat))
    assert norm > 1e-6, name
    towards = jax.tree.unflatten(tree, [g / norm for g in flat])
    start = double(params[name])
    slopes = [
      value(params | {name: jax.tree.map(lambda p, g: p + g, start, move)})
      for move in (
        jax.tree.map(lambda g: 1e-6 * g, towards),
        jax.tree.map(lambda g: -1e-6 * g, towards),
      )
    ]
    slope = (slopes[0] - slopes[1]) / 2e-6
    np.testing.assert_allclose(slope, norm, rtol=rtol, err_msg=name)
