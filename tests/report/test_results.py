"""The result record refuses what the protocol forbids."""

import copy
import json
import math
import os

import numpy as np
import pytest

from ecgjax.metrics import compare_arms, metrics
from ecgjax.report import results


@pytest.fixture(scope='module')
def predictions():
  generator = np.random.default_rng(0)
  labels = (generator.random((90, 3)) < [0.4, 0.3, 0.01]).astype(int)
  labels[0, 2] = 1
  arms = {
    name: 1 / (1 + np.exp(-generator.normal(size=(2, 90, 3)) - shift * labels))
    for name, shift in (('random_probe', 0.2), ('probe', 2.0))
  }
  return {
    'arms': arms,
    'labels': labels,
    'patients': np.arange(90) // 2,
    'class_names': ['NORM', 'MI', 'rare'],
    'thresholds': {
      name: metrics.f1_thresholds(labels, s) for name, s in arms.items()
    },
    'label_mask': np.ones_like(labels),
  }


@pytest.fixture(scope='module')
def record(predictions):
  return results.assemble(
    compare_arms.evaluate_arms(**predictions, method='probe', draws=200),
    method='lcd', dataset='ptbxl', protocol='standardised_lr', split='test',
    seed=0, step=10, num_examples=90, num_patients=np.int64(45),
    hashes=dict.fromkeys(results.HASHES, '0a' * 32), device='1 x cpu',
    examples_per_second=np.float32(12.5), wall_seconds=3, synthetic=False,
  )  # fmt: skip


def test_round_trip(record, tmp_path):
  path = tmp_path / 'run' / 'results.json'
  results.write(path, record)
  assert results.read(path) == record
  assert os.listdir(path.parent) == ['results.json']
  names = (
    'method dataset protocol split seed step num_examples num_patients metrics '
    'per_class arms differences hashes device examples_per_second wall_seconds '
    'versions git'
  )
  assert set(names.split()) <= set(json.loads(path.read_text()))
  assert record['metrics'] == record['arms']['probe']['metrics']
  assert set(record['differences']) == {'probe-random_probe'}
  assert {'jax', 'numpy', 'python', 'ecgjax'} <= set(record['versions'])
  assert record['git'] == 'unknown' or len(record['git'].split('-')[0]) == 40


def _put(*path, value):
  def change(record):
    for key in path[:-1]:
      record = record[key]
    record[path[-1]] = value

  return change


def _drop(*path):
  def change(record):
    for key in path[:-1]:
      record = record[key]
    del record[path[-1]]

  return change


@pytest.mark.parametrize(
  'change, message',
  [
    (_drop('git'), "'git' is missing"),
    (_put('seed', value='0'), 'seed is'),
    (_put('seed', value=True), 'seed is'),
    (_put('num_examples', value=1.5), 'num_examples is'),
    (_drop('hashes', 'split'), 'hashes.split'),
    (_put('hashes', 'manifest', value=''), 'hashes.manifest'),
    (_put('hashes', 'checkpoint', value='0A' * 32), 'hashes.checkpoint'),
    (_drop('arms', 'random_probe'), "arm 'random_probe' is missing"),
    (_put('metrics', value={}), 'metrics is empty'),
    (_put('metrics', 'macro_auroc', value=0.8), 'value and ci95'),
    (_put('metrics', 'macro_auroc', 'value', value=0.1), 'outside its own'),
    (
      _put(
        'differences', 'probe-random_probe', 'macro_f1', 'ci95', value=[1, 2]
      ),
      'macro_f1: the point .* outside its own',
    ),
    (_put('arms', 'probe', 'per_class', 'MI', 'auroc', 'ci95', value=None),
     'MI.auroc: value .* without an interval'),
    (_put('wall_seconds', value=math.nan), 'wall_seconds is nan'),
    (_put('per_class', 'MI', 'x', value=math.inf), 'finite'),
    (_put('per_class', 'MI', 'x', value=np.zeros(2)), 'ndarray'),
    (_put('per_class', 3, value={}), 'not a string'),
  ],
)  # fmt: skip
def test_refusals(record, tmp_path, change, message):
  broken = copy.deepcopy(record)
  change(broken)
  path = tmp_path / 'results.json'
  with pytest.raises(ValueError, match=message):
    results.write(path, broken)
  assert not os.listdir(tmp_path)


def test_a_label_efficiency_table_needs_scratch(record):
  with pytest.raises(ValueError, match="arm 'scratch' is missing"):
    results.check(record, required_arms=('random_probe', 'scratch'))


def test_an_undefined_metric_is_null_only_without_labels(record):
  record = copy.deepcopy(record)
  entry = {'value': None, 'ci95': None, 'num_labels': 0}
  record['metrics']['macro_auroc'] = entry
  results.check(record)
  entry['num_labels'] = 2
  with pytest.raises(ValueError, match='without an interval'):
    results.check(record)


def test_a_task_without_labels_needs_no_arm(record):
  record = copy.deepcopy(record)
  record |= {
    'arms': {}, 'differences': {}, 'per_class': {},
    'metrics': {'recall_at_1': {'value': 0.5, 'ci95': [0.4, 0.6]}},
  }  # fmt: skip
  results.check(record)


def test_a_failed_write_keeps_the_old_file(record, tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  results.write(path, record)
  before = path.read_bytes()

  def fail(*args):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    results.write(path, record | {'seed': 1})
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['results.json']


def test_a_damaged_file_is_named(tmp_path):
  path = tmp_path / 'results.json'
  path.write_text('{"method": ')
  with pytest.raises(ValueError, match='results.json'):
    results.read(path)


def test_predictions_round_trip_to_the_same_figures(
  predictions, record, tmp_path
):
  path = tmp_path / 'predictions.npz'
  results.write_predictions(path, **predictions)
  assert os.listdir(tmp_path) == ['predictions.npz']
  again = compare_arms.evaluate_arms(
    **results.read_predictions(path), method='probe', draws=200
  )
  for name in ('metrics', 'per_class', 'arms', 'differences'):
    assert again[name] == record[name]
  with pytest.raises(ValueError, match='integers or strings'):
    results.write_predictions(
      path, **predictions | {'patients': np.array([None] * 90)}
    )
