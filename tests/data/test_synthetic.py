"""The builder `synthetic`: built on first use, labelled, reproducible."""

import numpy as np
import pytest

from ecgjax.data import synthetic
from ecgjax.data.batches.split import open_split
from ecgjax.data.store import labels, leakage, prepared, records
from ecgjax.ecg.contract import InputContract
from ecgjax.simulator import simulator


@pytest.fixture(scope='module')
def builder(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('synthetic'))
  built, now = prepared.build('synthetic', folder, size='tiny')
  assert now
  return built


def columns(builder):
  """The record tables of all splits, one after the other."""
  tables = [records.read_table(builder, x) for x in builder.info.splits]
  return {k: np.concatenate([t[k] for t in tables]) for k in tables[0]}


def test_contents(builder, tmp_path):
  found = columns(builder)
  assert len(set(found['patient_id'].tolist())) == 64
  assert 120 < len(found['record_id']) < 200
  counts = np.unique(found['patient_id'], return_counts=True)[1]
  assert set(counts) == {1, 2, 3, 4}
  assert np.isnan(found['age']).all() and (found['sex'] == -1).all()
  assert (found['valid_len'] == 1000).all() and (found['fs'] == 100).all()
  assert (found['label_mask'] == 1).all() and found['labels'].any(axis=1).all()
  assert len(set(found['content_hash'].tolist())) == len(found['content_hash'])
  order = np.lexsort((found['record_id'], found['patient_id']))
  same = np.diff(found['patient'][order]) == 0
  assert (np.diff(found['time'][order])[same] > 0).all()  # days, later ECGs
  leakage.audit(builder)
  assert prepared.build('synthetic', builder.data_dir_root, size='tiny')[1] is (
    False
  )


def test_says_that_it_is_synthetic(builder):
  metadata = builder.info.metadata
  assert metadata['synthetic'] is True
  assert metadata['label_names'] == list(simulator.CLASSES)
  assert metadata['generator'].endswith(simulator.VERSION)
  assert metadata['jax'] and metadata['threefry_partitionable'] is True
  assert builder.info.name == 'synthetic'
  assert 'SYNTHETIC' in builder.info.description


def test_signals_are_those_of_the_simulator(builder):
  """Stored microvolts against a fresh simulation from the ids alone."""
  config = builder.builder_config
  people = config.cohort()
  ids = [f'p{p:05d}-{r}' for p, r in zip(people.patient, people.record)]
  found = records.read_table(builder, 'train')
  rows = np.resize([ids.index(x) for x in found['record_id'][:20]], 256)
  ecg, truth = simulator.batch(
    config.seed, people.patient[rows], people.record[rows],
    people.factors[rows], config.recording(),
  )  # fmt: skip
  contract = InputContract(100.0, 1000, ('II', 'V1', 'aVF'))
  split = open_split(builder, 'train', contract)
  ecg = np.asarray(ecg)[:20][..., [1, 6, 5]]
  np.testing.assert_allclose(split.read(0, 20) / 1000, ecg, atol=0.00051)
  expected = simulator.labels(people.factors[rows])[:20, :11]
  np.testing.assert_array_equal(found['labels'][:20], expected)
  assert (~np.isnan(truth.r)).sum(axis=1).min() > 4


def test_splits_are_of_patients_and_grow_with_the_size(builder):
  plans = {
    size: synthetic.Synthetic(
      config=synthetic.synthetic_config(size),
      data_dir=builder.data_dir_root,
    ).plan('')
    for size in ('tiny', 'small')
  }
  splits = {
    size: {entry.patient_id: entry.split for entry in plan.entries}
    for size, plan in plans.items()
  }
  assert splits['tiny'].items() <= splits['small'].items()
  assert len(splits['small']) == 2000
  share = {
    name: np.mean([x == name for x in splits['small'].values()])
    for name in ('train', 'validation', 'test')
  }
  assert abs(share['train'] - 0.7) < 0.03
  assert abs(share['validation'] - 0.1) < 0.02
  assert abs(share['test'] - 0.2) < 0.03


@pytest.mark.parametrize(
  'name, rate, patients, labels',
  [
    ('tiny', 100, 64, 'multi'),
    ('small+500hz', 500, 2000, 'multi'),
    ('medium+single+204.8hz', 204.8, 10000, 'single'),
  ],
)
def test_config_names(name, rate, patients, labels, tmp_path):
  builder = synthetic.Synthetic(config=name, data_dir=str(tmp_path))
  config = builder.builder_config
  assert config.name == name
  assert (config.rate, config.patients) == (rate, patients)
  assert config.labels == labels
  assert builder.info.features['ecg'].shape == (round(rate * 10), 12)


def test_other_choices_get_other_names():
  one = synthetic.synthetic_config('tiny', intra=1.0)
  two = synthetic.synthetic_config('tiny', intra=0.9)
  assert len({one.name, two.name, 'tiny'}) == 3
  incident = synthetic.synthetic_config('small+incident')
  assert 'rhythm' in incident.incident
  assert one.recording().intra == 1.0


def test_frequent_tasks_of_patient_contrast():
  people = synthetic.synthetic_config('small+frequent').cohort()
  stored = simulator.labels(people.factors)[:, : len(simulator.CLASSES)]
  task = labels.make_task('longitudinal', simulator.CLASSES)
  label, _ = labels.apply(task, stored, np.ones_like(stored))
  assert (label.mean(axis=0) > 0.08).all()
  # Flutter that has begun is there in every later ECG, as all but ST shifts.
  flutter = label[:, task.classes.index('AFL')] > 0
  follows = people.patient[1:] == people.patient[:-1]
  assert flutter[1:][flutter[:-1] & follows].all()


@pytest.mark.parametrize(
  'options, message',
  [
    ({'size': 'huge'}, "size is 'huge'; choose one of tiny, small, medium"),
    ({'size': 'tiny+double'}, 'perhaps with .*single'),
    ({'sources': ('ptb',)}, 'synthetic has no option sources'),
    ({'rate': 50}, 'the simulator does 100-1000 Hz'),
  ],
)
def test_impossible_choices_are_refused(options, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    prepared.make_builder('synthetic', str(tmp_path), **options)
