"""Each class looks like itself, measured on averaged noise-free beats.

Figures: those measured on 100 records per class when the model was made, with
wide margins.
"""

import numpy as np
import pytest

from ecgjax.simulator import simulator, tables
from tests.simulator import measure, simulated

RATE = 500
SINUS = ('NORM', '1AVB', 'LBBB', 'RBBB', 'STD', 'STE', 'MI')


def beats_of(records, name, **kwargs):
  beats = measure.beats(records.of(name), **kwargs)
  # In bundle branch block the QRS begins earlier.
  pq = (-0.080, -0.070) if name in ('LBBB', 'PACE') else measure.PQ
  return measure.from_pq(beats, RATE, pq)


def amplitudes(records):
  return measure.patients(simulated.SEED, records.patients).amplitude


def test_heart_rate(classes):
  rate = {name: classes.of(name).truth.rate for name in simulator.CLASSES}
  assert 48 < rate['NORM'].min() and rate['NORM'].max() < 102
  assert 62 < np.median(rate['NORM']) < 82
  assert 68 < np.median(rate['AF']) < 100
  assert rate['AFL'].min() > 58 and rate['AFL'].max() < 164
  assert np.ptp(rate['AFL']) > 60  # 2:1 to 4:1


def test_variation_of_rr(classes):
  variation = {
    name: np.array(
      [rr.std(ddof=1) / rr.mean() for rr in measure.intervals(classes.of(name))]
    )
    for name in simulator.CLASSES
  }
  for name in SINUS:
    assert (variation[name] > 0.010).all() and (variation[name] < 0.035).all()
  assert 0.14 < np.median(variation['AF']) < 0.31
  assert 0.20 < np.median(variation['PVC']) < 0.36
  assert 0.10 < np.median(variation['PAC']) < 0.22
  assert (variation['AFL'] < 1e-4).mean() > 0.6  # fixed conduction
  assert variation['AFL'].max() > 0.1  # varying conduction


@pytest.mark.parametrize(
  'name, latest, shortest, longest, median',
  [
    ('NORM', 0.080, 80, 112, 94),
    ('MI', 0.080, 76, 116, 94),
    ('LBBB', 0.130, 132, 196, 162),
    ('RBBB', 0.130, 124, 180, 150),
    ('PVC', 0.130, 140, 240, 169),
  ],
)
def test_qrs_duration(classes, name, latest, shortest, longest, median):
  """Measured from the tracing, and against the ground truth."""
  records = classes.of(name)
  beats = measure.beats(records, ectopic=2 if name == 'PVC' else 0)
  on, off = measure.qrs_span(beats, RATE, amplitudes(records), latest)
  width = 1000 * (off - on)  # ms
  assert (width >= shortest).all() and (width <= longest).all()
  assert abs(np.median(width) - median) <= 8
  if name != 'PVC':
    assert np.abs(width - 1000 * records.truth.qrs).max() < 16


def test_pr_and_qt(classes):
  for name in simulator.CLASSES:
    truth = classes.of(name).truth
    pr = 1000 * truth.pr
    if name in ('AF', 'AFL'):
      assert np.isnan(pr).all() and np.isnan(truth.p_peak).all()
    elif name == '1AVB':
      assert (pr >= 225).all() and (pr <= 320).all()
    else:
      assert (pr > 124.9).all() and (pr < 195.1).all()
      assert abs(np.median(pr) - 162) < 15
    if name in SINUS:  # every P wave is as far from the QRS that follows
      for p, qrs, expected in zip(truth.p_on, truth.qrs_on, pr):
        p, qrs = p[p < 9.5], qrs[~np.isnan(qrs)]
        following = qrs[np.searchsorted(qrs, p)]
        np.testing.assert_allclose(1000 * (following - p), expected, atol=0.1)
  truth = classes.of('NORM').truth
  qtc = 1000 * truth.qt * (truth.rate / 60) ** (1 / 3)
  assert 360 < np.median(qtc) < 395


