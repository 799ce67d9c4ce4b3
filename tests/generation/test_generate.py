"""Generation from a training fold: parents, labels, refusals, the data set."""

import json

import numpy as np
import pytest

from configs import lcd as lcd_config
from configs import supervised as supervised_config
from ecgjax import config as config_lib
from ecgjax import model, train
from ecgjax.data.batches import extra, run_data
from ecgjax.data.batches.split import arguments, open_split
from ecgjax.data.store import generated, splits
from ecgjax.data.store import records as records_lib
from ecgjax.ecg import beats, leads
from ecgjax.ecg.contract import InputContract
from ecgjax.generation import generate, inputs, operators
from tests import tiny_runs
from tests.generation import beating


@pytest.fixture(scope='module')
def made(data, tmp_path_factory):
  """A run of `input_smote`: folder, summary, builder and record table."""
  import tensorflow_datasets as tfds

  folder = tmp_path_factory.mktemp('generated') / 'run'
  assert generate.generate_for(beating.make_config(), data, folder) == folder
  summary = extra.read_summary(folder)
  builder = tfds.builder_from_directory(str(folder / summary['dataset']))
  return folder, summary, builder, records_lib.read_table(builder, 'train')


def test_children_have_two_patients_and_one_label_set(data, made):
  _, summary, _, children = made
  train = records_lib.read_table(data.builder, 'train')
  row = {name: i for i, name in enumerate(train['record_id'])}
  a = [row[name] for name in children['parent_a']]
  b = [row[name] for name in children['parent_b']]
  assert (train['patient'][a] != train['patient'][b]).all()
  np.testing.assert_array_equal(train['labels'][a], train['labels'][b])
  np.testing.assert_array_equal(children['labels'], train['labels'][a])
  assert not children['labels'][:, beating.NAMES.index('AF')].any()
  assert ((children['weight'] >= 0) & (children['weight'] <= 1)).all()
  assert set(children['operator']) == {'input_smote'}
  # Twice the real ones. ECGs with LVH have LBBB too, and count for both.
  positive = dict(zip(beating.NAMES, children['labels'].sum(axis=0).tolist()))
  wanted = {k: v['wanted'] for k, v in summary['classes'].items()}
  assert wanted == {'AF': 16, 'LVH': 8, 'LBBB': 32, 'NORM': 24}
  assert positive['LVH'] >= 8
  assert positive == {'AF': 0, 'LVH': positive['LVH'], 'LBBB': 32, 'NORM': 24}
  assert {k: v['made'] for k, v in summary['classes'].items()} == positive


def test_everything_says_generated(data, made):
  folder, summary, builder, children = made
  for metadata in (summary, builder.info.metadata):
    assert metadata['synthetic'] is True and metadata['generated'] is True
  assert set(children['source']) == {'generated'}
  assert all(name.startswith('generated-') for name in children['record_id'])
  assert 'GENERATED' in builder.info.description
  page = (folder / 'gallery.html').read_text()
  assert 'SYNTHETIC ECGs' in page and 'Generated ECG: ' in page
  assert summary['hashes'] == {
    'split': data.split_hash, 'manifest': data.manifest_hash
  }  # fmt: skip
  assert builder.info.metadata['split_sha256'] == data.split_hash
  assert str(folder.parent) not in (folder / extra.SUMMARY).read_text()


def test_signals_keep_beats_and_leads_algebra(data, made):
  _, summary, builder, children = made
  options = arguments(beating.make_config().data)
  split = open_split(builder, 'train', **options)
  stored = split.read(0, len(split))
  assert stored.shape == (len(children['record']), beating.LENGTH, 8)
  twelve = leads.from_independent(np, stored / 1000)
  counts = [len(beats.r_peaks(x, 100)) for x in twelve]
  assert min(counts) >= 4 and max(counts) <= 7
  assert summary['measures']['einthoven_uv'] <= 1.5
  for row in summary['measures']['classes'].values():
    assert 0.95 <= row['beats_ratio'] <= 1.05
    assert row['changed'] is None
  assert (children['limb_residual'] <= 1.5).all()


def test_the_same_seed_writes_the_same_bytes(data, made, tmp_path):
  def shards(folder):
    found = sorted(folder.rglob('*.tfrecord*'))
    return {path.name: path.read_bytes() for path in found}

  generate.generate_for(beating.make_config(), data, tmp_path / 'again')
  assert shards(tmp_path / 'again') == shards(made[0])
  generate.generate_for(beating.make_config(seed=1), data, tmp_path / 'other')
  assert shards(tmp_path / 'other') != shards(made[0])


