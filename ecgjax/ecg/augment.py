"""Augmentations: pure functions `(key, ecg [L, C]) -> ecg [L, C]`.

Shapes are static, so that they run inside the jitted step; batches are made
with `jax.vmap` over keys and records. One draw is shared by all leads, except
in `lead_out`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from ecgjax.runtime.shapes import Array, Float

RESAMPLERS = ('fourier', 'cubic', 'linear')


def time_out(
  key,
  ecg: Float[Array, 'L C'],
  max_fraction: float = 0.5,
  exclusive_start: bool = False,
) -> Float[Array, 'L C']:
  """Sets one random span to zero on all leads (LCD's TimeOut).

  Args:
    key: PRNG key.
    ecg: [L, C].
    max_fraction: the span is floor(U(0, max_fraction) L) samples.
    exclusive_start: never draw the last possible start, as LCD's reference
      code does (quirk 17).

  Returns:
    [L, C].
  """
  length = ecg.shape[0]
  span_key, start_key = jax.random.split(key)
  span = jnp.floor(
    jax.random.uniform(span_key, maxval=max_fraction) * length
  ).astype(jnp.int32)
  start = _start(start_key, length - span, exclusive_start)
  position = jnp.arange(length)
  inside = (position >= start) & (position < start + span)
  return jnp.where(inside[:, None], 0, ecg)


def shift(
  key, ecg: Float[Array, 'L C'], max_fraction: float = 0.1
) -> Float[Array, 'L C']:
  """Moves the record in time; what comes in from outside is zero.

  Args:
    key: PRNG key.
    ecg: [L, C].
    max_fraction: the shift is a whole number of samples, uniform up to
      floor(max_fraction L) in either direction.

  Returns:
    [L, C].
  """
  length = ecg.shape[0]
  largest = int(max_fraction * length)
  source = jnp.arange(length) - jax.random.randint(
    key, (), -largest, largest + 1
  )
  inside = (source >= 0) & (source < length)
  return jnp.where(inside[:, None], ecg[jnp.clip(source, 0, length - 1)], 0)


def lead_out(key, ecg: Float[Array, 'L C']) -> Float[Array, 'L C']:
  """Sets one lead to zero, drawn uniformly: [L, C] -> [L, C]."""
  leads = ecg.shape[1]
  lead = jax.random.randint(key, (), 0, leads)
  return jnp.where(jnp.arange(leads) == lead, 0, ecg)


def make_random_resized_crop(
  length: int,
  *,
  min_fraction: float = 0.5,
  resampler: str = 'fourier',
  exclusive_start: bool = False,
) -> Callable:
  """Returns LCD's RandomResizedCrop: crop, then resample to full length.

  Args:
    length: L, samples of every record.
    min_fraction: the crop keeps floor(U(min_fraction, 1) L) samples.
    resampler: 'fourier' equals `scipy.signal.resample` of the crop (and rings
      at its ends, which Fourier resampling takes for periodic); 'cubic' and
      'linear' interpolate, without ringing.
    exclusive_start: see `time_out`.

  Raises:
    ValueError: if the resampler is unknown.
  """
  if resampler not in RESAMPLERS:
    raise ValueError(
      f'resample is {resampler!r}; choose one of {", ".join(RESAMPLERS)}'
    )
  if resampler == 'fourier':
    resample = make_fourier_resample(length, int(min_fraction * length))
  else:
    resample = functools.partial(interpolate, method=resampler)

  def random_resized_crop(key, ecg: Float[Array, 'L C']) -> Float[Array, 'L C']:
    size_key, start_key = jax.random.split(key)
    fraction = jax.random.uniform(size_key, minval=min_fraction, maxval=1.0)
    size = jnp.floor(fraction * length).astype(jnp.int32)
    start = _start(start_key, length - size, exclusive_start)
    return resample(ecg, start, size)

  return random_resized_crop


def _start(key, free, exclusive: bool):
  """Uniform start in {0, ..., free}, or {0, ..., free - 1} if `exclusive`."""
  stop = jnp.maximum(free, 1) if exclusive else free + 1
  return jax.random.randint(key, (), 0, stop)


def make_fourier_resample(length: int, min_size: int) -> Callable:
  """Returns exact Fourier resampling of crops with a static shape.

  The length-n DFT of the crop is a chirp-z transform (Bluestein 1970) with one
  fixed FFT size; chirps and filter spectra of all crop sizes are tabled once.

  Args:
    length: L, samples of the record and of the result.
    min_size: smallest crop size n.

  Returns:
    `(ecg [L, C], start, size) -> [L, C]`, equal to
    `scipy.signal.resample(ecg[start:start + size], L)`.
  """
  bins = length // 2 + 1
  fft_size = scipy.fft.next_fast_len(length + bins - 1)
  chirps, spectra = _chirp_tables(length, min_size, fft_size)

  def resample(ecg: Float[Array, 'L C'], start, size) -> Float[Array, 'L C']:
    chirp = jnp.asarray(chirps)[size - min_size]  # [L], zero from `size` on
    spectrum = jnp.asarray(spectra)[size - min_size]  # [M]
    crop = _crop(ecg, start)  # [L, C]
    product = jnp.fft.fft(crop * chirp[:, None], fft_size, axis=0)
    product = jnp.fft.ifft(product * spectrum[:, None], axis=0)  # [M, C]
    k = jnp.arange(bins)
    half = jnp.where(2 * k == size, jnp.where(size < length, 0.5, 1.0), 1.0)
    weight = jnp.where(2 * k > size, 0.0, half) * length / size
    transform = product[:bins] * (chirp[:bins] * weight)[:, None]
    return jnp.fft.irfft(transform, length, axis=0).astype(ecg.dtype)

  return resample


def _crop(ecg, start):
  """[L, C] -> [L, C] whose row j is row start + j (the end repeats)."""
  length = ecg.shape[0]
  return ecg[jnp.minimum(start + jnp.arange(length), length - 1)]


@functools.lru_cache(maxsize=4)
def _chirp_tables(length: int, min_size: int, fft_size: int):
  """exp(-i pi j^2 / n) and the spectrum of its conjugate, for all n."""
  chirps = np.zeros((length - min_size + 1, length), np.complex64)
  spectra = np.zeros((length - min_size + 1, fft_size), np.complex64)
  j = np.arange(length, dtype=np.int64)
  bins = length // 2 + 1
  for row, size in enumerate(range(min_size, length + 1)):
    # j^2 is reduced with integers: j^2 / n itself loses the phase.
    chirp = np.exp(-1j * np.pi * ((j * j) % (2 * size)) / size)
    kernel = np.zeros(fft_size, np.complex128)
    kernel[:bins] = chirp[:bins].conj()
    kernel[fft_size - size + 1 :] = chirp[1:size][::-1].conj()
    spectra[row] = np.fft.fft(kernel)
    chirps[row, :size] = chirp[:size]
  return chirps, spectra


def interpolate(
  ecg: Float[Array, 'L C'], start, size, method: str = 'linear'
) -> Float[Array, 'L C']:
  """Stretches `ecg[start:start + size]` to full length by interpolation.

  Args:
    ecg: [L, C].
    start: first sample of the crop.
    size: samples of the crop.
    method: 'linear' or 'cubic' (Catmull-Rom).

  Returns:
    [L, C]; row m is the signal at start + m size / L, clipped to the crop.
  """
  length = ecg.shape[0]
  last = start + size - 1
  time = jnp.minimum(start + jnp.arange(length) * (size / length), last)
  base = jnp.floor(time).astype(jnp.int32)
  t = (time - base)[:, None]
  at = lambda offset: ecg[jnp.clip(base + offset, start, last)]
  if method == 'linear':
    return at(0) * (1 - t) + at(1) * t
  p0, p1, p2, p3 = at(-1), at(0), at(1), at(2)
  return p1 + 0.5 * t * (
    p2
    - p0
    + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
  )
