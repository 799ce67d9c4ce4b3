"""Tables beside recordings: what they say, whom they fit, what is refused."""

import gzip

import numpy as np
import pytest

from ecgjax.data import prepare, wfdb_folder
from ecgjax.data.store import build_report, prepared
from ecgjax.formats import csv_table
from tests.data import raw_corpora


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  folder = tmp_path_factory.mktemp('own')
  for number in range(6):
    raw_corpora.write_record(
      folder / f'{4000 * number:05d}', raw_corpora.ecg(number, 100), 100
    )
  return folder


def read(tmp_path, text):
  path = tmp_path / 'labels.csv'
  path.write_text(text, encoding='utf-8')
  return wfdb_folder.read_labels(str(path))


def examine(raw, tmp_path, text):
  (tmp_path / 'labels.csv').write_text(text)
  options = {'labels_csv': str(tmp_path / 'labels.csv')}
  builder = prepared.make_builder('wfdb_folder', '', 100, **options)
  counts, plan = builder.examine(str(raw))
  return plan, counts.report()


def test_columns_of_numbers_as_pandas_writes_them(tmp_path):
  names, rows = read(
    tmp_path,
    'record, Patient ,"AF", old MI\nr0, p0, 1.0, True\n"r1",p1,0.0,\n'
    'r2,,no,nan\n',
  )
  assert names == ['AF', 'old MI']
  assert rows['r0']['labels'][0].tolist() == [1, 1]
  assert [rows[r]['labels'][1].tolist() for r in ('r0', 'r1', 'r2')] == [
    [1, 1], [1, 0], [1, 0]
  ]  # fmt: skip
  assert [rows[r]['patient'] for r in ('r0', 'r1', 'r2')] == ['p0', 'p1', '']


