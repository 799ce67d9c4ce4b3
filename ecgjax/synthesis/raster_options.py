"""What makes a printed page look like paper: grid, names, pulse, scanner.

Pure functions of an image (and a key); all are off for training by default.
Add names and pulse to the ink, then the grid, then the scanner.

Specification: ECG images, section 6 (line width, gain, speed and layout belong
to `ecgjax.paper`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from ecgjax.paper import Paper
from ecgjax.synthesis import raster

MINOR = (1.0, 0.88, 0.86)  # pale red, RGB
MAJOR = (0.96, 0.72, 0.69)
PULSE_SECONDS, PULSE_MV = 0.2, 1.0
BLOCK = 8  # pixels, as JPEG

# 5 x 7 pixels, one hexadecimal number of five bits per row of pixels.
_GLYPHS = {
  'I': (0x0E, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0E),
  'V': (0x11, 0x11, 0x11, 0x11, 0x11, 0x0A, 0x04),
  'R': (0x1E, 0x11, 0x11, 0x1E, 0x14, 0x12, 0x11),
  'L': (0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1F),
  'F': (0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x10),
  'a': (0x00, 0x00, 0x0E, 0x01, 0x0F, 0x11, 0x0F),
  '1': (0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E),
  '2': (0x0E, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1F),
  '3': (0x1F, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0E),
  '4': (0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02),
  '5': (0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E),
  '6': (0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E),
}  # fmt: skip


def bitmap(name: str) -> np.ndarray:
  """A lead name as pixels: [7, 6 n - 1] of 0 and 1."""
  glyphs = [
    [[row >> (4 - x) & 1 for x in range(5)] + [0] for row in _GLYPHS[letter]]
    for letter in name
  ]
  return np.concatenate(glyphs, axis=1)[:, :-1].astype(np.float32)


def name_leads(ink, paper: Paper):
  """Writes the lead names above the start of each segment: ink [H, W] -> same.

  One font pixel is one image pixel up to 4 px/mm, two at 5 to 9, and so on.
  """
  names = np.zeros(ink.shape, np.float32)
  size = max(1, -(-paper.resolution // 4))
  margin = paper.resolution
  for row, segments in enumerate(paper.segments(ink.shape[1])):
    base = (row + 1) * paper.pitch * paper.resolution
    for segment in segments:
      text = np.kron(bitmap(segment.lead), np.ones((size, size)))
      # Half a pitch above the base line.
      bottom = base - paper.pitch * paper.resolution // 2
      top, left = bottom - len(text), segment.start + margin
      right = min(left + text.shape[1], segment.stop)
      names[top:bottom, left:right] = text[:, : right - left]
  return jnp.maximum(ink, names)


def add_pulse(ink, paper: Paper):
  """Puts the calibration pulse, 1 mV for 200 ms, at the left of every row.

  Args:
    ink: [H, W].
    paper: see `ecgjax.paper`.

  Returns:
    [H, W + 5 m]: 5 mm wider at 25 mm/s, 10 mm at 50.
  """
  width = round(PULSE_SECONDS * paper.speed * paper.resolution)
  rows = (len(paper.rows), width)
  high = jnp.full(rows, PULSE_MV, ink.dtype)
  low = high.at[:, jnp.array([0, -1])].set(0)
  return jnp.concatenate([raster.draw(low, high, paper), ink], axis=1)


def add_grid(ink, resolution: int, minor=MINOR, major=MAJOR):
  """Prints the ink on millimetre paper.

  Args:
    ink: [H, W] in [0, 1].
    resolution: px/mm.
    minor, major: RGB of the lines every 1 mm and every 5 mm.

  Returns:
    RGB [H, W, 3] in [0, 1].
  """

  def lines(pitch):
    y, x = (np.arange(n) % pitch == 0 for n in ink.shape)
    return y[:, None, None] | x[None, :, None]

  paper = np.where(lines(resolution), np.float32(minor), np.float32(1))
  paper = np.where(lines(5 * resolution), np.float32(major), paper)
  return paper * (1 - ink[..., None])


def scan(key, image):
  """A scan of a page: rotated, blurred, unevenly lit, compressed.

  Args:
    key: random key; the same key gives the same scan.
    image: [H, W, 3] in [0, 1], 1 for white.

  Returns:
    [H, W, 3] in [0, 1].
  """
  keys = jax.random.split(key, 6)
  image = _rotate(keys[0], image)
  image = _blur(keys[1], image)
  image = _light(keys[2], image)
  tint = jax.random.uniform(keys[3], (3,), minval=0.9, maxval=1.0)
  gamma = jnp.exp(jax.random.uniform(keys[4], minval=-0.3, maxval=0.3))
  image = jnp.clip(image * tint, 0, 1) ** gamma
  return jnp.clip(_compress(keys[5], image), 0, 1)


def _rotate(key, image):
  """By up to 2 degrees about the centre; white comes in from outside."""
  angle = jnp.deg2rad(jax.random.uniform(key, minval=-2.0, maxval=2.0))
  height, width, _ = image.shape
  y, x = jnp.mgrid[:height, :width]
  y, x = y - (height - 1) / 2, x - (width - 1) / 2
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  where = (
    cos * y - sin * x + (height - 1) / 2,
    sin * y + cos * x + (width - 1) / 2,
  )
  turn = lambda plane: map_coordinates(plane, where, 1, cval=1)
  return jnp.stack([turn(image[..., c]) for c in range(3)], axis=-1)


def _blur(key, image):
  """Three taps both ways, of a Gaussian of 0.2 to 0.7 pixels."""
  sigma = jax.random.uniform(key, minval=0.2, maxval=0.7)
  side = jnp.exp(-0.5 / sigma**2)
  centre, side = 1 / (1 + 2 * side), side / (1 + 2 * side)
  for axis in (0, 1):
    edges = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    wide = jnp.pad(image, edges, mode='edge')
    before = jax.lax.slice_in_dim(wide, 0, image.shape[axis], axis=axis)
    after = jax.lax.slice_in_dim(wide, 2, None, axis=axis)
    image = centre * image + side * (before + after)
  return image


def _light(key, image):
  """Up to a fifth darker towards one side."""
  angle_key, depth_key = jax.random.split(key)
  angle = jax.random.uniform(angle_key, maxval=2 * np.pi)
  depth = jax.random.uniform(depth_key, maxval=0.2)
  y, x = (jnp.linspace(-0.5, 0.5, n) for n in image.shape[:2])
  slope = jnp.sin(angle) * y[:, None] + jnp.cos(angle) * x[None]
  return image * (1 - depth * (0.5 + slope / np.sqrt(2)))[..., None]


def _compress(key, image):
  """Rounds the cosine transform of 8 x 8 blocks, coarser for high waves."""
  step = jax.random.uniform(key, minval=0.01, maxval=0.06)
  k = np.arange(BLOCK)
  basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * BLOCK))
  basis *= np.where(k[:, None] == 0, 1, np.sqrt(2)) / np.sqrt(BLOCK)
  basis = jnp.asarray(basis, image.dtype)
  height, width, _ = image.shape
  edges = [(0, -height % BLOCK), (0, -width % BLOCK), (0, 0)]
  wide = jnp.pad(image, edges, mode='edge')
  rows, columns = (n // BLOCK for n in wide.shape[:2])
  blocks = wide.reshape(rows, BLOCK, columns, BLOCK, 3)
  waves = jnp.einsum('fy,gx,ryqxc->rfqgc', basis, basis, blocks)
  steps = step * (1 + k[:, None, None, None] + k[:, None])
  waves = jnp.round(waves / steps) * steps
  blocks = jnp.einsum('fy,gx,rfqgc->ryqxc', basis, basis, waves)
  return blocks.reshape(wide.shape)[:height, :width]
