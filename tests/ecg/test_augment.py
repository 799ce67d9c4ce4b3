import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from ecgjax.ecg import augment

LENGTH = 120


@pytest.mark.parametrize('size', [60, 61, 73, 89, 118, 119, 120])
def test_fourier_resample_equals_scipy(size):
  ecg = np.random.default_rng(size).normal(size=(LENGTH, 2))
  with jax.enable_x64(True):
    resample = augment.make_fourier_resample(LENGTH, LENGTH // 2)
    for start in {0, LENGTH - size}:
      found = resample(jnp.asarray(ecg), start, size)
      expected = scipy.signal.resample(ecg[start : start + size], LENGTH)
      np.testing.assert_allclose(found, expected, atol=1e-6)


def test_fourier_resample_of_odd_length():
  ecg = np.random.default_rng(0).normal(size=(101, 1)).astype(np.float32)
  found = augment.make_fourier_resample(101, 50)(jnp.asarray(ecg), 3, 64)
  expected = scipy.signal.resample(ecg[3:67].astype(float), 101)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('method', ['linear', 'cubic'])
def test_interpolation(method):
  time = np.arange(LENGTH, dtype=np.float32)[:, None]
  found = augment.interpolate(time, 10, 90, method)
  expected = np.minimum(10 + time * 90 / LENGTH, 99)
  inner = slice(2, 110)  # Catmull-Rom reproduces lines away from the ends
  np.testing.assert_allclose(found[inner], expected[inner], atol=1e-4)


@pytest.mark.parametrize('exclusive', [False, True])
def test_time_out_draws(exclusive):
  keys = jax.random.split(jax.random.key(0), 4000)
  ones = jnp.ones((10, 2))
  views = jax.vmap(
    lambda k: augment.time_out(k, ones, exclusive_start=exclusive)
  )(keys)
  np.testing.assert_array_equal(views[:, :, 0], views[:, :, 1])
  zeros = np.asarray(views[:, :, 0] == 0)
  widths = zeros.sum(1)
  assert set(widths) == {0, 1, 2, 3, 4}
  for width in (1, 4):
    starts = set(zeros[widths == width].argmax(1))
    last = 10 - width - exclusive
    assert starts == set(range(last + 1))


@pytest.mark.parametrize('exclusive', [False, True])
def test_crop_draws(exclusive):
  time = jnp.arange(20.0)[:, None]
  crop = augment.make_random_resized_crop(
    20, resampler='linear', exclusive_start=exclusive
  )
  views = jax.vmap(crop, (0, None))(
    jax.random.split(jax.random.key(1), 4000), time
  )
  views = np.asarray(views)
  sizes = np.round((views[:, 1, 0] - views[:, 0, 0]) * 20).astype(int)
  assert set(sizes) == set(range(10, 20))  # floor(U(.5, 1) L): never L
  for size in (10, 19):
    starts = set(views[sizes == size, 0, 0].astype(int))
    assert starts == set(range(max(20 - size + 1 - exclusive, 1)))


def test_unknown_resampler():
  with pytest.raises(ValueError, match='fourier, cubic, linear'):
    augment.make_random_resized_crop(20, resampler='sinc')
