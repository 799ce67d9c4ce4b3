"""How well a codec reproduces printed ECGs: ink, and the signal read from it.

Most of a page is white, so that errors of pixels flatter; what counts is the
overlap of the traces (F1 and intersection over union of pixels above one half)
and what a reader gets: the trace of every row is read back as its centroid per
column and compared with the signal that was drawn.

Beside the codec stand its bounds: `_limit`, the original page read back in the
same way, and `_blank`, an empty page.
"""

import functools

import jax
import numpy as np
from matplotlib.figure import Figure

from ecgjax.ecg import beats, raster
from ecgjax.ecg.page import Paper
from ecgjax.metrics import bootstrap, reconstruction

_CHUNK = 64  # pages held as floats at a time
_AROUND_R = 0.06  # s on both sides, in which the QRS amplitude is read


def summarise(
  found: reconstruction.Reconstructed,
  rate: float,
  paper: Paper,
  num_codes: int,
  draws: int = bootstrap.DRAWS,
) -> dict:
  """Returns the figures of a split, ready for JSON.

  Args:
    found: from `reconstruction.reconstruct`; the reconstruction is
      [N, H, W] uint8, 255 for white.
    rate: Hz.
    paper: layout and resolution of the pages, see `ecg.page.make`.
    num_codes: K.
    draws: number of bootstrap draws over patients.

  Returns:
    `metrics`: name -> {'value', 'ci95'}, means of `ink_f1` and `ink_iou` and
    medians over records of the others of `page_errors`, rows together;
    `per_row`: leads of a row -> name -> median; `codebook` as in
    `reconstruction.summarise`.
  """
  chunks = [
    page_errors(found.original[part], found.reconstruction[part], rate, paper)
    for first in range(0, len(found.original), _CHUNK)
    for part in [slice(first, first + _CHUNK)]
  ]
  errors = {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}
  metrics = {}
  per_row: dict[str, dict] = {' '.join(row): {} for row in paper.rows}
  for name, values in errors.items():
    if values.ndim == 1:
      statistic = bootstrap.mean_with_interval
    else:
      statistic = reconstruction.median_with_interval
      for row, column in zip(per_row.values(), values.T):
        if not np.isnan(column).all():
          row[name] = float(np.nanmedian(column))
      measured = (~np.isnan(values)).sum(axis=1)
      values = np.nansum(values, axis=1) / np.maximum(measured, 1)
      values[measured == 0] = np.nan
    defined = ~np.isnan(values)
    if defined.any():
      metrics[name] = statistic(values[defined], found.patients[defined], draws)
  return {
    'metrics': metrics,
    'per_row': per_row,
    'codebook': reconstruction.codebook_figures(
      found.indices, num_codes, found.original.shape[1] / rate, rate
    ),
  }


def page_errors(
  ecg: np.ndarray, grey: np.ndarray, rate: float, paper: Paper
) -> dict[str, np.ndarray]:
  """Computes the errors of reconstructed pages.

  Args:
    ecg: [N, L, 12] mV, what was printed.
    grey: [N, H, W] uint8, the reconstruction.
    rate: Hz.
    paper: layout and resolution of the pages, see `ecg.page.make`.

  Returns:
    `ink_f1`, `ink_iou` [N]; `page_prdn` in % and `page_r_error_uv` [N, R], the
    latter the mean absolute error of the QRS amplitude over beats; both also
    with `_limit` and `_blank`. NaN where a row is flat, or holds no beat.
  """
  page = np.asarray(_render(ecg, rate, paper))
  ink = 1 - np.asarray(grey, np.float32) / 255
  truth = np.asarray(_rows(ecg, rate, paper), np.float64)  # [N, R, W]
  read = {
    '': np.asarray(_read_back(ink, paper), np.float64),
    '_limit': np.asarray(_read_back(page, paper), np.float64),
    '_blank': np.zeros_like(truth),
  }
  times = [
    beats.r_peaks(np.asarray(one, np.float64), rate) / rate for one in ecg
  ]
  columns_per_second = paper.speed * paper.resolution
  found = ink_overlap(page, ink)
  for name, rows in read.items():
    found['page_prdn' + name] = row_prdn(truth, rows)
    found['page_r_error_uv' + name] = 1000 * np.array(
      [
        r_error(x, y, columns_per_second * t, columns_per_second * _AROUND_R)
        for x, y, t in zip(truth, rows, times)
      ]
    )
  return found


