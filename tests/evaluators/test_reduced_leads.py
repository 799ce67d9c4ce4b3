"""Single leads, pairs and all leads against scikit-learn and plain NumPy."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ecgjax.ecg import leads
from ecgjax.evaluators import reduced_leads
from ecgjax.report import page

LEADS = ('II', 'V1', 'V5')
NUM = 90


class Sum:
  """A 'probe' whose score of each class is a mean over the leads it got."""

  def predict(self, features):
    each = features.reshape(len(features), -1, 2)  # [N, leads, K]
    return 1 / (1 + np.exp(-each.mean(axis=1)))


@pytest.fixture(scope='module')
def study():
  """Features [N, C, K = D]; V5 knows most, V1 nothing."""
  rng = np.random.default_rng(0)
  label = (rng.random((NUM, 2)) < 0.4).astype(np.float32)
  strength = np.array([1.0, 0.0, 3.0])[:, None]
  noise = rng.normal(size=(NUM, 3, 2))
  features = strength * label[:, None] + noise  # [N, C, K]
  test = {
    'label': label,
    'label_mask': np.ones_like(label),
    'patient': np.arange(NUM) // 2,
  }
  flat = np.array([[5.0, -5.0]] * 3)
  seen = []

  def fit(train, validation):
    seen.append((train, validation))
    return Sum()

  part = reduced_leads.evaluate_reduced_leads(
    LEADS,
    {'train': features[:7], 'validation': features[7:12], 'test': features},
    flat, test, fit, draws=1000,
  )  # fmt: skip
  return part, features, test, seen


def macro(label, features):
  scores = Sum().predict(features.reshape(len(features), -1))
  return np.mean([roc_auc_score(label[:, k], scores[:, k]) for k in (0, 1)])


def test_37_conditions():
  found = reduced_leads.conditions(leads.LCD_LEADS)
  assert len(found) == 37 and len(set(found)) == 37
  assert sorted(map(len, found)) == [1] * 8 + [2] * 28 + [8]
  assert reduced_leads.conditions(('I', 'II')) == [('I',), ('II',), ('I', 'II')]
  assert reduced_leads.conditions(('I',)) == [('I',)]


def test_values(study):
  part, features, test, seen = study
  assert part['num_conditions'] == 7 and part['metric'] == 'macro_auroc'
  assert part['num_labels'] == 2
  for columns in ((0,), (2,), (0, 1), (1, 2), (0, 1, 2)):
    name = '+'.join(LEADS[c] for c in columns)
    found = part['retrained']['conditions'][name]['value']
    expected = macro(test['label'], features[:, columns])
    assert found == pytest.approx(expected, abs=1e-12)
  # The probe of a condition saw the features of its leads, and no others.
  train, validation = seen[4]  # II+V5
  np.testing.assert_array_equal(train, features[:7, [0, 2]].reshape(7, -1))
  np.testing.assert_array_equal(
    validation, features[7:12, [0, 2]].reshape(5, -1)
  )


def test_zero_filled_leads_are_flat(study):
  part, features, test, _ = study
  found = part['zero_filled']['conditions']
  filled = features.copy()
  filled[:, [0, 2]] = [5.0, -5.0]
  assert found['V1']['value'] == pytest.approx(macro(test['label'], filled))
  whole = part['retrained']['conditions']['II+V1+V5']
  assert found['II+V1+V5'] == whole


def test_groups(study):
  part, features, test, _ = study
  groups = part['retrained']['groups']
  pairs = {
    '+'.join(LEADS[c] for c in pair): macro(test['label'], features[:, pair])
    for pair in itertools.combinations(range(3), 2)
  }
  assert groups['pair']['num_conditions'] == 3
  assert groups['pair']['mean']['value'] == pytest.approx(
    np.mean(list(pairs.values()))
  )
  worst, best = min(pairs, key=pairs.get), max(pairs, key=pairs.get)
  assert groups['pair']['worst']['leads'] == worst
  assert groups['pair']['best']['leads'] == best
  assert groups['pair']['best']['value'] == pytest.approx(pairs[best])
  assert groups['single']['worst']['leads'] == 'V1'
  assert groups['all']['mean']['value'] == groups['all']['worst']['value']


def test_interval_of_a_group_is_of_the_mean_in_each_draw(study):
  """Patients drawn and records copied, instead of weights."""
  part, features, test, _ = study
  unique = np.unique(test['patient'])
  generator = np.random.default_rng(0)  # the documented generator and seed
  means = []
  for _ in range(60):  # of the 1000: the ends agree roughly
    drawn = generator.integers(0, len(unique), len(unique), dtype=np.int64)
    rows = np.concatenate(
      [np.flatnonzero(test['patient'] == unique[d]) for d in drawn]
    )
    label, some = test['label'][rows], features[rows]
    means.append(np.mean([macro(label, some[:, [c]]) for c in range(3)]))
  means = np.array(means)
  low, high = part['retrained']['groups']['single']['mean']['ci95']
  assert np.mean((means > low) & (means < high)) > 0.85
  assert np.std(means) == pytest.approx((high - low) / 3.92, rel=0.35)


def test_labels_without_support_fall_back_to_all(study):
  _, features, test, _ = study
  few = slice(0, 12)
  part = reduced_leads.evaluate_reduced_leads(
    LEADS,
    {name: features[few] for name in ('train', 'validation', 'test')},
    np.zeros((3, 2)), {k: v[few] for k, v in test.items()},
    lambda train, validation: Sum(), draws=1000,
  )  # fmt: skip
  assert part['metric'] == 'macro_auroc_all'


def test_section(study, tmp_path):
  part, *_ = study
  section = reduced_leads.section(part)
  rows = {tuple(row[:2]): row for row in section.parts[0].rows}
  assert ('retrained', 'II') in rows and ('zero_filled', 'II+V1') in rows
  value = part['retrained']['conditions']['II+V1']['value']
  assert rows['retrained', 'II+V1'][3].startswith(f'{value:.3f} [')
  page.write_page(tmp_path / 'page.html', 'x', [section])
  assert 'V5' in (tmp_path / 'page.html').read_text()
