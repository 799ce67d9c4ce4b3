"""Builder `wfdb_folder`: labels, leads by name, damaged recordings."""

import numpy as np
import pytest

from ecgjax.data.store import build_report, prepared, splits
from ecgjax.ecg import leads
from ecgjax.formats import wfdb_folder
from tests.data import damage, raw_corpora


@pytest.fixture(scope='module')
def raw_folder(tmp_path_factory):
  """Leads permuted, other gains and rates, two levels of folders."""
  folder = tmp_path_factory.mktemp('own')
  order = [3, 0, 1, 2, 5, 4, *range(11, 5, -1)]
  for number in range(20):
    ecg = raw_corpora.ecg(number, 360)
    raw_corpora.write_record(
      folder / f'd{number % 2}' / f'r{number:02d}',
      ecg[:, order],
      360,
      gain=1000 / 2.5,
      baseline=50,
      names=[leads.LEADS[k].lower() for k in order],
      comments=['<age>: 33', '<sex>: M'],
    )
  return folder


def test_wfdb_folder_with_label_columns(raw_folder, tmp_path):
  table = tmp_path / 'labels.csv'
  table.write_text(
    'record,patient,AF,STEMI,age,sex,time\n'
    'd0/r00,anna,1,0,70,F,3\n'
    'r01,anna,,1,,,\n'
    'd0/r02.hea,ben,0,0,,,\n'
    'r99,ben,1,1,,,\n'
    '../../etc/passwd,eve,1,1,,,\n'
  )
  builder, _ = prepared.build(
    'wfdb_folder',
    str(tmp_path / 'data'),
    360,
    str(raw_folder),
    labels_csv=str(table),
  )
  table.unlink()  # a prepared data set needs its table no more
  builder = prepared.make_builder('wfdb_folder', str(tmp_path / 'data'), 360)
  metadata = builder.info.metadata
  assert metadata['label_names'] == ['AF', 'STEMI']
  report = metadata['report']
  assert report['records'] == 20 and report['missing_file'] == 1
  assert report['rejected'] == {'outside_root': 1}
  found = raw_corpora.examples(builder)
  split, example = found['d0/r00']
  assert split == found['d1/r01'][0] == splits.hash_split('wfdb_folder', 'anna')
  assert example['patient'] == found['d1/r01'][1]['patient']
  assert (example['age'], example['sex'], example['time']) == (70, 1, 3)
  assert example['labels'].tolist() == [1, 0]
  assert example['label_mask'].tolist() == [1, 1]
  other = found['d1/r01'][1]
  assert (other['age'], other['sex'], other['time']) == (33, 0, -1)
  assert other['labels'].tolist() == [0, 1]
  assert other['label_mask'].tolist() == [0, 1]  # empty: not annotated
  assert not found['d1/r03'][1]['label_mask'].any()
  # Leads are found by name, whatever their order and spelling.
  millivolts = (example['ecg'] - example['baseline']) / example['gain']
  assert np.abs(millivolts - raw_corpora.ecg(0, 360)).max() < 0.002
  digital = np.rint(raw_corpora.ecg(0, 360) * 400 + 50)
  np.testing.assert_array_equal(example['ecg'], digital)


def test_wfdb_folder_with_a_labels_column(raw_folder, tmp_path):
  table = tmp_path / 'labels.csv'
  table.write_text('record,labels\nr00,AF; old MI\nr01,\nr02,AF\nr04,[]\n')
  builder, _ = prepared.build(
    'wfdb_folder',
    str(tmp_path / 'data'),
    100,
    str(raw_folder),
    labels_csv=str(table),
  )
  assert builder.info.metadata['label_names'] == ['AF', 'old MI']
  assert builder.info.metadata['split_level'] == 'record'
  found = raw_corpora.examples(builder)
  assert found['d0/r00'][1]['labels'].tolist() == [1, 1]
  assert found['d1/r01'][1]['labels'].tolist() == [0, 0]
  assert found['d1/r01'][1]['label_mask'].tolist() == [0, 0]  # empty cell
  assert found['d0/r04'][1]['label_mask'].tolist() == [1, 1]  # '[]'
  assert found['d1/r03'][1]['label_mask'].tolist() == [0, 0]


@pytest.mark.parametrize(
  'text, message',
  [
    ('name,AF\nr00,1\n', 'no column record among name, AF'),
    ('record,AF\nr00,maybe\n', "line 2: column AF has the value 'maybe'"),
    ('record,AF\nr00,1\nr00,0\n', "line 3: record 'r00' is empty or occurs"),
    ('record,AF\nr00,1\nd0/r00,0\n', "two rows for record 'd0/r00'"),
    ('record,AF\nr00,1,0\n', 'line 2: more fields than column titles'),
    ('record,labels,AF\nr00,a,1\n', 'column labels excludes label columns'),
    ('record,AF,AF\nr00,1,1\n', 'a column title is empty or occurs twice'),
    ('record,age\nr00,old\n', "column age has the value 'old', not a number"),
    ('record,AF\n"r00', 'cannot read the table: unexpected end'),
  ],
)
def test_labels_csv_errors(text, message, raw_folder, tmp_path):
  table = tmp_path / 'labels.csv'
  table.write_text(text)
  with pytest.raises(ValueError, match=message) as error:
    prepared.build(
      'wfdb_folder',
      str(tmp_path / 'data'),
      100,
      str(raw_folder),
      labels_csv=str(table),
    )
  assert str(table) in str(error.value) and '\n' not in str(error.value)
  assert not (tmp_path / 'data').exists()


