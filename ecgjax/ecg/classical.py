"""Classical augmentation of ECGs: what a recording varies by, and no more.

Each of the steps below is applied with probability one half (the scale
always), from keys of its own:

  scale          one factor for all leads, U(.8, 1.25) in its logarithm
  rotation       of the heart by at most 15 degrees about each axis; what the
                 vectorcardiogram does not explain stays as it is
  shift          in time by at most a tenth of the record, the rest is zero
  wander, noise  baseline wander and muscle noise at 15-35 dB of signal to noise
  time mask      one span of at most a fifth of the record is zero
  lead mask      one lead is zero

Units do not matter: noise is relative, so that normalised ECGs may be given.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ecgjax.ecg import augment, noise, vcg
from ecgjax.runtime.shapes import Array, Float

MAX_DEGREES = 15.0
SNR_DB = (15.0, 35.0)
SCALE = 1.25
MAX_SHIFT = 0.1  # of the record
MAX_MASK = 0.2  # of the record


def make_classical(leads: Sequence[str], rate: float) -> Callable:
  """Returns the augmentation of the module, `(key, ecg [L, C]) -> [L, C]`.

  Args:
    leads: names of the C leads; they must determine the vectorcardiogram.
    rate: Hz.

  Raises:
    ValueError: if the leads do not determine the vectorcardiogram.
  """
  add = functools.partial(noise.add_noise, snr_db=SNR_DB, rate=rate)
  steps: tuple[Callable, ...] = (
    vcg.make_rotate_heart(leads, MAX_DEGREES, 1.0, keep_rest=True),
    functools.partial(augment.shift, max_fraction=MAX_SHIFT),
    functools.partial(add, kind='baseline_wander', leads=leads),
    functools.partial(add, kind='muscle', leads=leads),
    functools.partial(augment.time_out, max_fraction=MAX_MASK),
    augment.lead_out,
  )

  def classical(key, ecg: Float[Array, 'L C']) -> Float[Array, 'L C']:
    keys = jax.random.split(key, len(steps) + 1)
    chosen = jax.random.bernoulli(keys[0], shape=(len(steps),))
    scale_key = jax.random.fold_in(key, len(steps) + 1)
    exponent = jax.random.uniform(scale_key, minval=-1.0)
    ecg = ecg * SCALE**exponent
    for step, step_key, use in zip(steps, keys[1:], chosen):
      ecg = jnp.where(use, step(step_key, ecg), ecg)
    return ecg

  return classical
