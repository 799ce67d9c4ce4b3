"""Builder `code15` on HDF5 parts in the publisher's layout."""

import csv

import h5py
import numpy as np
import pytest

from ecgjax.data import code15
from ecgjax.data.raw import arrays
from ecgjax.data.store import builder as builder_lib
from ecgjax.data.store import labels, prepared, splits
from tests.data import raw_corpora

COLUMNS = (
  'exam_id', 'age', 'is_male', 'nn_predicted_age', '1dAVb', 'RBBB', 'LBBB',
  'SB', 'ST', 'AF', 'patient_id', 'death', 'timey', 'normal_ecg', 'trace_file',
)  # fmt: skip
LENGTH = 4096


def tracing(exam, seconds):
  """[4096, 12] millivolts at 400 Hz, zeros on both sides, as published."""
  ecg = raw_corpora.ecg(exam, 400, seconds)
  padded = np.zeros((LENGTH, 12), np.float32)
  first = (LENGTH - len(ecg)) // 2
  padded[first : first + len(ecg)] = ecg
  return padded


def write_part(path, tracings: dict):
  """Writes exams in this order, and the dummy row at the end."""
  with h5py.File(path, 'w') as file:
    file['exam_id'] = np.array([*tracings, 0])
    file['tracings'] = np.stack(
      [*tracings.values(), np.zeros((LENGTH, 12), np.float32)]
    )


def row(exam, part, **changes):
  return dict.fromkeys(COLUMNS, '') | {
    'exam_id': exam,
    'age': 50 + exam % 9,
    'is_male': bool(exam % 2),
    'patient_id': exam // 2,
    'trace_file': part,
    **{name: str(exam % 3 == 0) for name in ('1dAVb', 'AF', 'normal_ecg')},
    **dict.fromkeys(('RBBB', 'LBBB', 'SB', 'ST'), 'False'),
  } | changes  # fmt: skip


@pytest.fixture(scope='module')
def raw_dir(tmp_path_factory):
  """Exams 100-111 are good; every other one has one of the known defects."""
  folder = tmp_path_factory.mktemp('code')
  seconds = lambda exam: 7 if exam % 4 == 0 else 10
  good = {exam: tracing(exam, seconds(exam)) for exam in range(100, 112)}
  bad = {exam: tracing(exam, 10) for exam in (201, 202, 203)}
  bad[201][:] = 0
  bad[202][1000:1100, 2] = np.nan
  bad[203] *= 1e-3  # volts
  exams = [111, *range(100, 111)]  # not the order of the table
  first = {exam: good[exam] for exam in exams[:7]} | {777: good[100]}
  write_part(folder / 'exams_part0.hdf5', first)
  write_part(folder / 'exams_part1.hdf5', {e: good[e] for e in exams[7:]} | bad)
  (folder / 'exams_part2.hdf5').write_bytes(b'not HDF5')
  rows = [row(e, f'exams_part{int(e not in first)}.hdf5') for e in good]
  rows[0]['AF'] = ''  # not annotated
  rows += [row(exam, 'exams_part1.hdf5') for exam in bad]
  rows += [
    row(301, 'exams_part0.hdf5'),  # the part does not have it
    row(302, 'exams_part9.hdf5'),  # there is no such part
    row(303, 'exams_part2.hdf5'),
    row(304, '../../etc/passwd'),
  ]
  with open(folder / 'exams.csv', 'w', newline='') as file:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
  return folder


def build(raw_dir, data_dir, rate=100, **options):
  builder, _ = prepared.build(
    'code15', str(data_dir), rate, str(raw_dir), max_rejected=0.5, **options
  )
  return builder


@pytest.fixture(scope='module')
def built(raw_dir, tmp_path_factory):
  builder = build(raw_dir, tmp_path_factory.mktemp('one'))
  return builder, raw_corpora.examples(builder)


