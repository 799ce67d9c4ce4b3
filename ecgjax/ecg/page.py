"""Geometry of a printed 12-lead ECG, in millimetres and pixels.

25 mm/s and 10 mm/mV: a small square of 1 mm is 40 ms by 0.1 mV, a large one of
5 mm 200 ms by 0.5 mV. The columns of a page are continuous in time: column c of
four shows its c-th quarter. See docs/methods.md, Pages.
"""

from typing import NamedTuple

from ecgjax.ecg import leads
from ecgjax.runtime.resolve import choose

SPEEDS = (25, 50)  # mm/s
GAINS = (5, 10, 20)  # mm/mV
LINES = (0.3, 0.6)  # mm, thinnest and thickest trace


def _rows(count: int) -> tuple[tuple[str, ...], ...]:
  """The twelve leads in `count` rows, column by column."""
  return tuple(leads.LEADS[row::count] for row in range(count))


_RHYTHM = (('II',), ('V1',), ('V5',))
# Rows of leads, mm between base lines, mm from the last one to the lower edge.
LAYOUTS = {
  '3x4': (_rows(3), 25, 20),
  '3x4+1': (_rows(3) + _RHYTHM[:1], 25, 20),
  '3x4+3': (_rows(3) + _RHYTHM, 25, 20),
  '6x2': (_rows(6), 25, 20),
  '12x1': (_rows(12), 16, 16),
}


class Segment(NamedTuple):
  """A stretch of a lead: pixel columns start to stop of a row."""

  lead: str
  start: int
  stop: int


class Paper(NamedTuple):
  """How an ECG is printed; made by `make`.

  Attributes:
    rows: leads of each row, in order of time.
    pitch: mm between base lines; the first lies one pitch below the upper edge.
      A trace is cut where it leaves the band of one pitch on both sides.
    bottom: mm from the last base line to the lower edge.
    resolution: px/mm.
    speed: mm/s.
    gain: mm/mV.
    line: mm, width of the trace; never below one pixel.
  """

  rows: tuple[tuple[str, ...], ...]
  pitch: int
  bottom: int
  resolution: int = 2
  speed: int = 25
  gain: float = 10
  line: float = 0.4

  @property
  def height(self) -> int:
    """Pixel rows of a page."""
    return (len(self.rows) * self.pitch + self.bottom) * self.resolution

  @property
  def px_per_mv(self) -> float:
    return self.gain * self.resolution

  def width(self, length: int, rate: float) -> int:
    """Pixel columns of a page.

    Args:
      length: samples of the record.
      rate: Hz.

    Raises:
      ValueError: if a column does not hold a whole number of samples.
    """
    columns = self.speed * self.resolution * length / rate
    if columns != int(columns) or length % int(columns):
      fits = [
        str(m)
        for m in range(1, 11)
        if (n := self.speed * m * length / rate) == int(n) and not length % n
      ]
      raise ValueError(
        f'{length} samples at {rate:g} Hz are {columns:g} pixel columns at '
        f'{self.resolution} px/mm and {self.speed} mm/s, which is no whole '
        'number of samples per column; resolutions that fit: '
        + (', '.join(fits) or 'none')
      )
    return int(columns)

  def segments(self, width: int) -> list[list[Segment]]:
    """Which lead stands where, row by row.

    Args:
      width: pixel columns.
    """
    table = []
    for row in self.rows:
      edges = [round(width * c / len(row)) for c in range(len(row) + 1)]
      table.append([Segment(*x) for x in zip(row, edges, edges[1:])])
    return table


def make(
  layout: str = '3x4+1',
  resolution: int = 2,
  speed: int = 25,
  gain: float = 10,
  line: float = 0.4,
) -> Paper:
  """Makes the paper of a layout; arguments as in `Paper`.

  Raises:
    ValueError: if something is not among `LAYOUTS`, `SPEEDS`, `GAINS` and
      `LINES`, or the resolution is no whole number from 1 on.
  """
  rows, pitch, bottom = choose('layout', layout, LAYOUTS)
  if resolution != int(resolution) or resolution < 1:
    raise ValueError(
      f'resolution is {resolution}; choose whole px/mm from 1 on'
    )
  for name, value, choices in (('speed', speed, SPEEDS), ('gain', gain, GAINS)):
    if value not in choices:
      raise ValueError(
        f'{name} is {value}; choose one of {", ".join(map(str, choices))}'
      )
  if not LINES[0] <= line <= LINES[1]:
    raise ValueError(f'line is {line}; choose {LINES[0]} to {LINES[1]} mm')
  return Paper(rows, pitch, bottom, int(resolution), speed, gain, line)