def test_left_bundle_branch_block(classes):
  beats = beats_of(classes, 'LBBB')
  late = beats[:, measure.at(RATE, 0.060)]
  assert (measure.lead(late, 'V1') < -0.30).all()
  assert (measure.leads(late, 'I', 'V6') > 0.10).all()
  early = measure.leads(beats, 'I', 'V6')[:, measure.at(RATE, -0.10, 0.0)]
  assert early.min() > -0.05  # no q


def test_right_bundle_branch_block(classes):
  late = beats_of(classes, 'RBBB')[:, measure.at(RATE, 0.060)]
  assert (measure.lead(late, 'V1') > 0.30).all()
  assert (measure.leads(late, 'I', 'V6') < -0.10).all()


def test_premature_beats_and_their_pauses(classes):
  """Intervals around an ectopic beat, in sinus intervals of that heart.

  The records of a patient share their random numbers, so that the sinus rhythm
  under the premature beats is that of his normal record.
  """
  normal = [rr.mean() for rr in measure.intervals(classes.of('NORM'))]
  around = {'PAC': [], 'PVC': []}
  for name, kind in (('PAC', 1), ('PVC', 2)):
    records = classes.of(name)
    assert (records.truth.ectopic == kind).any(axis=1).all()
    for r, ectopic, rr in zip(records.truth.r, records.truth.ectopic, normal):
      for k in np.flatnonzero(ectopic == kind):
        if 1 <= k < len(r) - 1:
          before, after = np.diff(r[k - 1 : k + 2])
          if not np.isnan(before + after):
            assert before < 0.85 * rr
            around[name].append((before + after) / rr)
  assert abs(np.median(around['PVC']) - 2) < 0.12  # compensatory pause
  assert abs(np.median(around['PAC']) - 1.79) < 0.12
  assert max(around['PAC']) < 2


def test_p_waves(classes):
  height = {}
  window = measure.at(RATE, -0.220, -0.100)
  for name in ('NORM', 'AF', 'AFL'):
    lead_ii = measure.lead(beats_of(classes, name), 'II')
    height[name] = np.median(np.abs(lead_ii[:, window]).max(axis=1))
  assert height['NORM'] > 0.07
  assert height['AF'] < 0.06
  assert height['AFL'] > 0.12  # flutter waves


def test_atrial_waves_in_v1(classes):
  """Peak to peak in V1 between the T wave and the QRS, every beat."""
  size = {}
  for name in ('NORM', 'AF', 'AFL'):
    records = classes.of(name)
    size[name] = [
      np.ptp(measure.lead(ecg, 'V1')[round(r * RATE) - 130 :][:90])
      for ecg, times in zip(records.ecg, records.truth.r)
      for r in times[times > 0.4]
    ]
  assert 0.03 < np.median(size['AF']) < 0.20
  assert 0.05 < np.median(size['AFL']) < 0.30


def test_st_segment(classes):
  j60 = measure.at(RATE, 0.102)
  normal = beats_of(classes, 'NORM')[:, j60]
  # The T wave has begun: V3 is highest.
  assert np.median(normal, axis=0).max() < 0.08
  assert np.median(normal, axis=0).min() > -0.06
  depression = measure.lead(beats_of(classes, 'STD')[:, j60], 'V5')
  assert -0.20 < np.median(depression) < -0.12
  assert (depression < -0.05).all()
  elevation = beats_of(classes, 'STE')[:, j60]
  where = {
    0: ('V1', 'V2', 'V3', 'V4'),
    1: ('II', 'III', 'aVF'),
    2: ('I', 'aVL', 'V5', 'V6'),
  }
  territory = classes.of('STE').truth.territory
  assert set(territory) == {0, 1, 2}
  for row, place in zip(elevation, territory):
    assert np.sort(measure.leads(row, *where[place]))[-2] >= 0.1


