import numpy as np
import pytest

from ecgjax.simulator import cohort, simulator

AF = simulator.CLASSES.index('AF')


@pytest.fixture(scope='module')
def people():
  return cohort.draw(0, 2000)


def labels(people):
  return simulator.labels(people.factors)[:, : len(simulator.CLASSES)]


def test_records_and_dates(people):
  counts = np.bincount(people.patient)
  assert len(counts) == 2000
  assert set(counts) == {1, 2, 3, 4}
  assert abs(len(people.patient) - 5000) < 200
  first = people.record == 0
  assert (people.time[first] == 0).all()
  gaps = np.diff(people.time)[~first[1:]]
  assert (gaps >= 0.99).all()  # days
  assert 100 < np.median(gaps) < 210


def test_prevalences_are_those_asked_for(people):
  share = dict(zip(simulator.CLASSES, labels(people).mean(axis=0)))
  for name, expected in cohort.PREVALENCE.items():
    # Traits of 2,000 patients: four standard deviations.
    assert abs(share[name] - expected) < 4 * np.sqrt(expected / 2000), name
  assert 0.50 < share['NORM'] < 0.58
  rare = {'MI': 0.3, 'AF': 0.01}
  share = labels(cohort.draw(1, 2000, prevalence=rare)).mean(axis=0)
  share = dict(zip(simulator.CLASSES, share))
  assert abs(share['MI'] - 0.3) < 0.04 and 0.003 < share['AF'] < 0.02
  assert sum(share[name] for name in set(cohort.PREVALENCE) - set(rare)) == 0


def test_one_class_per_record():
  single = labels(cohort.draw(0, 2000, labels='single'))
  assert (single.sum(axis=1) == 1).all()
  assert np.abs(single.mean(axis=0) - 1 / 11).max() < 0.02


def test_a_smaller_cohort_begins_a_larger_one(people):
  few = cohort.draw(0, 50)
  for a, b in zip(few, people):
    np.testing.assert_array_equal(a, b[: len(a)])
  assert not np.array_equal(cohort.draw(1, 50).time, few.time)


def changes(people, column):
  """How often a condition begins and ends between two ECGs of a patient."""
  same = np.diff(people.patient) == 0
  before, after = column[:-1][same], column[1:][same]
  return (after > before).sum(), (after < before).sum()


def test_some_conditions_begin_and_stay(people):
  names = labels(people).T
  for name in ('MI', 'LBBB', 'RBBB'):
    begin, end = changes(people, names[simulator.CLASSES.index(name)])
    assert begin > 20 and end == 0, name
  begin, end = changes(people, names[AF])
  assert begin > 20 and end > 20


def test_incident_fibrillation():
  people = cohort.draw(0, 2000, incident=('rhythm',), prevalence={'AF': 0.3})
  column = labels(people)[:, AF]
  begin, end = changes(people, column)
  assert begin > 200 and end == 0
  assert abs(column.mean() - 0.3) < 0.04


@pytest.mark.parametrize(
  'options, message',
  [
    ({'labels': 'both'}, 'choose multi or single'),
    ({'prevalence': {'VT': 0.1}}, "prevalence names 'VT'"),
    ({'incident': ('extra',)}, "incident names 'extra'"),
    ({'prevalence': {'MI': 0.6}}, 'prevalence of factor mi'),
    ({'prevalence': {'AF': 0.6, 'AFL': 0.5}}, 'prevalence of factor rhythm'),
    ({'prevalence': {'STD': -0.1}}, 'prevalence of factor st'),
  ],
)
def test_impossible_cohorts_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    cohort.draw(0, 2, **options)
