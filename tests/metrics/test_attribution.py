"""Integrated gradients, waves and shares, against NumPy and closed forms."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.data.raw import ludb_waves
from ecgjax.ecg import delineation, leads
from ecgjax.ecg.contract import InputContract
from ecgjax.evaluators import attribution as attribution_lib
from ecgjax.metrics import attribution
from ecgjax.report import attribution as attribution_report
from ecgjax.report import page

CONTRACT = types.SimpleNamespace(leads=('II', 'V1'), rate=100.0, length=200)


def test_closed_form():
  """logit_k = sum w_k x^2: a = w_k x^2, whatever the number of steps."""
  rng = np.random.default_rng(0)
  weight = rng.normal(size=(3, 20, 2)).astype(np.float32)
  ecg = rng.normal(size=(4, 20, 2)).astype(np.float32)
  logits = lambda w, x: jnp.einsum('klc,blc->bk', w, x**2)
  attribute = attribution.make_integrated_gradients(logits, num_steps=3)
  classes = np.array([2, 0, 1, 2])
  values, change = attribute(weight, ecg, classes)
  expected = weight[classes] * ecg**2
  np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(change, expected.sum((1, 2)), rtol=1e-4)


def test_completeness_of_a_network():
  """Of what encoders are made of: convolution, ReLU, max-pool, average."""
  keys = jax.random.split(jax.random.key(0), 4)
  variables = {
    'kernel': jax.random.normal(keys[0], (5, 2, 8)),
    'bias': jax.random.normal(keys[1], (8,)),
    'head': jax.random.normal(keys[2], (8, 3)),
  }
  ecg = jnp.cumsum(jax.random.normal(keys[3], (3, 64, 2)), axis=1) / 4

  def logits(variables, x):
    h = jax.lax.conv_general_dilated(
      x,
      variables['kernel'],
      (1,),
      'SAME',
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )
    h = jax.nn.relu(h + variables['bias']).reshape(3, 32, 2, 8).max(axis=2)
    return h.mean(axis=1) @ variables['head']

  gaps = {}
  for steps in (2, 256):
    attribute = attribution.make_integrated_gradients(logits, steps)
    values, change = attribute(variables, ecg, np.array([0, 1, 2]))
    gaps[steps] = np.abs(np.sum(values, axis=(1, 2)) - change) / np.abs(change)
  assert gaps[256].max() < 2e-3
  assert gaps[2].max() > 1e-2  # it is the integral, not the gradient


def test_share_inside():
  weight = np.array([[[1.0], [2], [3], [4]], [[0], [0], [0], [1]]])
  inside = np.array([[[1], [1], [0], [0]]] * 2, bool)
  span = np.array([[[1], [1], [1], [0]]] * 2, bool)
  shares = attribution.share_inside(weight, inside, span)
  assert shares[0] == pytest.approx(3 / 6)  # the 4 lies outside of the span
  assert np.isnan(shares[1])


def test_delineate():
  events = [
    ('qrs', 0.30, 0.40), ('p', 0.10, 0.20), ('t', 0.50, 0.70),
    ('p', 0.90, 1.00), ('qrs', 1.10, 1.20), ('qrs', 1.50, 1.60),
    ('t', 1.70, 1.80),
  ]  # fmt: skip
  found = {}
  for wave in delineation.delineate('II', events):
    assert wave.lead == 'II'
    found.setdefault(wave.kind, []).append((wave.on, wave.off))
  assert found['pr'] == [(0.10, 0.30), (0.90, 1.10)]
  assert found['st'] == [(0.40, 0.50), (1.60, 1.70)]  # one QRS has no T
  assert found['tq'] == [(0.70, 1.10)]
  assert found['p'] == [(0.10, 0.20), (0.90, 1.00)]
  assert len(found['qrs']) == 3


def test_masks():
  known = delineation.from_events({
    'II': [('qrs', 0.50, 0.60), ('t', 0.70, 1.00)],
    'V1': [('qrs', 0.52, 0.58)],
    'V2': [],
  })  # fmt: skip
  inside, span = delineation.masks(
    known, ('qrs', 'st'), ('V1', 'II', 'V2'), 100, 120
  )
  assert inside.shape == span.shape == (120, 3)
  assert np.flatnonzero(inside[:, 0]).tolist() == list(range(52, 59))
  assert np.flatnonzero(inside[:, 1]).tolist() == list(range(50, 71))
  assert np.flatnonzero(span[:, 1]).tolist() == list(range(50, 101))
  assert not span[:, 2].any()  # nothing is known of this lead


def test_waves_of_the_simulator():
  """Two beats, the second a PVC without P; one beat outside of the record."""
  nan = np.nan
  truth = types.SimpleNamespace(
    p_on=[[0.1, nan, nan]], p_off=[[0.2, nan, nan]],
    qrs_on=[[0.3, 1.0, nan]], qrs_off=[[0.4, 1.2, nan]],
    t_on=[[0.5, 1.3, nan]], t_off=[[0.7, 1.5, nan]],
    ectopic=[[0, 2, 1]],
  )  # fmt: skip
  known = delineation.from_truth(truth, 0, 2.0)
  found = {(w.kind, w.on, w.off) for w in known.waves}
  assert found == {
    ('p', 0.1, 0.2), ('pr', 0.1, 0.3), ('qrs', 0.3, 0.4), ('st', 0.4, 0.5),
    ('t', 0.5, 0.7), ('tq', 0.7, 1.0), ('qrs', 1.0, 1.2), ('st', 1.2, 1.3),
    ('t', 1.3, 1.5), ('pvc', 1.0, 1.5),
  }  # fmt: skip
  inside, span = delineation.masks(known, ('pvc',), ('II', 'aVF'), 10, 20)
  assert span.all()
  assert np.flatnonzero(inside[:, 1]).tolist() == list(range(10, 16))


def examples(labels, num=12):
  rng = np.random.default_rng(1)
  ecg = rng.normal(size=(num, 200, 2)).astype(np.float32)
  known = delineation.from_events(
    {lead: [('qrs', 0.0, 0.20), ('t', 0.50, 1.99)] for lead in CONTRACT.leads}
  )
  return attribution.Examples(
    'made', ecg, np.arange(num), (frozenset(labels),) * num, (known,) * num
  )


def test_measure():
  """Models that look at QRS only, everywhere alike, and at the amplitude."""
  some = examples(('LBBB', 'PVC', 'SB'))
  inside, _ = delineation.masks(
    some.known[0], ('qrs',), CONTRACT.leads, CONTRACT.rate, CONTRACT.length
  )
  change = lambda ecg: np.ones(len(ecg))
  looks = lambda ecg, classes: (
    np.where(inside, -1.0, 0) + 0 * ecg,
    change(ecg),
  )
  alike = lambda ecg, classes: (np.ones_like(ecg), change(ecg))
  signal = lambda ecg, classes: (ecg, change(ecg))
  models = {'model': looks, 'alike': alike, 'signal': signal}
  shares = attribution.shares(models, some, CONTRACT, ('LBBB', 'PVC', 'SB'))
  shares = json.loads(json.dumps(shares))
  result = attribution.measure([shares], tuple(models), draws=1000)
  entry = result['classes']['LBBB']
  assert entry['num_records'] == 12 and entry['waves'] == ['qrs']
  assert entry['attribution'] == {'value': 1.0, 'ci95': [1.0, 1.0]}
  assert entry['time']['value'] == pytest.approx(21 / 200)
  assert entry['alike']['value'] == pytest.approx(21 / 200)
  assert entry['minus_time']['value'] == pytest.approx(1 - 21 / 200)
  amplitude = np.abs(some.ecg)[:, :21].sum((1, 2)) / np.abs(some.ecg).sum(
    (1, 2)
  )
  assert entry['amplitude']['value'] == pytest.approx(amplitude.mean(), 1e-5)
  assert entry['signal']['value'] == pytest.approx(amplitude.mean(), 1e-5)
  difference = 1 - amplitude
  assert entry['minus_signal']['value'] == pytest.approx(
    difference.mean(), 1e-5
  )
  low, high = entry['minus_signal']['ci95']
  error = difference.std(ddof=1) / np.sqrt(12)
  assert high - low == pytest.approx(2 * 1.96 * error, rel=0.25)
  # LUDB-like marks know of no premature beats; a rate has no wave.
  assert result['skipped'] == {
    'PVC': '0 recordings with marked waves',
    'SB': 'no wave defines it',
  }
  assert result['all']['num_records'] == 12
  # All |a| at -1 per sample of QRS on two leads: sum -42, change 1.
  assert result['completeness_gap']['model'] == pytest.approx(43)


def test_seeds_are_averaged_by_recording():
  one = {'time': 0.5, 'amplitude': 0.5}
  row = lambda k, share: {'row': k, 'patient': k, 'model': share} | one
  runs = [
    {'num_records': 7, 'completeness_gap': {'model': gap},
     'shares': {'LBBB': [row(k, share + k / 10) for k in rows]}}
    for share, gap, rows in ((0.1, 0.2, range(6)), (0.3, 0.1, range(1, 7)))
  ]  # fmt: skip
  result = attribution.measure(runs, ['model'], 1000)
  entry = result['classes']['LBBB']
  assert entry['num_records'] == 5  # those that have a share in both
  assert entry['attribution']['value'] == pytest.approx(0.2 + 0.3)
  assert entry['minus_time']['value'] == pytest.approx(0)
  assert result['completeness_gap'] == {'model': 0.2}


def test_few_records_are_not_measured():
  change = lambda ecg, classes: (ecg, np.ones(len(ecg)))
  few = examples(('LBBB',), num=attribution.MIN_RECORDS - 1)
  shares = attribution.shares({'model': change}, few, CONTRACT, ('LBBB',))
  result = attribution.measure([shares], ['model'])
  assert result['classes'] == {} and 'all' not in result
  assert result['skipped'] == {'LBBB': '4 recordings with marked waves'}


def test_section(tmp_path):
  model = lambda ecg, classes: (ecg, np.ones(len(ecg)))
  shares = attribution.shares(
    {'model': model}, examples(('LBBB',)), CONTRACT, ('LBBB', 'SB')
  )
  part = {'made': attribution.measure([shares], ['model'], 1000)}
  section = attribution_report.section(part, {'made': 'Made up'})
  table = attribution_report.size_table(
    {'9 records': part['made']}, 'Made up', 'ours'
  )
  assert table.header[:4] == ['labels', 'recordings', 'ours', 'time']
  assert [row[:2] for row in table.rows] == [['9 records', '12']]
  page.write_page(tmp_path / 'page.html', 'x', [section])
  text = (tmp_path / 'page.html').read_text()
  assert 'Made up' in text and 'model - amplitude' in text
  assert 'Not measured: SB' in text


def test_ludb(recordings):
  import wfdb

  folder = recordings / 'ludb'
  diagnoses = ludb_waves.read_diagnoses(folder)
  assert diagnoses['1'] == {'HYP', 'LVH', 'STTC'}
  assert sum('CD' in names for names in diagnoses.values()) == 29
  path = folder / 'data' / '1'
  events = ludb_waves.read_events(path, 'II')
  # Independently: brackets count the waves, their symbol is between.
  marks = wfdb.rdann(str(path), 'ii')
  onsets = marks.sample[np.array(marks.symbol) == '('] / 500
  ends = marks.sample[np.array(marks.symbol) == ')'] / 500
  assert [on for _, on, _ in events] == onsets.tolist()
  assert [off for *_, off in events] == ends.tolist()
  kinds = [kind for kind, *_ in events]
  assert kinds.count('qrs') == marks.symbol.count('N') > 5
  # Record 7 has a wave without onset in V1, which is then not judged.
  assert ludb_waves.read_events(folder / 'data' / '7', 'V1') == []
  known = delineation.from_events({'V1': [], 'II': events})
  assert set(known.span) == {'II'} and known.span['II'][0] > 0.5
  with pytest.raises(ValueError, match='no annotations'):
    ludb_waves.read_events(folder / 'data' / '2', 'II')
  with pytest.raises(ValueError, match='ludb.csv is missing'):
    ludb_waves.read_diagnoses(recordings)


def test_ludb_reaches_a_model_in_microvolts(recordings):
  """True ratios of the leads, not 1 mV for each as its header says."""
  contract = InputContract(500.0, 5000, leads.LEADS, normalisation='none')
  folder = recordings / 'ludb'
  found = attribution_lib.ludb_examples(contract, ('AFL', 'LBBB'), folder)
  assert len(found.ecg) == len(found.patients) > 1
  for ecg, patient in zip(found.ecg, found.patients):
    counts = np.fromfile(folder / f'data/{patient}.dat', '<i2')
    expected = counts.reshape(-1, 12) / 1000
    np.testing.assert_allclose(ecg, expected, atol=1e-5)