def test_a_name_that_fits_two_records_is_refused(raw_folder, tmp_path):
  folder = tmp_path / 'raw'
  for name in ('a/x', 'b/x'):
    raw_corpora.write_record(folder / name, raw_corpora.ecg(1, 100), 100)
  (tmp_path / 'labels.csv').write_text('record,AF\nx,1\n')
  with pytest.raises(ValueError, match="record 'x' may be a/x or b/x"):
    prepared.build(
      'wfdb_folder',
      str(tmp_path / 'data'),
      100,
      str(folder),
      labels_csv=str(tmp_path / 'labels.csv'),
    )


def test_header_without_signal_and_signal_without_header(tmp_path):
  for number in range(4):
    raw_corpora.write_record(
      tmp_path / 'raw' / f'r{number}', raw_corpora.ecg(number, 100), 100
    )
  (tmp_path / 'raw' / 'r0.dat').unlink()
  (tmp_path / 'raw' / 'r1.hea').unlink()
  builder, _ = prepared.build(
    'wfdb_folder',
    str(tmp_path / 'data'),
    100,
    str(tmp_path / 'raw'),
    max_rejected=0.5,
  )
  report = builder.info.metadata['report']
  assert report['rejected'] == {'missing_header': 1, 'missing_signal_file': 1}
  with open(builder.rejections_path()) as file:
    rows = [line.split(',')[:3] for line in file.read().splitlines()]
  assert rows == [
    ['record', 'file', 'reason'],
    ['r0', 'r0', 'missing_signal_file'],
    ['r1', 'r1', 'missing_header'],
  ]


def test_every_damage_has_its_reason(tmp_path):
  """Damaged copies of a record among clean ones, through the builder."""
  damages = damage.make(str(tmp_path))
  builder = prepared.make_builder('wfdb_folder', '', 100)
  counts, _ = builder.examine(str(tmp_path))
  found = {row.record: row.reason for row in counts.rejections}
  expected = {k: v.reason for k, v in damages.items() if not v.corpus}
  assert found == expected
  assert counts.report()['records'] == 1 + len(damages) - len(expected)


def test_damages_that_only_a_corpus_tells(tmp_path):
  """The same records as PTB-XL would name them, under its rules."""
  damages = damage.make(str(tmp_path))
  rows = [
    raw_corpora.ptbxl_row(number, patient_id=number, filename_hr=name)
    for number, name in enumerate(['clean', *damages], 1)
  ]
  for row in rows:
    row['recording_date'] = ''
  raw_corpora.write_ptbxl(tmp_path, rows, present=())
  builder = prepared.make_builder('ptbxl', '', 500)
  counts, _ = builder.examine(str(tmp_path))
  found = {row.file: row.reason for row in counts.rejections}
  assert found == {name: entry.reason for name, entry in damages.items()}


def test_header_fields():
  fields = wfdb_folder.header_fields(
    ['Age: 51', '<sex>: F', 'Dx: 1,2', 'Dx: 3', 'no colon']
  )
  assert fields == {'age': '51', 'sex': 'F', 'dx': '1,2'}
  assert wfdb_folder.every(['Dx: 1,2', '#Dx: 3'], 'dx') == ['1,2', '3']


def test_a_header_may_name_other_signal_files(tmp_path):
  raw_corpora.write_record(tmp_path / 'a', raw_corpora.ecg(1, 100), 100)
  (tmp_path / 'a.dat').rename(tmp_path / 'signals.dat')
  text = (tmp_path / 'a.hea').read_text()
  (tmp_path / 'a.hea').write_text(text.replace('a.dat', 'signals.dat'))
  assert wfdb_folder.find_records(str(tmp_path)) == ['a']


def test_real_ludb(recordings):
  builder = prepared.make_builder('wfdb_folder', '', 100)
  counts, _ = builder.examine(str(recordings / 'ludb' / 'data'))
  report = counts.report()
  assert report['records'] == 100 and counts.rejections == []
  assert {k: len(v) for k, v in report['remarks'].items()} == {'span_gain': 100}
  assert 'span_gain 100: 1, 101, ' in build_report.summary(report, 'record')


def test_other_labels_are_another_data_set(raw_folder, tmp_path):
  """One folder, then the same with a table; prepared names do not mix in."""
  data = str(tmp_path / 'data')
  (tmp_path / 'labels.csv').write_text('record,AF,MI\nr00,1,0\n')
  options = {'labels_csv': str(tmp_path / 'labels.csv')}
  builder, _ = prepared.build('wfdb_folder', data, 100, str(raw_folder))
  assert builder.info.metadata['label_names'] == []
  assert builder.info.features['labels'].shape == (1,)
  with pytest.raises(ValueError, match='prepared from other recordings or'):
    prepared.build('wfdb_folder', data, 100, str(raw_folder), **options)
  builder = prepared.make_builder('wfdb_folder', data, 100, **options)
  counts, plan = builder.examine(str(raw_folder))
  assert plan.label_names == ['AF', 'MI']
  assert counts.report()['labels'] == {'AF': 1}
