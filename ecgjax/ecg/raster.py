"""ECGs as images: an anti-aliased rasteriser of the printed page, and back.

Pure functions of one record; batch them by `jax.vmap`. Every pixel is computed
from the highest and lowest sample of its column, so that there are no polygons
and no scatter, and the page is differentiable in the signal almost everywhere.
Rows overlap as on paper. What a page looks like says `ecgjax.ecg.page`.

Ink is 1 on the trace and 0 on white paper.
"""

import jax
import jax.numpy as jnp

from ecgjax.ecg import leads
from ecgjax.ecg.page import Paper
from ecgjax.runtime.shapes import Array, Float, UInt8

# Heights are rounded to this part of a pixel: what follows is exact in float32,
# and pages are the same to the last bit on every device.
_GRID = 1024
_FAINT = 0.1  # ink below is no trace when a page is read back


def render(
  ecg: Float[Array, 'L 12'], rate: float, paper: Paper
) -> Float[Array, 'H W']:
  """Prints a record: ECG [L, 12] in mV to a page of ink.

  Args:
    ecg: [L, 12] in the order of `leads.LEADS`, mV.
    rate: Hz.
    paper: see `ecgjax.ecg.page`.

  Returns:
    ink [H, W] in [0, 1].

  Raises:
    ValueError: if a pixel column does not hold a whole number of samples.
  """
  width = paper.width(len(ecg), rate)
  low, high = (rows_of(x, paper) for x in extremes(ecg, width))
  return draw(low, high, paper)


def extremes(
  ecg: Float[Array, 'L C'], columns: int
) -> tuple[Float[Array, 'W C'], Float[Array, 'W C']]:
  """Lowest and highest sample of every pixel column: [L, C] -> two [W, C].

  The first sample of the next column counts as well; it joins neighbours, so
  that steep slopes have no gaps.
  """
  samples = ecg.reshape(columns, -1, ecg.shape[1])  # [W, L / W, C]
  joint = jnp.concatenate([samples[1:, 0], samples[-1:, -1]])  # [W, C]
  return (
    jnp.minimum(samples.min(axis=1), joint),
    jnp.maximum(samples.max(axis=1), joint),
  )


def column_means(ecg: Float[Array, 'L C'], columns: int) -> Float[Array, 'W C']:
  """Mean of the line that every pixel column shows: [L, C] -> [W, C].

  It runs from the column's first sample to that of the next column, as in
  `extremes`; both ends count half.
  """
  samples = ecg.reshape(columns, -1, ecg.shape[1])
  joint = jnp.concatenate([samples[1:, 0], samples[-1:, -1]])
  ends = (joint - samples[:, 0]) / 2
  return samples.mean(axis=1) + ends / samples.shape[1]


def rows_of(signal: Float[Array, 'W 12'], paper: Paper) -> Float[Array, 'R W']:
  """Cuts the rows of a page out of all leads: [W, 12] -> [R, W]."""
  return jnp.stack(
    [
      jnp.concatenate(
        [signal[s.start : s.stop, leads.LEADS.index(s.lead)] for s in row]
      )
      for row in paper.segments(len(signal))
    ]
  )


def draw(
  low: Float[Array, 'R W'], high: Float[Array, 'R W'], paper: Paper
) -> Float[Array, 'H W']:
  """Draws the rows of a page from the extremes of their columns.

  Args:
    low, high: [R, W] mV.
    paper: see `ecgjax.ecg.page`.

  Returns:
    ink [H, W] in [0, 1].
  """
  pitch = paper.pitch * paper.resolution
  half = round(max(1, paper.line * paper.resolution) / 2 * _GRID) / _GRID
  # Within a row's band of two pitches; its base line lies in the middle.
  top = pitch - _pixels(high, paper) - half
  bottom = pitch - _pixels(low, paper) + half
  y = jnp.arange(pitch, dtype=top.dtype)[:, None]

  def ink(y, pad):
    # Where there is no row, a trace far below the band.
    upper, lower = (
      jnp.pad(x, (pad, (0, 0)), constant_values=3 * pitch)[:, None]
      for x in (top, bottom)
    )
    return jnp.clip(jnp.minimum(y - upper + 0.5, lower - y + 0.5), 0, 1)

  # Each stripe of one pitch shows the upper half of a band and the lower half
  # of the band before.
  page = jnp.maximum(ink(y, (0, 1)), ink(y + pitch, (1, 0)))  # [R + 1, P, W]
  return page.reshape(-1, page.shape[-1])[: paper.height]


def _pixels(signal, paper: Paper):
  """mV to pixels, on the grid; the gradient is that of the product."""
  fine = signal * (paper.px_per_mv * _GRID)
  return (fine + jax.lax.stop_gradient(jnp.round(fine) - fine)) / _GRID


def to_grey(ink: Float[Array, '*S']) -> UInt8[Array, '*S']:
  """Turns ink in [0, 1] into grey levels uint8, 255 for white."""
  return jnp.round(255 * (1 - ink)).astype(jnp.uint8)


def read_back(ink: Float[Array, 'H W'], paper: Paper) -> Float[Array, 'R W']:
  """Reads a page: centroid of the trace in every column.

  A row's trace is followed from left to right: of the runs of ink in a column,
  it is the one that touches the run before, nearest to the base line if there
  are several or none. Where two traces cross, both count for one column.

  Args:
    ink: [H, W] in [0, 1].
    paper: see `ecgjax.ecg.page`.

  Returns:
    [R, W] mV; 0 where a column is blank. What left the band is cut.
  """
  pitch = paper.pitch * paper.resolution
  ink = jnp.pad(ink, ((0, 2 * pitch), (0, 0)))
  bands = jnp.stack(
    [ink[r * pitch : (r + 2) * pitch] for r in range(len(paper.rows))]
  )  # [R, 2 P, W]
  starts = jnp.array(
    [
      [any(s.start == x for s in row) for x in range(ink.shape[1])]
      for row in paper.segments(ink.shape[1])
    ]
  )
  y = jnp.arange(2 * pitch)
  distance = abs(y - pitch)

  def follow(before, column):
    column, start = column  # [2 P], []
    on = column > _FAINT
    before = before & ~start
    near = before | jnp.roll(before, 1) | jnp.roll(before, -1)
    cost = distance + 2 * pitch * ~near + 4 * pitch * ~on
    seed = jnp.argmin(cost)
    first = jnp.max(jnp.where(~on & (y <= seed), y, -1))
    last = jnp.min(jnp.where(~on & (y >= seed), y, 2 * pitch))
    run = (first < y) & (y < last)
    weight = jnp.where(run, column, 0)
    total = weight.sum()
    offset = (weight * (pitch - y)).sum() / jnp.where(total > 0, total, 1)
    return jnp.where(run.any(), run, before), offset / paper.px_per_mv

  def read(band, start):
    none = jnp.zeros(2 * pitch, bool)
    return jax.lax.scan(follow, none, (band.T, start))[1]

  return jax.vmap(read)(bands, starts)
