"""The 12-lead plot, measured with a ruler."""

import io

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from ecgjax.ecg import leads as leads_lib
from ecgjax.ecg import plot


def _traces(figure):
  """Ink of the page: calibration pulses, ticks and traces, by kind."""
  found = {'pulse': [], 'tick': [], 'trace': []}
  for line in figure.axes[0].lines:
    if line.get_color() != plot._INK:
      continue
    points = np.column_stack(line.get_data())
    kind = {2: 'tick', 6: 'pulse'}.get(len(points), 'trace')
    found[kind].append(points)
  return found


def _ramps(rate=100, seconds=10):
  """[L, 12]: lead k holds k + 1 in hundredths of mV, and the time in nV."""
  time = np.arange(round(rate * seconds)) / rate
  return 0.01 * (1 + np.arange(12)) * np.sin(time)[:, None]


def test_paper_speed_gain_and_pulse():
  rate = 250
  ecg = np.zeros((2500, 1))
  ecg[1000:1050] = 1.0  # 1 mV for 200 ms, 4 s after the beginning
  figure = plot.plot_ecg(ecg, rate, ['V3'])
  found = _traces(figure)
  (trace,), (pulse,) = found['trace'], found['pulse']
  assert np.ptp(pulse[:, 1]) == 10  # 1 mV is 10 mm
  high = pulse[pulse[:, 1] == pulse[:, 1].max()]
  assert np.ptp(high[:, 0]) == 5  # 200 ms are 5 mm
  base = pulse[:, 1].min()
  np.testing.assert_allclose(trace[1000:1050, 1], base + 10)
  np.testing.assert_allclose(trace[:1000, 1], base)
  np.testing.assert_allclose(trace[1000, 0] - trace[0, 0], 4 * 25)
  assert base % 5 == 0 and trace[0, 0] % 5 == 0  # on the grid
  # Millimetres of the axes are millimetres of the page.
  axes = figure.axes[0]
  box = axes.get_position()
  width, height = np.array(figure.get_size_inches()) * 25.4
  np.testing.assert_allclose(width * box.width, np.ptp(axes.get_xlim()))
  np.testing.assert_allclose(height * box.height, np.ptp(axes.get_ylim()))


def test_grid_has_a_line_per_millimetre():
  figure = plot.plot_ecg(np.zeros((1000, 12)), 100)
  axes = figure.axes[0]
  lines = {line.get_color(): line for line in axes.lines}
  for colour, step in ((plot._MINOR, 1), (plot._MAJOR, 5)):
    x, y = lines[colour].get_data()
    upright = x[np.append(x[:-1] == x[1:], False)]
    np.testing.assert_array_equal(
      np.unique(upright), np.arange(0, np.ptp(axes.get_xlim()) + 1, step)
    )
    level = y[np.append(y[:-1] == y[1:], False)]
    assert set(np.diff(np.unique(level))) == {step}


@pytest.mark.parametrize('rate', [100, 204.8, 500])
def test_three_by_four_is_continuous_in_time(rate):
  ecg = _ramps(rate)
  figure = plot.plot_ecg(ecg, rate)
  traces = _traces(figure)['trace']
  assert len(traces) == 13
  names = [text.get_text() for text in figure.axes[0].texts]
  assert sorted(names) == sorted([*leads_lib.LEADS, 'II'])
  left = plot._MARGIN + plot._PULSE
  for lead, trace in zip(names, traces):
    position = leads_lib.LEADS.index(lead)
    samples = np.round((trace[:, 0] - left) / 25 * rate).astype(int)
    shown = ecg[samples, position] - np.median(ecg[samples, position])
    offset = trace[:, 1] - 10 * shown
    np.testing.assert_allclose(offset, offset[0], atol=1e-9)
    if len(samples) < len(ecg):  # not the rhythm strip
      quarter = position // 3
      assert abs(samples[0] - quarter * len(ecg) / 4) <= 1
      assert abs(samples[-1] - (quarter + 1) * len(ecg) / 4) <= 1


def test_leads_are_found_by_name():
  ecg = _ramps()
  order = [5, 0, 11, 3]
  leads = [leads_lib.LEADS[i].lower() for i in order]
  figure = plot.plot_ecg(ecg[:, order], 100, leads)
  names = [text.get_text() for text in figure.axes[0].texts]
  assert names == [leads_lib.LEADS[i] for i in order]
  for i, trace in zip(order, _traces(figure)['trace']):
    np.testing.assert_allclose(np.ptp(trace[:, 1]), 10 * np.ptp(ecg[:, i]))


def test_missing_leads_are_named_as_missing():
  independent = list(leads_lib.INDEPENDENT_LEADS)
  figure = plot.plot_ecg(np.zeros((1000, 8)), 100, independent, layout='3x4+1')
  names = [text.get_text() for text in figure.axes[0].texts]
  absent = {name.split()[0] for name in names if 'not recorded' in name}
  assert absent == {'III', 'aVR', 'aVL', 'aVF'}
  assert len(_traces(figure)['trace']) == 9


