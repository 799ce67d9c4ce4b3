"""Rows of tables and records: matched where unique, refused where not."""

import pytest

from ecgjax.data.store import joins

RECORDS = [f'{4000 * k:05d}' for k in range(8)]


@pytest.mark.parametrize(
  'form',
  ['{:d}', '{:.1f}', '{:05d}', '{:05d}.dat', '{:05d}.HEA', 'raw/{:05d}',
   './{:05d}', 'D:\\ecg\\{:05d}', 'D:\\ecg\\{:d}.mat', '/data/x/{:05d}.hea'],
)  # fmt: skip
@pytest.mark.parametrize('folder', ['', 'a/', 'a/b/'])
def test_ids_that_can_mean_one_record_are_matched(form, folder):
  if folder and '/' in form.strip('./') or folder and '\\' in form:
    form = form.replace('ecg\\', 'ecg\\' + folder.replace('/', '\\'))
    form = form.replace('raw/', 'raw/' + folder).replace('x/', 'x/' + folder)
  rows = [form.format(4000 * k) for k in range(8)]
  found = joins.join('t.csv', rows, [folder + record for record in RECORDS])
  assert found.records == {
    row: folder + record for row, record in zip(rows, RECORDS)
  }
  assert found.rows_alone == () and found.records_alone == 0


def test_counts_and_a_row_of_another_folder():
  found = joins.join('a/t.csv', ['x/r1', 'b/r2', 'q'], ['x/r1', 'x/r2', 'r3'])
  assert found.counts() == {
    'table': 't.csv',
    'matched': 1,
    'rows_without_record': 2,  # b/r2 is not x/r2
    'records_without_row': 2,
    'first_row_without_record': 'b/r2',
  }


def test_nothing_matched_shows_a_row_and_a_record():
  with pytest.raises(ValueError, match="none of 2 rows .* 'p1', .* 'r1'$"):
    joins.join('t.csv', ['p1', 'p2'], ['r2', 'r1'])
  with pytest.raises(ValueError, match='t.csv: the table has no rows'):
    joins.join('t.csv', [], ['r1'])


@pytest.mark.parametrize(
  ('rows', 'records', 'message'),
  [
    (['x'], ['a/x', 'b/x'], "record 'x' may be a/x or b/x"),
    (['4.0'], ['04', '004'], "record '4.0' may be 004 or 04"),
    (['x', 'a/x'], ['a/x'], "two rows for record 'a/x', 'x' and 'a/x'"),
    (['12', '12.0'], ['12'], "two rows for record '12'"),
    (['R1'], ['r1', 'r01'], "'R1' may be r01 or r1"),
  ],
)
def test_what_may_be_two_is_refused(rows, records, message):
  with pytest.raises(ValueError, match=message):
    joins.join('t.csv', rows, records)


def test_the_same_id_comes_before_a_similar_one():
  rows = ['1', '01', '001']
  assert joins.join('t', rows, rows).records == dict(zip(rows, rows))


def test_patients_have_one_form():
  joins.one_form('t', 'patient', ['12', '12', '120'])
  with pytest.raises(ValueError, match="column patient has '012' and '12'"):
    joins.one_form('t', 'patient', ['12', '012'])