def test_a_finished_run_is_left_alone_or_refused(data, made):
  folder = made[0]
  before = (folder / extra.SUMMARY).read_bytes()
  generate.generate_for(beating.make_config(), data, folder)
  assert (folder / extra.SUMMARY).read_bytes() == before
  with pytest.raises(ValueError, match='augment.ratio is 2.0 there, 3.0 here'):
    generate.generate_for(beating.make_config(ratio=3.0), data, folder)
  with pytest.raises(ValueError, match='generated with another manifest'):
    generate.generate_for(
      beating.make_config(), data._replace(manifest_hash='0'), folder
    )


def test_a_run_without_summary_starts_again(data, made, tmp_path):
  folder = tmp_path / 'run'
  generate.generate_for(beating.make_config(), data, folder)
  (folder / extra.SUMMARY).unlink()  # killed before it was written
  (shard,) = folder.rglob('*.tfrecord*')
  written = shard.read_bytes()
  shard.write_bytes(b'of a run with another codec')
  generate.generate_for(beating.make_config(), data, folder)
  assert shard.read_bytes() == written
  old, new = extra.read_summary(made[0]), extra.read_summary(folder)
  assert {**old, 'seconds': 0} == {**new, 'seconds': 0}


def test_label_subsets_are_the_only_parents(data, tmp_path):
  records = data.labelled['train'].record_ids[:16]
  part = beating.open_data(data.builder, records)
  folder = generate.generate_for(beating.make_config(), part, tmp_path / 'run')
  hashes = extra.read_summary(folder)['hashes']
  assert hashes['manifest'] == part.manifest_hash != data.manifest_hash
  config = beating.make_config().copy_and_resolve_references().unlock()
  config.data.extra = (str(folder),)
  (split,) = extra.open_extra(config.data, part)
  assert len(split) == extra.read_summary(folder)['num_examples']


def test_the_command_reads_a_manifest(data, tmp_path, monkeypatch):
  chosen = data.labelled['train'].record_ids[8:24]
  path = tmp_path / 'manifest.json'
  splits.write_manifest(splits.manifest(chosen), path)
  monkeypatch.setattr(
    run_data.prepared, 'open_builder', lambda *_: data.builder
  )
  config = beating.make_config(manifest=str(path), classes=('LBBB',), ratio=0.5)
  summary = generate.generate(config, tmp_path / 'run')
  assert summary['classes']['LBBB'] == {'real': 8, 'wanted': 4, 'made': 4}
  with pytest.raises(ValueError, match='needs --config=configs/augment.py'):
    generate.generate(supervised_config.get_config(), tmp_path / 'other')


def test_a_classifier_trains_on_real_and_generated(data, made, tmp_path):
  config = supervised_config.get_config().copy_and_resolve_references()
  config.model = {
    'name': 'vit1d', 'kwargs': {'width': 8, 'depth': 1, 'heads': 2, 'patch': 50}
  }  # fmt: skip
  config.data.update({'length': beating.LENGTH, 'leads': ('II', 'V1')})
  config.data.extra, config.data.oversample = (str(made[0]),), 0.3
  config.batch_size, config.num_epochs, config.eval_every = 16, 1, 1
  task = data.labelled['train'].class_names
  own = beating.open_data(data.builder, data_config=config)
  trained = train.train_on(config.lock(), tmp_path / 'run', own)
  epoch = beating.NUM_TRAIN // 16  # of real ones
  assert int(trained.state.step) == epoch
  restored_run = model.load(tmp_path / 'run')
  assert restored_run.class_names == task
  assert restored_run.fingerprint != own.fingerprint
  other = config.copy_and_resolve_references().unlock()
  other.data.extra = ()
  with pytest.raises(ValueError, match='data.extra is .* there, .* here'):
    train.train_on(other, tmp_path / 'run', own)
  pretext = lcd_config.get_config().copy_and_resolve_references()
  pretext.data.extra = (str(made[0]),)
  with pytest.raises(ValueError, match='extra needs a supervised config'):
    train.train_on(pretext, tmp_path / 'lcd', own)
  facts = extra.describe(config.data.extra)
  assert [found['operator'] for found in facts] == ['input_smote']
  assert config_lib.identity(config)['data']['extra'] == ['run']