def test_records(built):
  builder, found = built
  assert sorted(map(int, found)) == list(range(100, 112))
  report = builder.info.metadata['report']
  assert report['rejected'] == {
    'flat': 1, 'nan': 1, 'unit_scale': 1, 'unreadable': 1, 'outside_root': 1
  }  # fmt: skip
  assert report['missing_file'] == 2
  for record, (split, example) in found.items():
    exam = int(record)
    assert example['patient_id'].decode() == str(exam // 2)
    assert split == splits.hash_split('code15', str(exam // 2))
    assert example['age'] == 50 + exam % 9
    assert example['sex'] == 1 - exam % 2
    assert example['time'] == -1


def test_padding_is_cut_off_and_masked(built):
  _, found = built
  for record, (_, example) in found.items():
    exam = int(record)
    seconds = 7 if exam % 4 == 0 else 10
    assert example['valid_start'] == 0
    assert example['valid_len'] == seconds * 100
    assert not example['ecg'][seconds * 100 :].any()
    # Joined by exam id: the signal is that of this exam, from its beginning.
    expected = raw_corpora.ecg(exam, 400, seconds)[::4]
    stored = example['ecg'][: seconds * 100] / example['gain']
    difference = np.abs(stored - expected)[20:-20]
    assert np.median(difference) < 0.02 and np.mean(difference) < 0.04


def test_a_recorder_that_settles(tmp_path):
  """10 mV at the start of V6: half a second is left out, and counted."""
  ecg = tracing(100, 10)
  first = np.flatnonzero(ecg.any(axis=1))[0]
  ecg[first + 4 : first + 1000, 11] += 10 * np.exp(-np.arange(996) / 30)
  write_part(tmp_path / 'exams_part0.hdf5', {100: ecg, 101: tracing(101, 10)})
  rows = [row(exam, 'exams_part0.hdf5') for exam in (100, 101)]
  with open(tmp_path / 'exams.csv', 'w', newline='') as file:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
  builder = build(tmp_path, tmp_path / 'data')
  found = raw_corpora.examples(builder)
  span = lambda e: (int(e['valid_start']), int(e['valid_len']))
  assert {k: span(e) for k, (_, e) in found.items()} == {
    '100': (50, 950), '101': (0, 1000)
  }  # fmt: skip
  report = builder.info.metadata['report']
  assert report['remarks'] == {'start_transient': ['100']}
  assert report['padded'] == 0


def test_labels(built):
  builder, found = built
  names = builder.info.metadata['label_names']
  for record, (_, example) in found.items():
    exam = int(record)
    for task in ('AF', '1AVB'):
      label, mask = labels.apply(
        labels.make_task(task, names), example['labels'], example['label_mask']
      )
      annotated = task != 'AF' or exam != 100
      assert mask[0] == annotated
      assert label[0] == (annotated and exam % 3 == 0)


def test_workers_write_the_same(raw_dir, built, tmp_path, monkeypatch):
  monkeypatch.setattr(builder_lib, 'RECORDS_PER_WORKER', 8)
  builder = build(raw_dir, tmp_path / 'two', workers=2)
  one = sorted(built[0].data_path.glob('*tfrecord*'))
  two = sorted(builder.data_path.glob('*tfrecord*'))
  assert [path.name for path in one] == [path.name for path in two] != []
  for first, second in zip(one, two):
    assert first.read_bytes() == second.read_bytes()


def test_parts_of_real_recordings(recordings, tmp_path):
  """The publisher's layout, made of five exams at 400 Hz."""
  paths = sorted((recordings / 'code15').glob('*.mat'))
  with open(recordings / 'code15' / 'meta.csv', newline='') as file:
    rows = {row['exam_id']: row for row in csv.DictReader(file)}
  tracings, table, natives = {}, [], {}
  for path in paths:
    exam = path.stem.rsplit('_', 1)[1]
    native = arrays.read_code_mat(path.name, str(path.parent))
    ecg = native.millivolts()
    first = (LENGTH - len(ecg)) // 2
    tracings[int(exam)] = np.zeros((LENGTH, 12), np.float32)
    tracings[int(exam)][first : first + len(ecg)] = ecg
    table.append({name: rows[exam][name] for name in COLUMNS})
    table[-1]['trace_file'] = 'exams_part0.hdf5'
    natives[exam] = native
  write_part(tmp_path / 'exams_part0.hdf5', dict(reversed(tracings.items())))
  with open(tmp_path / 'exams.csv', 'w', newline='') as file:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(table)
  builder = build(tmp_path, tmp_path / 'data', rate=400)
  found = raw_corpora.examples(builder)
  report = builder.info.metadata['report']
  assert report['read'] == len(paths) == 5 and report['missing_file'] == 0
  assert len(found) + sum(report['rejected'].values()) == 5
  assert len(found) >= 4
  assert report['remarks']['start_transient'] == ['358121']
  for exam, (_, example) in found.items():
    native = natives[exam]
    # One recorder settles: its first half second is left out.
    settles = exam == '358121'
    assert example['valid_start'] == (200 if settles else 0)
    count = example['valid_start'] + example['valid_len']
    # Zeros that were recorded at the very ends count as padding.
    assert len(native.samples) - 2 <= count <= len(native.samples)
    stored = (example['ecg'] / example['gain'])[:count]
    differences = [
      np.abs(stored - native.millivolts()[k : k + count]).max()
      for k in range(len(native.samples) - count + 1)
    ]
    assert min(differences) < 0.001
    assert example['sex'] == (0 if rows[exam]['is_male'] == 'True' else 1)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'exam_id': 'x1'}, "line 2: column exam_id has the value 'x1'"),
    ({'patient_id': ''}, 'column patient_id'),
    ({'AF': 'maybe'}, "column AF has the value 'maybe'"),
  ],
)
def test_bad_tables(changes, message, tmp_path):
  path = tmp_path / 'exams.csv'
  with open(path, 'w', newline='') as file:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerow(row(1, 'a.hdf5') | changes)
  with pytest.raises(ValueError, match=message):
    code15.read_table(str(path))


def test_no_table(tmp_path):
  builder = prepared.make_builder('code15', str(tmp_path / 'data'), 100)
  with pytest.raises(ValueError, match='has no exams.csv'):
    builder.checked_plan(str(tmp_path))
  (tmp_path / 'exams.csv').write_text('exam_id,age\n')
  with pytest.raises(ValueError, match='no column is_male, patient_id'):
    builder.checked_plan(str(tmp_path))