def test_infarction(classes):
  """Q waves in the leads of the territory, and only with infarction."""
  early = measure.at(RATE, -0.050, -0.005)
  territory = classes.of('MI').truth.territory
  leads = {0: ['V3'], 1: ['III', 'aVF'], 2: ['I', 'aVL', 'V6']}
  limit = {0: -0.12, 1: -0.15, 2: -0.20}
  depth = {
    name: beats_of(classes, name)[:, early].min(axis=1)
    for name in ('MI', 'NORM')
  }
  for place, names in leads.items():
    rows = territory == place
    infarct = measure.leads(depth['MI'], *names)[rows]
    assert (infarct < limit[place]).all()
    assert (np.median(infarct, axis=0) < -0.2).all()
    normal = measure.leads(depth['NORM'], *names)[rows]
    assert (normal - infarct > 0.1).all()
  qrs = measure.at(RATE, -0.050, 0.060)
  anterior = territory == 0
  r_v2 = {
    name: measure.lead(beats_of(classes, name), 'V2')[:, qrs].max(axis=1)
    for name in ('MI', 'NORM')
  }
  assert np.median(r_v2['MI'][anterior]) < 0.3
  assert np.median(r_v2['NORM'][anterior]) > 0.3


def test_fiducials_enclose_the_waves(classes):
  """Where the truth says nothing happens, the tracing is still."""
  records = classes.of('NORM')
  slopes = np.abs(np.gradient(records.ecg, 1 / RATE, axis=1)).max(axis=2)
  for slope, truth in zip(slopes, zip(*records.truth)):
    truth = simulator.Truth(*truth)
    time = np.arange(5000) / RATE
    waves = np.zeros(5000, bool)
    for on, off in (
      (truth.p_on, truth.p_off),
      (truth.qrs_on, truth.qrs_off),
      (truth.t_on, truth.t_off),
    ):
      for first, last in zip(on, off):
        waves |= (time > first) & (time < last)
    seen = truth.r[~np.isnan(truth.r)]
    between = ~waves & (time > seen[0]) & (time < seen[-1] - 0.4)
    # mV/s; in QRS up to 100, and its ends are where it falls below 6.
    assert slope[between].max() < 25
    assert (slope[between] > 6).mean() < 0.03
    assert np.median(slope[between]) < 0.5
    assert between.mean() > 0.2


