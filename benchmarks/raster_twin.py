"""The rasteriser of ECG pages again, in plain NumPy, column by column.

Written from docs/methods.md (Pages) and not from
`ecgjax.ecg.raster`: bands are laid on a canvas and joined by the maximum
of even and odd rows. The tests hold both to the same pixels; the benchmark
compares their speed.
"""

import numpy as np

THREE_BY_FOUR = [
  [('I', 0), ('aVR', 1), ('V1', 2), ('V4', 3)],
  [('II', 0), ('aVL', 1), ('V2', 2), ('V5', 3)],
  [('III', 0), ('aVF', 1), ('V3', 2), ('V6', 3)],
]
GRID = 1024  # heights are whole multiples of a pixel's 1024th
LEADS = 'I II III aVR aVL aVF V1 V2 V3 V4 V5 V6'.split()


def page(ecg: np.ndarray, m: int, seconds: float = 10) -> np.ndarray:
  """A '3x4+1' page at 25 mm/s and 10 mm/mV: [L, 12] mV -> grey [H, W] uint8."""
  ecg = np.asarray(ecg, np.float32)
  length = len(ecg)
  columns = round(25 * m * seconds)
  s = length // columns
  assert s * columns == length
  first = np.arange(columns) * s
  next_first = np.minimum(first + s, length - 1)
  highest = np.maximum.reduceat(ecg, first, axis=0)
  lowest = np.minimum.reduceat(ecg, first, axis=0)
  highest = np.maximum(highest, ecg[next_first])  # [W, 12]
  lowest = np.minimum(lowest, ecg[next_first])

  H = 25 * m
  w = np.float32(2 * round(max(1, 0.4 * m) / 2 * GRID) / GRID)
  pixels = lambda mv: np.round(mv * np.float32(10 * m * GRID)) / GRID
  y = np.arange(2 * H, dtype=np.float32)[:, None]
  bands = []
  for row in [*THREE_BY_FOUR, [('II', 0)]]:
    high, low = (np.empty(columns, np.float32) for _ in range(2))
    for name, place in row:
      stretch = slice(
        round(columns * place / len(row)),
        round(columns * (place + 1) / len(row)),
      )
      high[stretch] = highest[stretch, LEADS.index(name)]
      low[stretch] = lowest[stretch, LEADS.index(name)]
    top = H - pixels(high) - w / 2
    bottom = H - pixels(low) + w / 2
    bands.append(np.clip(np.minimum(y - top + 0.5, bottom - y + 0.5), 0, 1))
  even, odd = (np.zeros((5 * H, columns), np.float32) for _ in range(2))
  for r, band in enumerate(bands):
    (odd if r % 2 else even)[r * H : (r + 2) * H] = band
  ink = np.maximum(even, odd)[: 120 * m]
  return np.round(255 * (1 - ink)).astype(np.uint8)
