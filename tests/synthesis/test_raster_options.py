"""Grid, lead names, calibration pulse and scanner of ECG pages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax import paper as paper_lib
from ecgjax.synthesis import raster, raster_options

PAPER = paper_lib.make(resolution=1)


@pytest.fixture(scope='module')
def ink():
  """[120, 250] of slow waves."""
  t = np.arange(1000) / 100
  ecg = 0.5 * np.sin(2 * np.pi * t)[:, None] * np.ones(12)
  return raster.render(jnp.asarray(ecg, jnp.float32), 100, PAPER)


def test_grid_lies_under_the_trace(ink):
  page = np.asarray(raster_options.add_grid(ink, 1, (1, 0.5, 0.5), (1, 0, 0)))
  assert page.shape == (120, 250, 3) and page.dtype == np.float32
  blank = np.asarray(ink) == 0
  y, x = np.indices(ink.shape)
  large = (y % 5 == 0) | (x % 5 == 0)
  assert (page[blank & large] == [1, 0, 0]).all()
  assert (page[blank & ~large] == [1, 0.5, 0.5]).all()
  assert (page[np.asarray(ink) == 1] == 0).all()
  fine = np.asarray(raster_options.add_grid(jnp.zeros((20, 20)), 2))
  assert (fine[1::2, 1::2] == 1).all()  # white squares
  np.testing.assert_allclose(fine[3, 10], raster_options.MAJOR)
  np.testing.assert_allclose(fine[3, 8], raster_options.MINOR)


def test_every_lead_has_a_name(ink):
  page = np.asarray(raster_options.name_leads(ink, PAPER))
  assert page.shape == ink.shape and page.dtype == ink.dtype
  assert (page >= np.asarray(ink)).all()
  added = raster_options.name_leads(jnp.zeros_like(ink), PAPER)
  for row, segments in enumerate(PAPER.segments(250)):
    for segment in segments:
      text = raster_options.bitmap(segment.lead)
      top = 25 * (row + 1) - 12 - 7
      left = segment.start + 1
      found = added[top : top + 7, left : left + text.shape[1]]
      np.testing.assert_array_equal(found, text)


def test_names_are_legible():
  drawn = [
    ''.join('#' if x else '.' for x in row)
    for row in raster_options.bitmap('aVL')
  ]
  assert drawn == [
    '......#...#.#....',
    '......#...#.#....',
    '.###..#...#.#....',
    '....#.#...#.#....',
    '.####.#...#.#....',
    '#...#..#.#..#....',
    '.####...#...#####',
  ]
  large = paper_lib.make(resolution=5)
  added = raster_options.name_leads(jnp.zeros((600, 1250)), large)
  assert (
    added.sum()
    == 4 * raster_options.name_leads(jnp.zeros((120, 250)), PAPER).sum()
  )


@pytest.mark.parametrize('speed,width', [(25, 5), (50, 10)])
def test_pulse_is_one_millivolt_for_200_ms(ink, speed, width):
  paper = paper_lib.make(resolution=1, speed=speed)
  page = np.asarray(raster_options.add_pulse(ink, paper))
  assert page.shape == (120, 250 + width) and page.dtype == ink.dtype
  np.testing.assert_array_equal(page[:, width:], ink)
  for base in (25, 50, 75, 100):
    assert (page[base - 10, :width] == 1).all()
    assert (page[base - 10 : base + 1, [0, width - 1]] == 1).all()
    assert (page[base - 9 : base + 1, 1 : width - 1] == 0).all()


def test_scans(ink):
  page = raster_options.add_grid(ink, 1)
  scan = jax.jit(jax.vmap(raster_options.scan, (0, None)))
  scans = np.asarray(scan(jax.random.split(jax.random.key(0), 4), page))
  assert scans.shape == (4, *page.shape) and scans.dtype == page.dtype
  assert scans.min() >= 0 and scans.max() <= 1
  again = np.asarray(scan(jax.random.split(jax.random.key(0), 4), page))
  np.testing.assert_array_equal(scans, again)
  assert np.abs(scans[0] - scans[1]).mean() > 0.01
  # Still the same page: darker where there is ink.
  centre = np.s_[40:80, 100:150]
  for one in scans:
    r = np.corrcoef(one[centre].ravel(), np.asarray(page)[centre].ravel())
    assert r[0, 1] > 0.4


def test_scan_artefacts_one_by_one(ink):
  rotate, blur, light, compress = map(
    jax.jit,
    (
      raster_options._rotate,
      raster_options._blur,
      raster_options._light,
      raster_options._compress,
    ),
  )
  page = np.asarray(raster_options.add_grid(ink, 1))
  keys = jax.random.split(jax.random.key(1), 3)
  white = jnp.ones(page.shape)
  for key in keys:
    np.testing.assert_allclose(rotate(key, white), 1)
    np.testing.assert_allclose(blur(key, white), 1, rtol=1e-6)
    lit = np.asarray(light(key, white))
    assert 0.8 <= lit.min() <= lit.max() <= 1
    # White survives the rounding of its one wave to within half a step.
    np.testing.assert_allclose(
      compress(key, white), 1, atol=0.06 / 2 / 8 + 1e-5
    )
  blurred = blur(keys[0], page)
  assert float(blurred.sum()) == pytest.approx(page.sum(), rel=0.01)
  # Columns of a page turned by at most 2 degrees move at the right edge.
  dot = np.ones(page.shape, np.float32)
  dot[60, -6:-3] = 0
  heights = []
  for key in keys:
    turned = 1 - np.asarray(rotate(key, dot))[..., 0]
    heights.append((turned.sum(1) * np.arange(120)).sum() / turned.sum() - 60)
  assert 1 < np.max(np.abs(heights)) < 125 * np.sin(np.deg2rad(2)) + 0.5
  # Coarse rounding changes what it may and no more.
  rounded = np.asarray(compress(keys[0], page))
  error = np.abs(rounded - page)
  assert 0.001 < error.mean() < 0.1
