"""ECG pages against a NumPy twin, rulers and the read-back limits.

What a page looks like: docs/methods.md, Pages. Its speed: benchmarks/raster.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import raster_twin
from ecgjax.ecg import leads, page, raster

PAPER = page.make()  # 3x4+1 at 2 px/mm
STRIP = PAPER._replace(rows=(('II',),), pitch=60, bottom=60)


def flat(value=0.0, rate=100):
  return np.full((10 * rate, 12), value, np.float32)


render = jax.jit(raster.render, static_argnums=(1, 2))
read_back = jax.jit(raster.read_back, static_argnums=1)


def draw(ecg, rate=100, paper=PAPER):
  return np.asarray(render(ecg, rate, paper))


@pytest.fixture(scope='module')
def noise():
  """[128, 1000, 12] mV within +-2 mV, nothing like an ECG."""
  rng = np.random.default_rng(0)
  walk = rng.normal(size=(128, 1000, 12)).cumsum(axis=1) / 20
  return np.float32(2 * np.tanh(walk + rng.normal(size=walk.shape) / 10))


def test_1_flat_line_is_one_pixel_thick():
  ink = draw(flat())
  assert ink.shape == (240, 500)
  expected = np.zeros_like(ink)
  expected[[50, 100, 150, 200]] = 1
  np.testing.assert_array_equal(ink, expected)


@pytest.mark.parametrize('gain', page.GAINS)
def test_2_one_millivolt_is_10_mm(gain):
  paper = page.make(gain=gain)
  np.testing.assert_array_equal(
    draw(flat(1.0), paper=paper)[:200],
    draw(flat(), paper=paper)[2 * gain : 200 + 2 * gain],
  )


def test_3_no_row_has_a_gap(noise):
  for row in range(4):
    paper = PAPER._replace(rows=PAPER.rows[row : row + 1], bottom=25)
    ink = draw(noise[0], paper=paper)
    assert (ink.sum(axis=0) > 0.999).all()  # a line's width of ink at least


def test_4_a_spike_is_joined_to_the_base_line():
  ecg = flat(rate=500)
  ecg[2505, 1] = 2.0  # lead II: the rhythm strip, pixel column 250
  ink = draw(ecg, 500)
  assert (ink[160:201, 250] == 1).all()
  assert ink[:, 251].sum() == ink[:, 249].sum() == 4


@pytest.mark.parametrize('resolution', [1, 2, 4])
def test_5_twin_draws_the_same_pixels(noise, resolution):
  paper = page.make(resolution=resolution)
  each = jax.vmap(lambda ecg: raster.render(ecg, 100, paper))
  grey = np.asarray(jax.jit(lambda x: raster.to_grey(each(x)))(noise[:4]))
  assert grey.dtype == np.uint8
  for found, ecg in zip(grey, noise):
    np.testing.assert_array_equal(found, raster_twin.page(ecg, resolution))
  assert 0.02 < (grey < 128).mean() < 0.5


def prdn(x, y):
  """Of each record, over all rows: [B, R, W] twice -> [B], %."""
  centred = x - x.mean(axis=-1, keepdims=True)
  axes = (-2, -1)
  return 100 * np.sqrt(((x - y) ** 2).sum(axes) / (centred**2).sum(axes))


@pytest.mark.parametrize('resolution,limit', [(1, 31.9), (2, 15.2)])
def test_6_read_back_is_as_good_as_was_measured(classes, resolution, limit):
  paper = STRIP._replace(resolution=resolution)
  ecg = classes.ecg[::8][:32]
  columns = ecg[..., 1].reshape(len(ecg), 250 * resolution, -1).mean(axis=-1)
  there_and_back = jax.vmap(
    lambda one: raster.read_back(raster.render(one, 500, paper), paper)
  )
  found = np.asarray(jax.jit(there_and_back)(ecg))
  median = np.median(prdn(columns[:, None], found))
  assert median == pytest.approx(limit, rel=0.1)
  assert median < (16 if resolution == 2 else 36)


def test_read_back_follows_each_row_where_rows_overlap():
  """Slow waves of 1.4 mV, beyond the middle between two base lines."""
  t = np.arange(1000) / 100
  phases = np.linspace(0, 3, 12)
  ecg = np.float32(1.2 * np.sin(2 * np.pi * t[:, None] / 2.5 + phases / 2))
  found = np.asarray(read_back(draw(ecg), PAPER))
  means = raster.column_means(jnp.asarray(ecg), 500)
  expected = np.asarray(raster.rows_of(means, PAPER))
  np.testing.assert_allclose(found, expected, atol=0.01)


def test_column_means_are_those_of_the_line():
  rng = np.random.default_rng(1)
  ecg = rng.normal(size=(40, 2))
  found = raster.column_means(jnp.asarray(ecg), 10)
  fine = np.linspace(0, 40, 4001)
  for lead in range(2):
    line = np.interp(fine, np.arange(40), ecg[:, lead])
    for column in range(9):
      inside = line[400 * column : 400 * column + 401]
      mean = np.trapezoid(inside) / 400
      assert found[column, lead] == pytest.approx(mean, abs=1e-4)


def test_blank_page_reads_zero():
  found = read_back(np.zeros((240, 500), np.float32), PAPER)
  np.testing.assert_array_equal(found, np.zeros((4, 500)))


def test_7_a_signal_can_be_fitted_to_its_picture():
  paper = STRIP._replace(resolution=1, pitch=25, bottom=25)
  t = jnp.arange(1000) / 100
  target = 0.5 * jnp.sin(2 * jnp.pi * t)[:, None] * jnp.ones(12)
  picture = raster.render(target, 100, paper)
  loss = lambda ecg: jnp.mean((raster.render(ecg, 100, paper) - picture) ** 2)

  @jax.jit
  def step(ecg, state):
    value, gradient = jax.value_and_grad(loss)(ecg)
    update, state = optimizer.update(gradient, state)
    return optax.apply_updates(ecg, update), state, value, gradient

  optimizer = optax.adam(0.01)
  ecg = target + 0.05
  state, values = optimizer.init(ecg), []
  for _ in range(20):
    ecg, state, value, gradient = step(ecg, state)
    assert jnp.isfinite(gradient).all()
    values.append(float(value))
  assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize('resolution', [3, 5])
def test_8_columns_hold_whole_samples(resolution):
  with pytest.raises(ValueError, match='resolutions that fit: 1, 2, 4'):
    draw(flat(), paper=page.make(resolution=resolution))


def test_9_pages_do_not_depend_on_the_batch(noise):
  each = jax.jit(jax.vmap(lambda ecg: raster.render(ecg, 100, PAPER)))
  np.testing.assert_array_equal(each(noise)[:3], each(noise[:3]))


@pytest.mark.parametrize(
  'layout,columns', [('3x4', 4), ('3x4+1', 4), ('6x2', 2), ('12x1', 1)]
)
def test_10_columns_show_their_own_time(layout, columns):
  """A step of one lead within its own time shows there and nowhere else."""
  paper = page.make(layout)
  blank = draw(flat(), paper=paper)
  rows = 12 // columns
  for lead in ('III', 'V4'):
    place = leads.LEADS.index(lead)
    row, column = place % rows, place // rows
    ecg = flat()
    start, stop = (1000 * c // columns for c in (column, column + 1))
    ecg[:start, place] = ecg[stop + 1 :, place] = 1.0
    np.testing.assert_array_equal(draw(ecg, paper=paper), blank)
    ecg[start:stop, place] = 0.5
    changed = np.argwhere(draw(ecg, paper=paper) != blank)
    pitch = 2 * paper.pitch
    assert changed[:, 0].min() >= (row + 1) * pitch - 11
    assert changed[:, 0].max() <= (row + 1) * pitch
    assert changed[:, 1].min() == 500 * column // columns
    assert changed[:, 1].max() == 500 * (column + 1) // columns - 1


@pytest.mark.parametrize(
  'layout,shape',
  [
    ('3x4', (190, 500)),
    ('3x4+1', (240, 500)),
    ('3x4+3', (340, 500)),
    ('6x2', (340, 500)),
    ('12x1', (416, 500)),
  ],
)
def test_layouts(layout, shape):
  paper = page.make(layout)
  assert draw(flat(), paper=paper).shape == shape
  shown = {s.lead for row in paper.segments(500) for s in row}
  assert shown == set(leads.LEADS)
  fast = page.make(layout, resolution=1, speed=50)
  assert draw(flat(), paper=fast).shape == (shape[0] // 2, 500)


def test_rhythm_strips_show_lead_ii_first():
  rows = page.make('3x4+3').rows
  assert rows[3:] == (('II',), ('V1',), ('V5',))
  assert rows[1] == ('II', 'aVL', 'V2', 'V5')


def test_line_width():
  paper = page.make(resolution=10, line=0.6)
  ink = draw(flat(rate=500), 500, paper)
  assert ink[:, 0].sum() == pytest.approx(4 * 6)


@pytest.mark.parametrize(
  'field,value,words',
  [
    ('layout', '4x3', '3x4, 3x4'),
    ('resolution', 0, 'px/mm'),
    ('resolution', 1.5, 'px/mm'),
    ('speed', 30, '25, 50'),
    ('gain', 15, '5, 10, 20'),
    ('line', 1.0, '0.3 to 0.6'),
  ],
)
def test_mistakes_are_named(field, value, words):
  with pytest.raises(ValueError, match=words) as error:
    page.make(**{field: value})
  assert field in str(error.value)


def test_pages_are_mostly_white(classes):
  """About 4.7 % of a page is ink at 2 px/mm, with noise."""
  shares = [(draw(ecg, 500) > 0.5).mean() for ecg in classes.ecg[::46]]
  assert 0.025 < np.mean(shares) < 0.06