@pytest.mark.parametrize('name', simulator.EXTRA_CLASSES)
def test_extra_classes(extras, name):
  """What the textbooks say of each extra class, at record level."""
  records = extras.of(name)
  truth, beside = records.truth, extras.of('NORM').truth
  if name == 'VF':
    assert np.isnan(truth.r).all() and np.isnan(truth.rate).all()
    spectrum = np.abs(np.fft.rfft(records.ecg[..., 1], axis=1)) ** 2
    hertz = np.fft.rfftfreq(5000, 1 / RATE)
    main = spectrum[:, (hertz > 3) & (hertz < 8)].sum(axis=1)
    assert (main > 0.9 * spectrum.sum(axis=1)).all()
    return
  ectopic = 2 if name == 'VT' else 0
  beats = measure.beats(records, ectopic)
  early = {'PACE': -0.080, 'WPW': -0.100}.get(name, -0.060)
  beats = measure.from_pq(beats, RATE, (early - 0.005, early + 0.005))
  qrs = beats[:, measure.at(RATE, -0.080, 0.090)]
  area = measure.leads(qrs, 'I', 'aVF').sum(axis=1)  # [N, 2]
  axis = np.degrees(np.arctan2(2 / np.sqrt(3) * area[:, 1], area[:, 0]))
  high = lambda lead: np.median(measure.lead(qrs, lead).max(axis=1))
  low = lambda lead: np.median(measure.lead(qrs, lead).min(axis=1))
  t_wave = beats[:, measure.at(RATE, 0.150, 0.400)]
  t_end = lambda lead: np.median(measure.lead(t_wave, lead).sum(axis=1))
  p_wave = beats[:, measure.at(RATE, -0.28, -0.06)]
  regular = np.array(
    [rr.std() / rr.mean() for rr in measure.intervals(records)]
  )
  if name == 'LVH':
    assert 3.0 < high('V5') - low('V1') < 5.0 and t_end('V5') < 0
  elif name == 'RVH':
    assert (axis > 90).all() and high('V1') > 0.6 and low('V6') < -0.25
    assert t_end('V1') < 0
  elif name == 'LAFB':
    assert (axis < -45).all() and low('III') < -0.9 and high('aVL') > 0.6
    assert 0.1 < high('III') < 0.6 and 0.05 < high('II') < 0.5
  elif name == 'WPW':
    assert (truth.pr < 0.12).all() and np.median(truth.qrs) > 0.11
  elif name == 'LQT':
    assert (truth.qt > 1.2 * beside.qt).all()
    qtc = truth.qt * (truth.rate / 60) ** (1 / 3)
    assert (qtc > 0.46).all()
  elif name == 'TWI':
    assert (measure.lead(t_wave, 'V5').sum(axis=1) < 0).all()
  elif name == 'LOWV':
    span = np.ptp(qrs, axis=1)
    assert np.median(span[:, :6].max(axis=1)) < 0.5
    assert np.median(span[:, 6:].max(axis=1)) < 1.0
  elif name == 'LAE':
    assert np.median(measure.lead(p_wave, 'V1').min(axis=1)) < -0.1
  elif name == 'RAE':
    assert np.median(measure.lead(p_wave, 'II').max(axis=1)) > 0.2
  elif name == 'SBRAD':
    assert 38 < truth.rate.min() and truth.rate.max() < 50  # as PTB-XL
  elif name == 'STACH':
    assert truth.rate.min() > 100
  elif name == 'VT':
    assert (truth.rate > 120).all() and (regular < 0.03).all()
    assert np.isnan(truth.p_peak).all() and (truth.qrs > 0.12).all()
  elif name == 'PACE':
    slope = np.abs(np.diff(measure.lead(beats, 'aVF'), axis=1)) * RATE
    before = measure.at(RATE, -0.085, -0.040)
    assert (slope[:, before].max(axis=1) > 100).all()  # the spike
    assert (truth.qrs > 0.12).all()
  elif name in ('MOBITZ1', 'MOBITZ2', '3AVB'):
    p = [x[~np.isnan(x)] for x in truth.p_peak]
    r = [x[~np.isnan(x)] for x in truth.r]
    assert all(len(a) > len(b) + 1 for a, b in zip(p, r))
    for a in p:  # the atria keep their pace
      assert np.diff(a).std() < 0.01
    if name == '3AVB':
      assert truth.rate.max() < 51 and (regular < 0.02).all()
      assert np.isnan(truth.pr).all()
    else:
      assert (regular > 0.15).all()
      longest = [np.diff(b).max() / np.diff(a).mean() for a, b in zip(p, r)]
      limit = 2.02 if name == 'MOBITZ2' else 1.96
      assert 1.6 < max(longest) < limit
  else:
    raise AssertionError(f'nothing is known about {name}')


def test_whose_bradycardia():
  """Any rule between 40 and 60 beats/min; only SBRAD follows it."""
  ids = np.arange(24)
  rows = [simulator.factors('SBRAD')] * 12 + [simulator.factors()] * 12
  rate = {}
  for limit in (50.0, 60.0):
    config = simulator.Config(100, 1000, bradycardia=limit)
    truth = simulator.ground_truth(3, ids, 0 * ids, rows, config)
    rate[limit] = np.asarray(truth.rate)
    assert rate[limit][:12].max() < limit
  assert rate[60.0][:12].max() > 50
  np.testing.assert_allclose(rate[50.0][12:], rate[60.0][12:], rtol=1e-6)
  with pytest.raises(ValueError, match='bradycardia is 100; it must lie in'):
    simulator.Config(bradycardia=100)


def test_extra_classes_are_bounded(extras):
  assert np.abs(extras.ecg).max() < 5
  assert np.ptp(extras.ecg, axis=1).max(axis=1).min() > 0.3


def test_100_hz_is_every_fifth_sample_of_500_hz(classes, slow_classes):
  difference = np.abs(classes.ecg[:, ::5] - slow_classes.ecg)
  assert difference.max() < 2e-4  # the edges of the windows, float32
  assert np.abs(slow_classes.ecg).max() > 1


def test_every_class_has_labels():
  assert len(tables.FACTORS) == 7
  for k, name in enumerate(simulator.ALL_CLASSES):
    row = simulator.labels(simulator.factors(name))
    assert row.sum() == 1 and row[k] == 1