def ink_overlap(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
  """Overlap of pixels above one half.

  Args:
    x: [N, H, W] ink of the originals.
    y: [N, H, W] ink of the reconstructions.

  Returns:
    `ink_f1` and `ink_iou`, [N]; 1 where both pages are blank.
  """
  x, y = x > 0.5, y > 0.5
  count = lambda pixels: pixels.sum(axis=(1, 2))
  both, total = count(x & y), count(x) + count(y)
  blank = total == 0
  return {
    'ink_f1': np.where(blank, 1, 2 * both / np.maximum(total, 1)),
    'ink_iou': np.where(blank, 1, both / np.maximum(total - both, 1)),
  }


def row_prdn(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """PRDN of every row: [N, R, W] mV twice -> [N, R] %, NaN for a flat row."""
  energy = np.square(x - x.mean(axis=-1, keepdims=True)).sum(axis=-1)
  ratio = np.full(energy.shape, np.nan)
  error = np.square(x - y).sum(axis=-1)
  np.divide(error, energy, out=ratio, where=energy > 0)
  return 100 * np.sqrt(ratio)


def r_error(
  x: np.ndarray, y: np.ndarray, peaks: np.ndarray, reach: float
) -> np.ndarray:
  """Error of the QRS amplitude, largest minus smallest value about R.

  Args:
    x: [R, W] original, mV.
    y: [R, W] reconstruction, mV.
    peaks: [N] places of R, columns.
    reach: columns on both sides.

  Returns:
    [R] mean absolute error over beats, mV; NaN without a beat.
  """
  errors = []
  for peak in peaks:
    window = slice(max(0, round(peak - reach)), round(peak + reach) + 1)
    errors.append(np.ptp(x[:, window], axis=1) - np.ptp(y[:, window], axis=1))
  return np.abs(errors).mean(axis=0) if errors else np.full(len(x), np.nan)


def plot_examples(
  found: reconstruction.Reconstructed,
  rate: float,
  paper: Paper,
  synthetic: bool,
) -> dict[str, Figure]:
  """Draws the median, a bad and the worst page by F1, the original above.

  Returns:
    'median', '5th percentile', 'worst' -> figure.
  """
  ink = lambda grey: 1 - np.asarray(grey, np.float32) / 255
  f1 = np.concatenate(
    [
      ink_overlap(
        np.asarray(_render(found.original[i : i + 1], rate, paper)),
        ink(found.reconstruction[i : i + 1]),
      )['ink_f1']
      for i in range(len(found.original))
    ]
  )
  order = np.argsort(-f1, kind='stable')
  last = len(order) - 1
  places = {'median': last // 2, '5th percentile': round(0.95 * last)}
  figures = {}
  for name, place in (places | {'worst': last}).items():
    i = order[place]
    original = np.asarray(_render(found.original[i : i + 1], rate, paper))[0]
    figures[name] = plot_pair(
      255 * (1 - original),
      found.reconstruction[i],
      f'{"SYNTHETIC, " if synthetic else ""}{name} page: F1 {f1[i]:.3f}',
    )
  return figures


def plot_pair(original: np.ndarray, coded: np.ndarray, title: str) -> Figure:
  """Draws two grey pages [H, W] below each other, 0 black and 255 white."""
  height, width = original.shape
  inches = 9.0
  figure = Figure(
    figsize=(inches, 2.15 * inches * height / width), layout='constrained'
  )
  for axes, page, what in zip(
    figure.subplots(2, 1), (original, coded), ('original', 'reconstruction')
  ):
    axes.imshow(page, cmap='gray', vmin=0, vmax=255, interpolation='nearest')
    axes.set_title(f'{title}, {what}', fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
  return figure


@functools.partial(jax.jit, static_argnums=(1, 2))
def _render(ecg, rate, paper):
  return jax.vmap(lambda one: raster.render(one, rate, paper))(ecg)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _rows(ecg, rate, paper):
  width = paper.width(ecg.shape[1], rate)
  return jax.vmap(
    lambda one: raster.rows_of(raster.column_means(one, width), paper)
  )(ecg)


@functools.partial(jax.jit, static_argnums=1)
def _read_back(ink, paper):
  return jax.vmap(lambda one: raster.read_back(one, paper))(ink)
