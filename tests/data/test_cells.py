"""What cells of users' tables say: nothing, yes, names, ids, ages, sexes."""

import math

import pytest

from ecgjax.formats import cells

NOTHING = ('', ' ', 'nan', 'NaN', 'NA', '<NA>', 'None', 'null', 'Unknown', '?',
           'not analysed', 'N/A', '[nan]', '#N/A', 'NaT')  # fmt: skip


@pytest.mark.parametrize('text', NOTHING)
def test_nothing_is_told_from_no(text):
  assert cells.is_nothing(text)
  assert cells.bit(text) == -1
  assert cells.names(text)[1] is False and cells.names(text)[0] == []
  assert cells.identifier(text) == ''
  assert math.isnan(cells.age(text)) and cells.sex(text) == -1
  assert cells.not_understood(text, text) == ()


@pytest.mark.parametrize(
  ('text', 'value'),
  [('1', 1), ('1.0', 1), ('True', 1), ('yes', 1), ('1.', 1), (' TRUE ', 1),
   ('0', 0), ('0.0', 0), ('False', 0), ('no', 0), ('-0.0', 0)],
)  # fmt: skip
def test_bits(text, value):
  assert cells.bit(text) == value


@pytest.mark.parametrize('text', ['2', '-1', '0.5', 'maybe', 'inf', '1e999'])
def test_what_is_no_bit_is_refused(text):
  with pytest.raises(ValueError):
    cells.bit(text)


@pytest.mark.parametrize(
  'text',
  ["['AF', 'old MI']", '["AF", "old MI"]', 'AF;old MI', 'AF, old MI',
   'AF|old MI', '[AF, old MI]', "{'AF': 100.0, 'old MI': 0.0}",
   "('AF', 'old MI')", ' AF ;; old  MI; AF', '"AF";"old MI"'],
)  # fmt: skip
def test_a_cell_lists_names_in_any_spelling(text):
  assert cells.names(text) == (['AF', 'old MI'], True)


def test_an_empty_list_says_none_of_them():
  assert cells.names('[]') == cells.names('{}') == ([], True)
  assert cells.names('AF;nan') == (['AF'], False)


def test_ids_have_one_form():
  assert cells.identifier('12.0') == cells.identifier(' 12 ') == '12'
  assert cells.identifier('0012') == '0012'
  assert cells.loose('0012') == cells.loose('12.0') == '12'
  assert cells.loose('HR00120') == cells.loose('hr120') != cells.loose('HR12')


@pytest.mark.parametrize(
  ('text', 'years'),
  [('51', 51), ('51.0', 51), ('051Y', 51), ('51 years', 51), ('6M', 0.5),
   ('300', 90), ('300.0', 90), ('90+', 90), ('>89', 90), ('> 89', 90),
   ('89+', 90), ('95', 95), ('0', 0)],
)  # fmt: skip
def test_ages(text, years):
  assert cells.age(text) == years
  assert cells.not_understood(text, '') == ()


@pytest.mark.parametrize('text', ['-1', 'inf', '-inf', '999', '>60', 'old'])
def test_ages_that_nobody_has_are_unknown_and_counted(text):
  assert math.isnan(cells.age(text))
  assert cells.not_understood(text, '') == (f'age {text!r}',)


def test_sex_by_known_words_alone():
  for word in ('F', 'female', 'Mujer', 'Woman', 'femme', 'weiblich', 'Féminin'):
    assert cells.sex(word) == 1, word
  for word in ('M', 'Male', 'Man', 'hombre', 'männlich', 'masculin'):
    assert cells.sex(word) == 0, word
  for word in ('missing', '0', '1', '2', 'misc', 'fem?', 'Mu', 'H'):
    assert cells.sex(word) == -1, word
  assert cells.not_understood('', '1') == ("sex '1'",)
  assert cells.not_understood('', 'missing') == ()


@pytest.mark.parametrize(
  'text', ['=1+1', '+a', '-3', '@x', "'=1", "'", "''", "'a", 'a', '', '\t=1']
)
def test_no_spreadsheet_computes_a_cell(text):
  written = cells.to_csv(text)
  assert not written.startswith(('=', '+', '-', '@', '\t', '\r'))
  assert cells.from_csv(written) == text
