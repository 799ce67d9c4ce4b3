"""Which study a config means, its cells, and what is run again."""

import json
import types

import numpy as np
import pytest

from configs import study_label_efficiency as study_config
from ecgjax.studies import label_subsets
from ecgjax.studies import study as study_lib


def make_config(**fields):
  config = study_config.get_config('preset=smoke')
  config = config.copy_and_resolve_references()
  config.study.update(fields)
  return config.lock()


def test_unknown_study_names_the_choices(tmp_path):
  with pytest.raises(ValueError, match="no 'grid' in ecgjax.studies.*label_"):
    study_lib.run_study(make_config(name='grid'), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_finished_cells_are_not_run_again(tmp_path, monkeypatch):
  ran = []

  def run_cell(name, folder):
    ran.append(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'results.json').write_text(json.dumps(name))

  def summarise(folders, seconds):
    assert seconds >= 0
    if len(ran) < 4:
      raise ValueError('killed here')
    return {n: json.loads((f / 'results.json').read_text())
            for n, f in folders.items()}  # fmt: skip

  made = study_lib.Study(('a', 'b', 'c'), run_cell, summarise)
  module = types.SimpleNamespace(make=lambda *_: made)
  monkeypatch.setattr(study_lib, 'resolve', lambda *_: module)
  monkeypatch.setattr(study_lib.run_data, 'open_data', lambda _: None)
  monkeypatch.setattr(study_lib, 'publish', lambda _, ending: ending)
  with pytest.raises(ValueError, match='killed here'):
    study_lib.run_study(make_config(), tmp_path / 'run')
  (tmp_path / 'run' / 'runs' / 'b' / 'results.json').unlink()
  found = study_lib.run_study(make_config(), tmp_path / 'run')
  assert ran == ['a', 'b', 'c', 'b']
  assert found == {'a': 'a', 'b': 'b', 'c': 'c'}


def test_subset_sizes():
  sizes = lambda n, **fields: label_subsets.subset_sizes(
    make_config(**fields).study, n
  )
  assert sizes(9, fractions=(0.05, 1.0)) == [
    ('labels5percent', {'fraction': 0.05}),
    ('labels100percent', {'fraction': 1.0}),
  ]
  assert sizes(101, fractions=(), num_records=(50, 100, 0)) == [
    ('labels50', {'num_records': 50}),
    ('labels100', {'num_records': 100}),
    ('labelsall', {'fraction': 1.0}),
  ]
  with pytest.raises(ValueError, match='has 100; the training split has 100'):
    sizes(100, fractions=(), num_records=(50, 100, 0))
  for fields in ({'fractions': ()}, {'num_records': (5,)}):
    with pytest.raises(ValueError, match='either fractions or num_records'):
      sizes(9, **fields)


def test_a_run_of_a_study_has_its_own_fields_and_the_studys_data():
  config = make_config()
  pretrain = study_lib.run_config(
    config, ('supervised',), **config.pretrain.to_dict()
  )
  assert pretrain.method == 'lcd' and 'lcd' in pretrain
  assert pretrain.batch_size == config.pretrain.batch_size
  assert not {'study', 'pretrain', 'supervised'} & set(pretrain)
  classifier = study_lib.run_config(config, seed=5)
  assert classifier.method == 'supervised' and classifier.seed == 5
  assert classifier.data == pretrain.data == config.data


def test_the_best_rate_on_validation_counts(monkeypatch, tmp_path):
  """By `best_metric` of the chosen checkpoint; batches fit small subsets."""
  runs = []

  def train_on(run, folder, data, description):
    runs.append(run)
    rate = run.optimizer.learning_rate
    figures = {run.best_metric: {1e-4: 0.6, 3e-4: 0.9}[rate]}
    return types.SimpleNamespace(figures=figures, rate=rate)

  monkeypatch.setattr(study_lib.train, 'train_on', train_on)
  monkeypatch.setattr(
    study_lib.evaluate, 'choose_model', lambda run, trained: trained
  )
  monkeypatch.setattr(
    study_lib,
    'over_split',
    lambda trained, split, arm: types.SimpleNamespace(
      probabilities=np.full(len(split), trained.rate)
    ),
  )
  labelled = {'train': range(13), 'validation': range(2), 'test': range(3)}
  validation, test = study_lib.train_classifier(
    make_config(), types.SimpleNamespace(labelled=labelled), tmp_path, 'arm',
    seed=3, learning_rates=(3e-4, 1e-4),
  )  # fmt: skip
  np.testing.assert_array_equal(validation, [3e-4] * 2)
  np.testing.assert_array_equal(test, [3e-4] * 3)
  assert {run.batch_size for run in runs} == {8}
  assert {run.seed for run in runs} == {3}
