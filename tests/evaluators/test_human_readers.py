"""Readers against the model."""

import numpy as np
import pytest
from sklearn import metrics as sk

from ecgjax.evaluators import human_readers
from ecgjax.metrics import bootstrap

NAMES = ['AF', 'MI']
IDS = [f'r{i}' for i in range(80)]


@pytest.fixture(scope='module')
def reference():
  generator = np.random.default_rng(0)
  labels = (generator.random((80, 2)) < 0.4).astype(int)
  scores = 0.3 * labels + 0.7 * generator.random((80, 2))
  return labels, scores


def _write(path, labels, readers, columns=NAMES):
  """`readers`: name -> (group, share of errors, rows read)."""
  generator = np.random.default_rng(1)
  lines = ['record_id,reader,group,' + ','.join(columns)]
  for name, (group, errors, rows) in readers.items():
    for row in rows:
      calls = labels[row] ^ (generator.random(2) < errors)
      lines.append(f'{IDS[row]},{name},{group},{calls[0]},{calls[1]}')
  path.write_text('\n'.join(lines) + '\n')


@pytest.fixture(scope='module')
def readers(tmp_path_factory, reference):
  path = tmp_path_factory.mktemp('readers') / 'readers.csv'
  everything = range(80)
  _write(path, reference[0], {
    'g1': ('general', 0.3, everything), 'g2': ('general', 0.3, everything),
    'g3': ('general', 0.3, everything), 's1': ('specialist', 0, range(50)),
  })  # fmt: skip
  return human_readers.read_readers(path, IDS, NAMES)


def test_readers_and_majority_are_aligned_with_the_test_set(readers, reference):
  assert [r.name for r in readers] == [
    'g1', 'g2', 'g3', 's1', 'general, majority',
  ]  # fmt: skip
  np.testing.assert_array_equal(readers[3].calls[:50], reference[0][:50])
  assert np.all(readers[3].calls[50:] == -1)
  votes = sum(r.calls.astype(int) for r in readers[:3]) >= 2
  np.testing.assert_array_equal(readers[4].calls, votes)


def test_majority_is_strict_and_ignores_who_did_not_judge():
  calls = np.array(
    [[1, 1, 1, -1], [0, 1, -1, -1], [1, 0, 0, -1], [0, 0, 1, -1]]
  )
  vote = human_readers.majority(calls[:, None, :])
  np.testing.assert_array_equal(vote, [[0, 0, 1, -1]])


def test_equal_to_scikit_learn_and_paired(readers, reference):
  labels, scores = reference
  patients = np.arange(80) // 2
  found = human_readers.compare_readers(
    readers, scores, np.full(2, 0.5), labels, patients, NAMES, draws=50, seed=3
  )
  called = scores >= 0.5
  calls = {'model': called} | {r.name: r.calls == 1 for r in readers}
  rows = {'model': range(80)} | dict.fromkeys(calls, range(80))
  rows['s1'] = range(50)
  counts = bootstrap.patient_counts(patients, 50, 3)
  for row in found['rows']:
    read = np.array(rows[row['name']])
    assert row['num_records'] == len(read)
    y, c = labels[read], calls[row['name']][read]
    expected = {
      'sensitivity': [sk.recall_score(y[:, k], c[:, k]) for k in range(2)],
      'specificity': [sk.recall_score(1 - y[:, k], ~c[:, k]) for k in range(2)],
      'f1': [sk.f1_score(y[:, k], c[:, k]) for k in range(2)],
    }
    for name, values in expected.items():
      assert abs(row['macro'][name]['value'] - np.mean(values)) < 1e-12
      for k, label in enumerate(NAMES):
        assert abs(row['per_class'][label][name]['value'] - values[k]) < 1e-12
  # The difference is on the reader's records and on shared draws.
  entry = found['differences']['s1']['per_class']['AF']['sensitivity']
  y = labels[:50, 0]
  changes = []
  for draw in range(50):
    again = np.repeat(np.arange(50), counts[:50, draw])
    changes.append(
      sk.recall_score(y[again], called[again, 0])
      - sk.recall_score(y[again], y[again])
    )
  np.testing.assert_allclose(
    entry['ci95'], np.quantile(changes, [0.025, 0.975]), atol=1e-12
  )
  family = 5 * 3  # readers and majority x (macro, AF, MI)
  assert entry['family_size'] == family and entry['p_holm'] >= entry['p']


def test_labels_that_nobody_was_asked_for_play_no_role(tmp_path, reference):
  labels, scores = reference
  path = tmp_path / 'readers.csv'  # as a spreadsheet saves it
  lines = [f'{IDS[row]},g1,general,{labels[row, 0]}' for row in range(80)]
  text = '\r\n'.join(['record_id,reader,group,AF', *lines, ''])
  path.write_text(text, encoding='utf-8-sig', newline='')
  asked = human_readers.read_readers(path, IDS, NAMES)
  mask = np.ones_like(labels)
  mask[:40] = 0  # the reference standard is silent
  found = human_readers.compare_readers(
    asked, scores, np.array([0.5, np.nan]), labels, np.arange(80), NAMES,
    label_mask=mask, draws=50,
  )  # fmt: skip
  model, reader = found['rows']
  assert set(model['per_class']) == set(reader['per_class']) == {'AF'}
  assert model['num_records'] == reader['num_records'] == 40
  assert reader['macro']['f1']['value'] == 1
  expected = sk.f1_score(labels[40:, 0], scores[40:, 0] >= 0.5)
  assert abs(model['macro']['f1']['value'] - expected) < 1e-12


def test_a_label_needs_a_threshold(readers, reference):
  with pytest.raises(ValueError, match='no threshold for MI'):
    human_readers.compare_readers(
      readers, reference[1], np.array([0.5, np.nan]), reference[0],
      np.arange(80), NAMES, draws=5,
    )  # fmt: skip


@pytest.mark.parametrize(
  'lines, message',
  [
    (['r0,a,g,1,0', 'r0,a,g,1,0'], 'line 3: .*before'),
    (['r0,a,g,1,0', 'r99,a,g,1,0'], 'line 3: .*not in the test set'),
    (['x99,a,g,1,0'], "first row is 'x99', the first record is 'r0'"),
    (['r0,a,g,maybe,0'], "line 2: AF is 'maybe'"),
    (['r0,a,g,1,0', 'r1,a,h,1,0'], 'two groups'),
    (['r0,a,g,1,0,1'], 'line 2: more fields'),
    (['r0,,g,1,0'], 'line 2: no name'),
    ([], 'no reader'),
  ],
)
def test_bad_tables_are_refused_by_line(tmp_path, lines, message):
  path = tmp_path / 'readers.csv'
  header = 'record_id,reader,group,AF,MI'
  path.write_text('\n'.join([header, *lines]) + '\n')
  with pytest.raises(ValueError, match=message):
    human_readers.read_readers(path, IDS, NAMES)


@pytest.mark.parametrize(
  'header, message',
  [
    ('record_id,reader,AF,MI', 'no column group among'),
    ('record_id,reader,group', 'no column is one of the labels'),
    ('record_id,reader,group,AFF', "'AFF' is none of the labels.* AF, MI"),
    ('record_id,reader,group,AF,AF', 'occurs twice'),
    ('\xff', 'cannot read the table'),
  ],
)
def test_bad_columns_are_refused(tmp_path, header, message):
  path = tmp_path / 'readers.csv'
  path.write_text(header + '\n', encoding='latin-1')
  with pytest.raises(ValueError, match=message):
    human_readers.read_readers(path, IDS, NAMES)
