"""The 12-lead ECG on paper: 25 mm/s, 10 mm/mV, at true size.

A small square is 1 mm (40 ms, 0.1 mV), a large one 5 mm (200 ms, 0.5 mV). Axes
are in millimetres, and figures have the page's size, so that a print can be
measured with a ruler. Layouts:

* '3x4+1': four columns of three leads, continuous in time (column c shows the
  c-th quarter), and lead II over the whole time below;
* '12x1': one row per lead.

Figures are made without pyplot: no global state, no display needed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import ndimage

from ecgjax.ecg.leads import LEADS, canonical, indices

SPEED = 25.0  # mm/s
GAIN = 10.0  # mm/mV
LAYOUTS = ('3x4+1', '12x1')

_MARGIN = 5.0  # mm of paper around everything
_PULSE = 10.0  # mm for the calibration pulse, left of every row
_HEADER, _FOOTER = 11.0, 7.0  # mm above and below the paper
_ROW_PITCH = {'3x4+1': 20.0, '12x1': 15.0}  # mm at least between base lines
_LARGEST = 60.0  # mm: beyond (an artefact), a trace may cross its neighbours
_CLEARANCE = 2.0  # mm between traces
_PAPER, _MINOR, _MAJOR = '#fffdfb', '#f8d5cf', '#eda59b'
_INK, _ABSENT, _EVIDENCE = '#101010', '#9a8f8c', '#1f5fd0'


class _Segment(NamedTuple):
  """A stretch of one lead on the page; `ecg` is None for an absent lead."""

  row: int
  lead: str
  first: int  # sample of the window at its left end
  ecg: np.ndarray | None  # [N] millivolts
  attribution: np.ndarray | None  # [N] in [0, 1]


def plot_ecg(
  ecg: np.ndarray,
  rate: float,
  leads: Sequence[str] = LEADS,
  *,
  layout: str | None = None,
  title: str = '',
  synthetic: bool = False,
  attribution: np.ndarray | None = None,
  start: float = 0.0,
  seconds: float = 10.0,
) -> Figure:
  """Draws an ECG on ECG paper.

  Every stretch is drawn about its own median, so that an offset or drift of the
  electrode does not push it off its row; nothing is filtered.

  Args:
    ecg: [L, C] millivolts; NaN leaves a gap.
    rate: sampling rate, Hz.
    leads: C names, any subset of the twelve in any order.
    layout: one of `LAYOUTS`; default '3x4+1' for twelve leads, else '12x1'.
    title: record, labels, ...
    synthetic: True for simulated or generated ECGs; the page says so.
    attribution: [L, C] non-negative; the trace is underlaid with blue, full at
      the 99th percentile.
    start: first second shown.
    seconds: duration shown, at most.

  Returns:
    The figure; `figure.savefig(path)` writes PNG, SVG or PDF.

  Raises:
    ValueError: for another shape, an unknown lead or layout, an infinite
      sample, or a window outside the recording.
  """
  ecg = np.asarray(ecg, np.float64)
  leads = [canonical(name) for name in leads]
  indices(leads)
  if ecg.ndim != 2 or ecg.shape[1] != len(leads):
    raise ValueError(f'ecg has shape {ecg.shape}; leads are {", ".join(leads)}')
  if np.isinf(ecg).any():
    raise ValueError('ecg holds infinite samples')
  layout = layout or ('3x4+1' if len(leads) == 12 else '12x1')
  if layout not in LAYOUTS:
    raise ValueError(
      f'layout is {layout!r}; choose one of {", ".join(LAYOUTS)}'
    )
  first = round(start * rate)
  window = slice(first, first + round(seconds * rate))
  if start < 0 or len(ecg[window]) < 2:
    raise ValueError(
      f'seconds {start} to {start + seconds} hold no signal; the recording '
      f'has {len(ecg) / rate:g} s'
    )
  ecg = ecg[window]
  if attribution is not None:
    attribution = _scale_attribution(attribution, window, ecg.shape)

  segments = _arrange(ecg, attribution, leads, layout)
  base, height = _base_lines(segments, len(ecg), rate, layout)
  duration = len(ecg) / rate
  width = 2 * _MARGIN + _PULSE + np.ceil(duration * SPEED / 5) * 5
  figure = Figure(figsize=(width / 25.4, (height + _HEADER + _FOOTER) / 25.4))
  total = height + _HEADER + _FOOTER
  axes = figure.add_axes((0, _FOOTER / total, 1, height / total))
  axes.set(xlim=(0, width), ylim=(0, height))
  axes.set_axis_off()
  _draw_paper(axes, width, height)
  for y in base:
    _draw_pulse(axes, y)
  for segment in segments:
    _draw_segment(axes, segment, base[segment.row], rate)
  _annotate(figure, title, synthetic, rate, attribution is not None, width)
  return figure


def _scale_attribution(attribution, window, shape) -> np.ndarray:
  """Attribution of the window in [0, 1]."""
  attribution = np.asarray(attribution, np.float64)[window]
  if attribution.shape != shape or not np.all(attribution >= 0):
    raise ValueError(
      'attribution must be non-negative and have the shape of ecg; found '
      f'{attribution.shape} in the window, ecg has {shape}'
    )
  full = np.quantile(attribution, 0.99)
  return np.clip(attribution / full if full > 0 else attribution, 0, 1)


def _arrange(ecg, attribution, leads, layout) -> list[_Segment]:
  """Which samples of which lead go where."""
  size = len(ecg)

  def segment(row, lead, first, last):
    if lead not in leads:
      return _Segment(row, lead, first, None, None)
    part, column = slice(first, last), leads.index(lead)
    shown = None if attribution is None else attribution[part, column]
    trace = ecg[part, column]
    if not np.isnan(trace).all():
      trace = trace - np.nanmedian(trace)
    return _Segment(row, lead, first, trace, shown)

  if layout == '12x1':
    return [segment(row, lead, 0, size) for row, lead in enumerate(leads)]
  cuts = [round(size * quarter / 4) for quarter in range(5)]
  segments = [
    # One sample more than the quarter reaches the next column.
    segment(row, LEADS[3 * c + row], cuts[c], cuts[c + 1] + 1)
    for row in range(3)
    for c in range(4)
  ]
  rhythm = 'II' if 'II' in leads else leads[0]
  return [*segments, segment(3, rhythm, 0, size)]


def _base_lines(segments, size, rate, layout) -> tuple[list[float], float]:
  """Heights of the zero lines and of the paper, on the 5 mm grid.

  Rows stand as far apart as the traces above each other need, and the paper
  holds the deepest and the highest of them.
  """
  near = 1 + round(0.2 * rate)  # samples that stand side by side, 5 mm
  rows = 1 + max(segment.row for segment in segments)
  page = np.zeros((rows, size))  # mm above the row's base line
  for segment in segments:
    if segment.ecg is not None:
      part = slice(segment.first, segment.first + len(segment.ecg))
      page[segment.row, part] = np.nan_to_num(GAIN * segment.ecg)

  def whole(distance):
    return float(np.ceil(min(distance, _LARGEST) / 5) * 5)

  base = [0.0]
  for above, below in zip(page[:-1], page[1:]):
    highest = ndimage.maximum_filter1d(below, near)
    lowest = ndimage.minimum_filter1d(above, near)
    needed = np.max(highest - lowest) + _CLEARANCE
    base.append(base[-1] - max(_ROW_PITCH[layout], whole(needed)))
  heights = page + np.array(base)[:, None]
  top = whole(max(GAIN, np.max(heights)) + _MARGIN)
  bottom = whole(max(0.0, base[-1] - np.min(heights)) + _MARGIN)
  return [y - base[-1] + bottom for y in base], bottom - base[-1] + top


def _draw_paper(axes, width: float, height: float) -> None:
  """Grid of 1 mm and 5 mm squares."""
  axes.add_patch(Rectangle((0, 0), width, height, color=_PAPER, zorder=0))
  for step, colour, line_width in ((1, _MINOR, 0.3), (5, _MAJOR, 0.6)):
    x, y = np.arange(0, width + 1, step), np.arange(0, height + 1, step)
    across = np.full(len(y), width)
    upwards = np.full(len(x), height)
    # One path per colour, broken by NaN: small files.
    xs = np.concatenate(
      [
        np.stack([x, x, x * np.nan], 1).ravel(),
        np.stack([y * 0, across, y * np.nan], 1).ravel(),
      ]
    )
    ys = np.concatenate(
      [
        np.stack([x * 0, upwards, x * np.nan], 1).ravel(),
        np.stack([y, y, y * np.nan], 1).ravel(),
      ]
    )
    axes.plot(xs, ys, color=colour, linewidth=line_width, zorder=1)


def _draw_pulse(axes, y: float) -> None:
  """Calibration: 1 mV for 200 ms."""
  x = _MARGIN + np.array([0, 2.5, 2.5, 7.5, 7.5, 10])
  axes.plot(
    x, y + GAIN * np.array([0, 0, 1, 1, 0, 0]), color=_INK, linewidth=0.7,
    solid_joinstyle='miter', zorder=3,
  )  # fmt: skip


def _draw_segment(axes, segment: _Segment, y: float, rate: float) -> None:
  """Trace, lead name, and a mark where a column begins."""
  x, ecg = _MARGIN + _PULSE + segment.first / rate * SPEED, segment.ecg
  if segment.first:
    axes.plot([x, x], [y - 2, y + 2], color=_INK, linewidth=0.7, zorder=3)
  if ecg is None:
    axes.text(
      x + 1, y + 5, f'{segment.lead} not recorded', color=_ABSENT,
      fontsize=8, zorder=4,
    )  # fmt: skip
    return
  xs = x + np.arange(len(ecg)) / rate * SPEED
  ys = y + GAIN * ecg
  if segment.attribution is not None:
    points = np.stack([xs, ys], axis=1)
    shown = np.maximum(segment.attribution[1:], segment.attribution[:-1])
    lines = LineCollection(
      list(np.stack([points[:-1], points[1:]], axis=1)),
      linewidths=5, color=_EVIDENCE, alpha=0.75 * shown, capstyle='butt',
      zorder=2, rasterized=True,
    )  # fmt: skip
    axes.add_collection(lines, autolim=False)
  axes.plot(
    xs, ys, color=_INK, linewidth=0.8, solid_joinstyle='round', zorder=3
  )
  beginning = ecg[: max(1, round(0.3 * rate))]
  highest = np.nanmax(beginning) if not np.isnan(beginning).all() else 0.0
  axes.text(
    x + 1, y + min(max(4.0, GAIN * highest + 1.5), 25.0), segment.lead,
    color=_INK, fontsize=9, fontweight='bold', zorder=4,
  )  # fmt: skip


def _annotate(figure, title, synthetic, rate, attributed, width) -> None:
  """Title above the paper, scale below it."""
  left = _MARGIN / width
  height = figure.get_size_inches()[1] * 25.4
  top = 1 - 0.5 * _HEADER / height
  if synthetic:
    figure.text(
      1 - left, top, 'SYNTHETIC ECG, not a patient', color='#b00020',
      fontsize=10, fontweight='bold', ha='right', va='center',
    )  # fmt: skip
  figure.text(left, top, title, fontsize=10, va='center', color=_INK)
  scale = f'{SPEED:g} mm/s, {GAIN:g} mm/mV, {rate:g} Hz'
  if attributed:
    scale += ', blue: attribution'
  figure.text(left, 0.5 * _FOOTER / height, scale, fontsize=8, va='center')