def test_twelve_rows():
  figure = plot.plot_ecg(_ramps(), 100, layout='12x1')
  traces = _traces(figure)['trace']
  assert len(traces) == 12 and {len(trace) for trace in traces} == {1000}
  heights = [trace[:, 1].mean() for trace in traces]
  assert heights == sorted(heights, reverse=True)


def test_tall_complexes_neither_touch_nor_leave_the_paper():
  ecg = np.zeros((1000, 12))
  ecg[600:603, 7] = -3.5  # V2, deep S wave
  ecg[602:605, 8] = 2.0  # V3 below it, tall R wave
  figure = plot.plot_ecg(ecg, 100)
  axes = figure.axes[0]
  traces = dict(
    zip(
      [t.get_text() for t in axes.texts],
      [line for line in _traces(figure)['trace']],
    )
  )
  assert traces['V2'][:, 1].min() > traces['V3'][:, 1].max()
  everything = np.concatenate(list(traces.values()))
  assert everything[:, 1].min() > 0
  assert everything[:, 1].max() < axes.get_ylim()[1]


def test_window_and_offset():
  ecg = np.full((6000, 12), 3.0)  # an offset of 3 mV, 60 s
  ecg[2000:] = -1.0
  figure = plot.plot_ecg(ecg, 100, start=30, seconds=5)
  strip = _traces(figure)['trace'][-1]
  assert len(strip) == 500
  pulses = _traces(figure)['pulse']
  np.testing.assert_allclose(strip[:, 1], pulses[-1][:, 1].min())
  with pytest.raises(ValueError, match='has 60 s'):
    plot.plot_ecg(ecg, 100, start=61)


def test_gaps_stay_gaps():
  ecg = _ramps()
  ecg[300:400, 1] = np.nan
  ecg[:, 6] = np.nan
  traces = _traces(plot.plot_ecg(ecg, 100, layout='12x1'))['trace']
  assert np.isnan(traces[1][300:400, 1]).all()
  assert not np.isnan(traces[1][:300, 1]).any()
  assert np.isnan(traces[6][:, 1]).all()


def _words(figure):
  return ' '.join(text.get_text() for text in figure.texts)


def test_synthetic_is_said_on_the_page():
  ecg = np.zeros((1000, 12))
  words = _words(plot.plot_ecg(ecg, 100, title='LBBB', synthetic=True))
  assert 'SYNTHETIC' in words and 'LBBB' in words
  assert '25 mm/s' in words and '10 mm/mV' in words and '100 Hz' in words
  assert 'SYNTHETIC' not in _words(plot.plot_ecg(ecg, 100))


def test_attribution_underlays_its_samples():
  ecg = _ramps()
  attribution = np.zeros_like(ecg)
  attribution[300:340, 3] = 2.0  # aVR, inside its quarter
  attribution[900:, 3] = 2.0  # outside
  figure = plot.plot_ecg(ecg, 100, attribution=attribution)
  shades = {
    text.get_text(): lines.get_alpha()
    for text, lines in zip(
      figure.axes[0].texts,
      [c for c in figure.axes[0].collections if isinstance(c, LineCollection)],
    )
  }
  assert np.max(shades['V6']) == 0
  shade = np.asarray(shades['aVR'])
  assert np.all(shade[50:89] == 0.75) and np.all(shade[100:] == 0)
  with pytest.raises(ValueError, match='non-negative'):
    plot.plot_ecg(ecg, 100, attribution=-attribution)


@pytest.mark.parametrize(
  'arguments, message',
  [
    (dict(ecg=np.zeros((100, 11))), 'leads are'),
    (dict(ecg=np.full((100, 12), np.inf)), 'infinite'),
    (dict(layout='2x6'), "layout is '2x6'"),
    (dict(leads=['I', 'I'], ecg=np.zeros((100, 2))), 'duplicate'),
    (dict(leads=['X'], ecg=np.zeros((100, 1))), 'standard lead'),
  ],
)
def test_refusals(arguments, message):
  arguments = dict(ecg=np.zeros((100, 12)), rate=100) | arguments
  with pytest.raises(ValueError, match=message):
    plot.plot_ecg(**arguments)


def test_real_recordings_are_drawn_and_saved(recordings):
  """Two rates of one PTB-XL record agree on paper within half a millimetre."""
  pages = []
  for folder, rate in (('records100', 100), ('records500', 500)):
    path = next((recordings / 'ptbxl' / folder).rglob('00180_?r.dat'))
    ecg = np.fromfile(path, '<i2').reshape(-1, 12) / 1000
    figure = plot.plot_ecg(ecg, rate)
    pages.append(_traces(figure)['trace'])
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=60)
    assert len(buffer.getvalue()) > 20_000
  slow, fast = (page[-1] for page in pages)
  at = np.interp(slow[:, 0], fast[:, 0], fast[:, 1] - fast[:, 1].mean())
  difference = at - (slow[:, 1] - slow[:, 1].mean())
  assert np.sqrt(np.mean(difference**2)) < 0.5