def test_held_out_patients_are_never_parents(tmp_path):
  """A patient of validation, planted in training, stops everything."""
  planted = beating.make_example(1, patient_id='p100', patient=100)
  train = [0, planted, *range(2, beating.NUM_TRAIN)]
  data = beating.open_data(beating.write(tmp_path, train))
  with pytest.raises(ValueError, match="'r200' of split validation or its"):
    generate.generate_for(beating.make_config(), data, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'classes': ('AF',)}, r'AF is a class of rhythm .* prior, resample or'),
    ({'classes': ('nil',)}, "no class 'nil'; the classes are NORM"),
    ({'operator': 'A'}, 'augment.codec is empty; operator A needs'),
    ({'operator': 'prior'}, 'augment.prior is empty'),
    ({'operator': 'G', 'codec': 'x'}, 'augment.teacher is empty; operator G'),
    ({'law': 'beyond'}, 'augment.teacher is empty; .* lambda leaves'),
    ({'ratio': 6.0}, 'augment.ratio is 6; choose above 0 to 5'),
    ({'classes': ('LVH',), 'target': 1}, 'nothing was made'),
  ],
)
def test_what_cannot_be_is_refused(data, tmp_path, options, message):
  options = {'operator': 'input_smote'} | options
  with pytest.raises(ValueError, match=message):
    generate.generate_for(
      beating.make_config(**options), data, tmp_path / 'run'
    )
  assert not (tmp_path / 'run').exists()


def test_implausible_children_are_counted(data):
  config = beating.make_config(classes=('NORM',), ratio=1.0)
  context, task, _ = inputs.make_context(
    config.augment,
    InputContract.from_data(config.data),
    config.data.task,
    data,
    dict.fromkeys(inputs.METHODS),
  )
  propose = operators.make_maker('input_smote', context)
  # Believes every second one.
  teacher = lambda ecg, name: np.resize([0.5, 0.51], len(ecg))
  made, classes, rejected = generate.fill_classes(
    context, data.labelled['train'], task, propose, teacher, 0
  )
  assert len(made) == classes['NORM']['made'] == 12
  assert rejected['implausible'] >= 11
  never = lambda ecg, name: np.zeros(len(ecg))
  made, classes, _ = generate.fill_classes(
    context, data.labelled['train'], task, propose, never, 0
  )
  assert not made and classes['NORM'] == {'real': 12, 'wanted': 12, 'made': 0}


def test_a_codec_of_other_records_is_refused(data, tmp_path):
  tiny_runs.write_codec(tmp_path / 'codec', 'f' * 64, beating.LENGTH)
  config = beating.make_config('A', codec=str(tmp_path / 'codec'))
  with pytest.raises(ValueError, match='trained on other records than the'):
    generate.generate_for(config, data, tmp_path / 'run')
  tiny_runs.write_codec(tmp_path / 'short', data.fingerprint, 128)
  config = beating.make_config('A', codec=str(tmp_path / 'short'))
  with pytest.raises(ValueError, match='augment.codec: .* trained on'):
    generate.generate_for(config, data, tmp_path / 'run')


def test_stored_children_come_back(tmp_path):
  """The builder alone: what is written is what is read."""
  import tensorflow_datasets as tfds

  rng = np.random.default_rng(0)
  children = [
    generated.Child(
      f'generated-{i}', rng.normal(size=(60, 12)), np.array([1, 0], np.uint8),
      np.array([1, i], np.uint8), (f'a{i}', ''), 0.25 * i, np.nan, 'x',
    )
    for i in range(2)
  ]  # fmt: skip
  facts = {'operator': 'A', 'split_sha256': 'abc', 'seed': 3}
  path = generated.write(tmp_path, children, 100.0, ['x', 'y'], facts)
  builder = tfds.builder_from_directory(str(path))
  found = records_lib.read_table(builder, 'train')
  order = np.argsort(found['record_id'])
  assert found['parent_a'][order].tolist() == ['a0', 'a1']
  assert found['weight'][order].tolist() == [0, 0.25]
  assert np.isnan(found['changed']).all()
  ecg = np.concatenate([
    part['ecg'] for part in records_lib.read_shards(
      *records_lib.shards(builder, 'train'), ['ecg']
    )
  ])[order]  # fmt: skip
  expected = np.rint(1000 * np.stack([x.ecg for x in children]))
  np.testing.assert_array_equal(ecg, expected)
  assert json.loads((path / 'metadata.json').read_text())['seed'] == 3