@pytest.mark.parametrize(
  'cells',
  [
    ("\"['AF', 'RBBB']\"", "['AF']", '[]'),
    ('"AF,RBBB"', 'AF', '[]'),
    ('AF|RBBB', 'AF', '[]'),
    ('AF;RBBB', 'AF', '[]'),
  ],
)
def test_lists_in_one_cell(cells, tmp_path):
  text = ''.join(f'r{k},{cell}\n' for k, cell in enumerate([*cells, 'nan', '']))
  names, rows = read(tmp_path, 'record,labels\n' + text)
  assert names == ['AF', 'RBBB']
  found = [rows[f'r{k}']['labels'] for k in range(5)]
  assert [bits.tolist() for bits, _ in found] == [[1, 1], [1, 0], *[[0, 0]] * 3]
  assert [mask.tolist() for _, mask in found] == [[1, 1]] * 3 + [[0, 0]] * 2


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('record,labels\nr0,AF;MI\nr1,"AF,MI"\n', "has ';', and ',' in .*line 3"),
    ('record,labels\nr0,AF\nr1,af\n', "labels 'AF' and 'af' differ by case"),
    ('record,AF\nr0,-1\n', "column AF has the value '-1'"),
    ('record;AF\nr0;1\n', 'to be separated by commas'),
    ('record,time\nr0,inf\n', "column time has the value 'inf'"),
    ('record,sex\nr0,H\nr1,M\n', 'M may be mujer or male'),
    ('record,patient\nr0,12\nr1,012\n', "has '012' and '12'"),
  ],
)
def test_what_may_mean_two_things_is_refused(text, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    read(tmp_path, text)


def test_a_gzipped_table_is_read_and_a_workbook_is_refused(tmp_path):
  path = tmp_path / 'labels.csv.gz'
  path.write_bytes(gzip.compress(b'record,AF\nr0,1\n'))
  assert wfdb_folder.read_labels(str(path))[0] == ['AF']
  assert csv_table.find(str(tmp_path), 'labels.csv') == str(path)
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(ValueError, match='cannot read the table'):
    wfdb_folder.read_labels(str(path))
  path.write_bytes(b'PK\x03\x04')
  with pytest.raises(ValueError, match='save the table as CSV'):
    wfdb_folder.read_labels(str(path))


def test_nobody_is_no_patient_and_12_is_12_0(raw, tmp_path):
  plan, _ = examine(
    raw,
    tmp_path,
    'record,patient,AF\n0,nan,1\n4000,None,1\n8000,,0\n12000,12,0\n'
    '16000,12.0,1\n20000,08000,1\n',
  )
  patients = [entry.patient for entry in plan.entries]
  assert len(set(patients)) == 5 and patients[3] == patients[4] == '12'
  # The patient 08000 is not the record 08000, whose patient nobody knows.
  assert patients[5] == '08000' and patients[2] == 'record 08000'


def test_negative_days_are_counted_from_the_first(tmp_path):
  days = (-400, -30, -1, 0, 5, 370)
  rows = ''.join(f'r{k},p,{day}\n' for k, day in enumerate(days))
  _, table = read(
    tmp_path, f'record,patient,time\n{rows}q0,q,3\nq1,q,7\nn,,-2\n'
  )
  times = {record: row['time'] for record, row in table.items()}
  assert [times[f'r{k}'] for k in range(6)] == [0, 370, 399, 400, 405, 770]
  assert (times['q0'], times['q1'], times['n']) == (3, 7, 0)


def test_ages_and_sexes_are_read_or_counted(raw, tmp_path):
  plan, report = examine(
    raw,
    tmp_path,
    'record,age,sex,AF\n0,300,Mujer,1\n4000,-1,0,1\n8000,inf,missing,1\n'
    '12000,64,Man,1\n16000,90+,1,\n',
  )
  ages = [entry.age for entry in plan.entries]
  np.testing.assert_array_equal(ages, [90, np.nan, np.nan, 64, 90, np.nan])
  assert [entry.sex for entry in plan.entries] == [1, -1, -1, 0, -1, -1]
  assert report['not_understood'] == {
    "age '-1'": 1, "sex '0'": 1, "age 'inf'": 1, "sex '1'": 1
  }  # fmt: skip
  assert report['not_annotated'] == 2  # an empty cell, and no row
  text = build_report.summary(report, 'record')
  assert 'labels.csv: 5 of 5 rows; 1 records without a row' in text
  assert 'unlabelled 2 records' in text and "not read   age '-1' 1x" in text


def test_rows_without_a_record_are_counted(raw, tmp_path, capsys):
  path = tmp_path / 'labels.csv'
  flags = ['--dataset=wfdb_folder', f'--raw_dir={raw}', f'--labels_csv={path}']
  flags += [f'--data_dir={tmp_path / "data"}', '--check']
  path.write_text('record,AF\n4000.0,1\nq7,1\n')
  assert prepare.main(flags) == 0
  out = capsys.readouterr().out
  assert '1 of 2 rows, 1 without a record (first: q7); 5 records with' in out
  path.write_text('record,AF\nq7,1\n')
  assert prepare.main(flags) == 2
  assert "first row is 'q7', the first record is '00000'" in (
    capsys.readouterr().err
  )


def test_a_corrected_table_is_not_the_prepared_one(raw, tmp_path, capsys):
  path, other = tmp_path / 'labels.csv', tmp_path / 'other.csv'
  data = f'--data_dir={tmp_path / "data"}'
  flags = ['--dataset=wfdb_folder', data, f'--labels_csv={path}']
  path.write_text('record,AF\n0,1\n')
  assert prepare.main([*flags, f'--raw_dir={raw}']) == 0
  assert prepare.main(flags) == 0
  path.write_text('record,AF\n0,0\n')
  assert prepare.main(flags) == 2
  assert 'prepared from another labels_csv, not' in capsys.readouterr().err
  assert prepare.main([*flags[:2], f'--labels_csv={other}']) == 2
  assert 'labels_csv: cannot read' in capsys.readouterr().err
  assert prepare.main(flags[:2]) == 0  # the data set as it is


def test_a_list_of_rejections_is_safe_in_a_spreadsheet(tmp_path):
  tally = build_report.Tally(['AF'])
  rows = [('=1+1', '=1+1', 'flat', '-3 mV'), ("'=x", '@a', 'nan', 'lead I')]
  for row in rows:
    tally.reject(*row)
  path = str(tmp_path / 'rejected.csv')
  tally.write_csv(path)
  with open(path) as file:
    cells = file.read().replace('\n', ',').split(',')
  assert not [cell for cell in cells if cell.startswith(('=', '+', '-', '@'))]
  assert build_report.read_csv(path) == sorted(tally.rejections)
  tally.reject('a\ud800', 'a', 'nan', '')
  tally.write_csv(path)
  assert build_report.read_csv(path)[-1].record == 'a\\ud800'
