"""Features that know identity or sex are found out; unknown stays unknown."""

import types

import numpy as np
import pytest

from ecgjax.evaluators import identity
from ecgjax.report import tables

SIZES = {'train': 120, 'validation': 60, 'test': 80}


def cohort(monkeypatch, ecgs=2, known=True):
  """Data of some splits, and the sex of every row [N]."""
  rng = np.random.default_rng(0)
  stored, labelled, sexes = {}, {}, {}
  for name, n in SIZES.items():
    patient = np.repeat(np.arange(n // ecgs), ecgs)
    sexes[name] = rng.integers(0, 2, n)[patient]
    rows = {
      'time': np.tile([0.0, 50.0][:ecgs], n // ecgs),
      'age': rng.uniform(30, 90, n)[patient] if known else np.full(n, np.nan),
      'sex': sexes[name] if known else np.full(n, -1),
    }
    position = rng.permutation(n)  # in storage
    stored[name] = {field: column.copy() for field, column in rows.items()}
    for field, column in rows.items():
      stored[name][field][position] = column
    label = rng.integers(0, 2, (n, 1))
    labelled[name] = types.SimpleNamespace(
      position=position, columns={'patient': patient, 'label': label}
    )
  monkeypatch.setattr(
    identity.records, 'read_table', lambda _, name: stored[name]
  )
  return types.SimpleNamespace(builder=None, labelled=labelled), sexes


def encoders(data, sexes):
  """Untrained features are noise, trained ones know patient and sex."""
  rng = np.random.default_rng(1)
  own = rng.normal(size=(max(SIZES.values()), 6))
  found = {'untrained': {}, 'trained': {}}
  for name, split in data.labelled.items():
    patient = split.columns['patient']
    noise = rng.normal(size=(2, len(patient), 7))
    found['untrained'][name] = noise[0]
    knows = np.concatenate([own[patient], 3 * sexes[name][:, None]], axis=1)
    found['trained'][name] = knows + 0.1 * noise[1]
  return found


def evaluate(data, sexes):
  return identity.evaluate_identity(
    encoders(data, sexes), data, gap_edges=(30.0, 365.0), draws=200
  )


def test_identity_and_sex_are_found(monkeypatch):
  data, sexes = cohort(monkeypatch)
  found = evaluate(data, sexes)
  retrieval = found['retrieval']
  recall = lambda arm: retrieval['arms'][arm]['recall_at_1']['value']
  assert recall('trained') > 0.9 > 0.2 > recall('untrained')
  change = retrieval['differences']['trained-untrained']['recall_at_1']
  assert change['ci95'][0] > 0.5
  by_gap = retrieval['arms']['trained']['by_gap']
  assert list(by_gap) == ['under_365_days']
  assert by_gap['under_365_days']['num_pairs'] == 80
  confounders = found['confounders']
  auroc = lambda label: confounders['arms']['trained'][label]['auroc']['value']
  assert auroc('female') > 0.99 and auroc('65 or older') < 0.8
  change = confounders['differences']['trained-untrained']['female']
  assert change['ci95'][0] > 0
  first, second = tables.identity_tables(found)
  assert first.header[1:] == ['untrained', 'trained', 'trained-untrained']
  assert {len(row) for row in first.rows + second.rows} == {4}
  assert '80 ECGs of 40 patients' in first.caption
  assert [row[0] for row in second.rows] == ['65 or older', 'female']


def test_a_common_mean_hides_nobody(monkeypatch):
  """A shift and a scale of all features change nothing."""
  data, sexes = cohort(monkeypatch)
  features = encoders(data, sexes)
  moved = {
    arm: {name: 1e-3 * x + 50 for name, x in parts.items()}
    for arm, parts in features.items()
  }
  first, second = (
    identity.evaluate_identity(x, data, gap_edges=(30.0,), draws=10)
    for x in (features, moved)
  )
  for arm in ('trained', 'untrained'):
    values = [
      found['retrieval']['arms'][arm]['recall_at_1']['value']
      for found in (first, second)
    ]
    assert values[0] == pytest.approx(values[1])
  constant = np.ones((4, 2))
  assert not identity.standardise(constant, constant).any()


def test_what_is_not_known_is_not_reported(monkeypatch):
  data, sexes = cohort(monkeypatch, ecgs=1, known=False)
  found = evaluate(data, sexes)
  assert found == {'retrieval': None, 'confounders': None}
  assert tables.identity_tables(found) == []


def test_labels_of_persons():
  table = lambda age, sex: {'age': np.array(age), 'sex': np.array(sex)}
  unknown = float('nan')
  everyone = table([30.0, 65, unknown, 80], [1, 0, -1, 1])
  names, columns = identity.person_labels(
    {'train': everyone, 'test': table([70.0, 80], [1, 0])}
  )
  assert names == ['female']  # nobody is younger in the test split
  label, mask = columns['train']
  assert mask.tolist() == [[1], [1], [0], [1]]
  assert label[mask > 0].tolist() == [1, 0, 1]
  names, columns = identity.person_labels({'train': everyone})
  assert names == ['65 or older', 'female']
  label, mask = columns['train']
  assert label[:, 0].tolist() == [0, 1, 0, 1] and mask[2].tolist() == [0, 0]


def test_columns_are_before_then_after_training(monkeypatch):
  data, sexes = cohort(monkeypatch)
  run = types.SimpleNamespace(
    features={'model': encoders(data, sexes)['trained'],
              'untrained': encoders(data, sexes)['untrained']}.get,
    data=data, options=identity.OPTIONS, draws=200,
  )  # fmt: skip
  found = identity.evaluate(run)
  assert found.fields == {'identity': evaluate(data, sexes)}
  header = ['untrained', 'trained', 'trained-untrained']
  assert [list(table.header[1:]) for table in found.tables] == [header] * 2


@pytest.mark.parametrize('known', [True, False])
def test_report_has_a_section(monkeypatch, known):
  from ecgjax.report import page, readme
  from ecgjax.report.finding import merge

  data, sexes = cohort(monkeypatch, ecgs=2 if known else 1, known=known)
  sections = []
  monkeypatch.setattr(
    page, 'write_page', lambda path, title, pages, _: sections.extend(pages)
  )
  monkeypatch.setattr(page, 'check', lambda _: None)
  monkeypatch.setattr(page, '_overview', lambda _: None)
  monkeypatch.setattr(readme, 'provenance', lambda _: 'where from')
  results = {
    'identity': evaluate(data, sexes),
    'arms': {},
    'differences': {},
    'method': 'longitudinal',
    'dataset': 'synthetic',
    'seed': 0,
  }
  finding = identity.describe(results['identity'])
  merged = merge({'identity': finding})
  page.write_report('page', results, sections=merged.sections)
  assert sections[1].title == 'Identity'
  text = readme.render(results)
  assert ('recall@1' in text) == known
  assert finding.metrics.keys() == ({'recall_at_1'} if known else set())
  if not known:
    assert sections[1].parts == [
      'No test patient has two ECGs; age and sex are not known.'
    ]
