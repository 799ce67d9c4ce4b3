"""Figures of coded pages against pages whose errors are known."""

import numpy as np
import pytest

from ecgjax.ecg import page, raster
from ecgjax.metrics import page_errors
from ecgjax.metrics.reconstruction import Reconstructed

PAPER = page.make()
RATE = 100.0


@pytest.fixture(scope='module')
def pages():
  """Three records with ten beats in each lead, and their pages as grey."""
  t = np.arange(1000) / RATE
  spike = np.exp(-(((t % 1 - 0.5) / 0.03) ** 2)) - 0.1
  sizes = np.linspace(0.6, 1.0, 12)
  ecg = np.float32([f * spike[:, None] * sizes for f in (1.0, 0.9, 0.8)])
  grey = np.asarray(raster.to_grey(page_errors._render(ecg, RATE, PAPER)))
  return ecg, grey


def test_overlap_counts_pixels_above_one_half():
  x, y = np.zeros((2, 2, 4, 4))
  x[0, 0], y[0, 0, :2], y[0, 1, 0] = 0.8, 0.6, 0.51
  y[0, 3] = 0.5  # not above
  found = page_errors.ink_overlap(x, y)
  assert found['ink_f1'] == pytest.approx([2 * 2 / (4 + 3), 1])
  assert found['ink_iou'] == pytest.approx([2 / 5, 1])


def test_perfect_page_is_at_the_limit(pages):
  found = page_errors.page_errors(*pages, RATE, PAPER)
  np.testing.assert_array_equal(found['ink_f1'], 1)
  np.testing.assert_array_equal(found['ink_iou'], 1)
  for name in ('page_prdn', 'page_r_error_uv'):
    limit = found[name + '_limit']
    assert limit.shape == (3, 4)
    np.testing.assert_allclose(found[name], limit, atol=0.3)
  assert found['page_prdn_limit'].max() < 20


def test_blank_page_has_no_ink_and_no_beats(pages):
  ecg, grey = pages
  found = page_errors.page_errors(ecg, np.full_like(grey, 255), RATE, PAPER)
  np.testing.assert_array_equal(found['ink_f1'], 0)
  np.testing.assert_array_equal(found['ink_iou'], 0)
  for name in ('page_prdn', 'page_r_error_uv'):
    np.testing.assert_array_equal(found[name], found[name + '_blank'])
  # Lead II, 0.64 of the spike, which is 1 mV high in the first record.
  height = np.ptp(raster.column_means(ecg[0, :, 1:2], 500)) * 1000
  assert found['page_r_error_uv'][0, 3] == pytest.approx(height, rel=0.02)
  rows = np.float64(page_errors._rows(ecg, RATE, PAPER))[:, 3]
  power, variance = (rows**2).mean(axis=1), rows.var(axis=1)
  np.testing.assert_allclose(
    found['page_prdn'][:, 3], 100 * np.sqrt(power / variance)
  )


def test_page_one_pixel_too_low(pages):
  """Every reading is 0.05 mV lower: PRDN adds, amplitudes stay."""
  ecg, grey = pages
  found = page_errors.page_errors(ecg, np.roll(grey, 1, axis=1), RATE, PAPER)
  assert found['ink_f1'].max() < 0.8
  np.testing.assert_allclose(
    found['page_r_error_uv'], found['page_r_error_uv_limit'], atol=1
  )
  rows = np.float64(page_errors._rows(ecg, RATE, PAPER))
  read = (
    np.float64(page_errors._read_back(1 - np.float32(grey) / 255, PAPER)) - 0.05
  )
  expected = 100 * np.sqrt(
    ((rows - read) ** 2).mean(axis=-1) / rows.var(axis=-1)
  )
  np.testing.assert_allclose(found['page_prdn'], expected, rtol=1e-3)


def test_amplitude_errors():
  x, y = np.zeros((2, 2, 100))
  x[0, 20], x[0, 60], x[1, 20], x[1, 61] = 1.0, 2.0, -1.0, 1.0
  y[0, 21], y[0, 60], y[1, 20] = 0.5, 2.25, -1.0
  found = page_errors.r_error(x, y, np.array([20.2, 60.0]), 6)
  assert found == pytest.approx([(0.5 + 0.25) / 2, (0 + 1) / 2])
  assert np.isnan(page_errors.r_error(x, y, np.array([]), 6)).all()


def test_flat_row_has_no_prdn():
  rows = np.array([[[1.0, 1.0], [0.0, 2.0]]])
  found = page_errors.row_prdn(rows, np.array([[[0.0, 0.0], [0.0, 1.0]]]))
  np.testing.assert_allclose(found, [[np.nan, 100 * np.sqrt(1 / 2)]])


def test_summary_and_pictures(pages):
  ecg, grey = pages
  coded = grey.copy()
  coded[1] = 255
  indices = np.arange(3 * 4 * 2).reshape(3, 4, 2) % 8
  found = Reconstructed(ecg, coded, indices, np.array([1, 1, 2]))
  summary = page_errors.summarise(found, RATE, PAPER, 8, draws=100)
  metrics = summary['metrics']
  assert metrics['ink_f1']['value'] == pytest.approx(2 / 3)
  low, high = metrics['ink_f1']['ci95']
  assert low == pytest.approx(0.5) and high == 1
  errors = page_errors.page_errors(ecg, coded, RATE, PAPER)
  for name in ('page_prdn', 'page_r_error_uv_blank'):
    means = errors[name].mean(axis=1)
    assert metrics[name]['value'] == pytest.approx(np.median(means))
    rows = [row[name] for row in summary['per_row'].values()]
    np.testing.assert_allclose(rows, np.median(errors[name], axis=0))
  assert list(summary['per_row'])[1] == 'II aVL V2 V5'
  assert summary['codebook']['bits_per_second'] == 4 * 2 * 3 / 10
  figures = page_errors.plot_examples(found, RATE, PAPER, synthetic=True)
  title = figures['worst'].axes[1].get_title()
  assert 'SYNTHETIC' in title and '0.000' in title
  assert len(figures['median'].axes) == 2
