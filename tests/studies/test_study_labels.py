"""Who gets which labels: of validation, for thresholds, and never of test."""

import json
import types

import numpy as np
import pytest

from configs import study_label_efficiency as study_config
from ecgjax.data.store import splits as splits_lib
from ecgjax.evaluators.arms import compare
from ecgjax.metrics import metrics
from ecgjax.studies import label_efficiency, label_subsets
from ecgjax.studies import study as study_lib

NAMES = ('a', 'b')


class Split(types.SimpleNamespace):
  def __len__(self):
    return len(self.record_ids)

  def take(self, rows):
    fields = {
      'record_ids': self.record_ids[rows],
      'position': self.position[rows],
      'columns': {k: v[rows] for k, v in self.columns.items()},
    }
    return Split(**vars(self) | fields)


def split(name, count, seed):
  """Records of half as many patients, with both labels at random."""
  rng = np.random.default_rng(seed)
  label = (rng.random((count, 2)) < 0.4).astype(np.float32)
  return Split(
    name=name,
    class_names=NAMES,
    record_ids=np.array([f'{name}{i:04d}' for i in range(count)]),
    position=np.arange(count),
    columns={
      'label': label,
      'label_mask': np.ones_like(label),
      'patient': np.arange(count) // 2,
    },
  )


@pytest.fixture
def data(monkeypatch):
  """A data set without signals; its table holds the patients alone."""
  splits = {
    name: split(name, count, seed)
    for seed, (name, count) in enumerate(
      {'train': 400, 'validation': 100, 'test': 120}.items()
    )
  }

  def read_table(_, name):
    return {'patient_id': splits[name].columns['patient'].astype(str)}

  monkeypatch.setattr(label_subsets.records, 'read_table', read_table)
  data = types.SimpleNamespace(
    builder=None, labelled=splits, split_hash='0a' * 32, synthetic=True
  )
  data._replace = lambda **fields: types.SimpleNamespace(**vars(data) | fields)
  return data


def options(**fields):
  config = study_config.get_config('preset=smoke')
  config = config.copy_and_resolve_references()
  config.study.update(fields)
  return config.lock()


def test_validation_labels_are_of_the_same_share_and_nested(data):
  study = options().study
  assert study.validation == 'budget'  # the default
  manifests = [
    label_subsets.validation_manifest(study, data, 0, {'fraction': f})
    for f in (0.1, 0.5, 1.0)
  ]
  assert [m['num_records'] for m in manifests] == [10, 50, 100]
  ids = [set(m['record_ids']) for m in manifests]
  assert ids[0] < ids[1] < ids[2]
  assert len({m['sha256'] for m in manifests}) == 3
  by_number = label_subsets.validation_manifest(
    study, data, 0, {'num_records': 50}
  )
  assert by_number['num_records'] == 13  # 50 of 400, 12.5 of 100
  other = label_subsets.validation_manifest(study, data, 1, {'fraction': 0.1})
  assert set(other['record_ids']) != ids[0]


def test_the_whole_validation_split_remains_an_option(data):
  found = label_subsets.validation_manifest(
    options(validation='full').study, data, 0, {'fraction': 0.01}
  )
  assert found['num_records'] == 100


def test_a_tiny_validation_subset_can_still_choose(data):
  """One record says nothing: the subset ends where a label has both classes."""
  found = label_subsets.validation_manifest(
    options().study, data, 0, {'fraction': 0.001}
  )
  whole = data.labelled['validation']
  rows = np.isin(whole.record_ids, found['record_ids'])
  label = whole.columns['label'][rows]
  assert 2 <= len(label) <= 4
  assert np.any((label.max(axis=0) == 1) & (label.min(axis=0) == 0))
  whole.columns['label'][:] = 0
  with pytest.raises(ValueError, match='nothing can be chosen'):
    label_subsets.validation_manifest(
      options().study, data, 0, {'fraction': 0.1}
    )


@pytest.mark.parametrize(
  ('validation', 'count'), [('budget', 50), ('full', 100)]
)
def test_every_choice_of_a_cell_sees_the_same_validation_records(
  data, tmp_path, monkeypatch, validation, count
):
  """Probe, classifier (checkpoints and rates) and thresholds."""
  config = options(validation=validation)
  seen = {}
  rng = np.random.default_rng(0)
  features = {
    name: np.arange(len(part))[:, None] for name, part in data.labelled.items()
  }
  encoders = types.SimpleNamespace(
    features={'random_probe': features, 'probe': features},
    folder=tmp_path, digest='0b' * 32, examples_per_second=1.0,
  )  # fmt: skip
  scores_of = lambda splits: tuple(
    rng.random((len(splits[name]), 2)) for name in ('validation', 'test')
  )

  def probe_scores(recipe, train, held_out, test, splits):
    seen['probe'] = splits['validation'].record_ids, held_out[:, 0]
    assert len(train) == len(splits['train']) == 200
    return scores_of(splits)

  def train_classifier(config, data, folder, arm, **_):
    seen[arm] = data.labelled['validation'].record_ids
    assert len(data.labelled['train']) == 200
    return scores_of(data.labelled)

  def f1_thresholds(label, scores, mask):
    seen['thresholds'] = label
    return metrics_thresholds(label, scores, mask)

  metrics_thresholds = metrics.f1_thresholds
  monkeypatch.setattr(metrics, 'f1_thresholds', f1_thresholds)
  monkeypatch.setattr(label_efficiency, 'probe_scores', probe_scores)
  monkeypatch.setattr(study_lib, 'train_classifier', train_classifier)
  label_efficiency._run_cell(
    config, data, encoders, tmp_path, 0, {'fraction': 0.5}
  )
  manifest = splits_lib.read_manifest(tmp_path / 'validation_manifest.json')
  ids = manifest['record_ids']
  assert len(ids) == count
  whole = data.labelled['validation']
  rows = np.flatnonzero(np.isin(whole.record_ids, ids))
  for arm in ('scratch', 'finetune'):
    np.testing.assert_array_equal(seen[arm], ids)
  np.testing.assert_array_equal(seen['probe'][0], ids)
  np.testing.assert_array_equal(seen['probe'][1], rows)
  np.testing.assert_array_equal(
    seen['thresholds'], whole.columns['label'][rows]
  )
  results = json.loads((tmp_path / 'results.json').read_text())
  assert results['hashes']['validation_manifest'] == manifest['sha256']
  assert results['num_validation_records'] == count


def test_thresholds_are_never_chosen_on_test():
  """Other test labels change no threshold, other validation labels do."""
  config = options()

  def thresholds(flip=''):
    splits = {
      name: split(name, 90, seed)
      for seed, name in enumerate(('validation', 'test'))
    }
    if flip:
      columns = splits[flip].columns
      columns['label'] = 1 - columns['label']
    scores = {
      arm: (
        np.random.default_rng(5).random((90, 2)),
        np.random.default_rng(6).random((90, 2)),
      )
      for arm in ('random_probe', 'probe')
    }
    _, predictions = compare(scores, splits, 'probe', config.bootstrap_draws)
    wanted = metrics.f1_thresholds(
      splits['validation'].columns['label'], scores['probe'][0]
    )
    np.testing.assert_array_equal(predictions['thresholds']['probe'], wanted)
    return predictions['thresholds']['probe']

  np.testing.assert_array_equal(thresholds('test'), thresholds())
  assert np.any(thresholds('validation') != thresholds())
