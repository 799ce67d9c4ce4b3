"""Studies: whose encoder, which records, which seed each cell is given."""

import types

import numpy as np
import pytest

from configs import study_augmentation, study_label_efficiency
from ecgjax.model import Outputs
from ecgjax.studies import (
  augmentation,
  augmentation_fold,
  label_efficiency,
  label_subsets,
)
from ecgjax.studies import study as study_lib

PARTS = ('train', 'validation', 'test')
IDS = np.array([f'r{i}' for i in range(6)])


def make_config(module, **fields):
  config = module.get_config('preset=smoke').copy_and_resolve_references()
  config.study.update(fields)
  return config


def make_split(name):
  columns = {
    'label': np.float32(np.eye(6)[:, :2]),
    'label_mask': np.ones((6, 2), np.float32),
  }
  return types.SimpleNamespace(
    name=name, record_ids=IDS, columns=columns, class_names=('a', 'b'),
    position=np.array([0, 2, 3, 5, 6, 8]), __len__=lambda: 6,
    take=lambda rows: f'{name} subset {" ".join(IDS[rows])}',
  )  # fmt: skip


def make_data(train='train'):
  labelled = {
    'train': make_split(train),
    'validation': 'validation',
    'test': 'test',
  }
  data = types.SimpleNamespace(
    labelled=labelled, builder='builder', split_hash='', manifest_hash='',
    splits={'train': 'all train'},
  )  # fmt: skip
  data._replace = lambda **new: types.SimpleNamespace(**vars(data) | new)
  return data


# --- Label efficiency --------------------------------------------------------


def test_every_cell_has_the_encoder_of_its_seed(monkeypatch, tmp_path):
  config = make_config(
    study_label_efficiency, fractions=(0.1, 1.0), seeds=(3, 5)
  )
  made, ran = [], []

  def encoders(config, data, runs, seed):
    assert runs == tmp_path / 'runs'
    made.append(seed)
    return f'encoders of {seed}'

  monkeypatch.setattr(label_efficiency, '_Encoders', encoders)
  monkeypatch.setattr(
    label_efficiency, '_run_cell', lambda c, d, *given: ran.append(given)
  )
  monkeypatch.setattr(study_lib, 'check_support', lambda test: None)
  data = types.SimpleNamespace(labelled={'train': range(9), 'test': ''})
  study = label_efficiency.make(config, data, tmp_path)
  for name in study.cells:
    study.run_cell(name, name)
  assert made == [3, 5]
  assert ran == [
    (f'encoders of {seed}', f'labels{100 * f:g}percent-seed{seed}', seed,
     {'fraction': f})
    for seed in (3, 5) for f in (0.1, 1.0)
  ]  # fmt: skip


def test_encoders_are_those_before_and_after_the_pretraining(
  monkeypatch, tmp_path
):
  runs = []

  def train_on(run, folder, data, description=''):
    runs.append((run, folder))
    model = lambda name: types.SimpleNamespace(name=name, digest=f'of {name}')
    return types.SimpleNamespace(
      initial=model('initial'), model=model('last'), chosen=model('chosen'),
      examples_per_second=1,
    )  # fmt: skip

  evaluate = label_efficiency.evaluate
  monkeypatch.setattr(label_efficiency, 'train_on', train_on)
  monkeypatch.setattr(
    evaluate, 'choose_model', lambda run, trained: trained.chosen
  )
  monkeypatch.setattr(
    label_efficiency, 'over_split',
    lambda model, split, arm: Outputs(f'{model.name} {split}', None),
  )  # fmt: skip
  config = make_config(study_label_efficiency).lock()
  data = types.SimpleNamespace(labelled={part: part for part in PARTS})
  encoders = label_efficiency._Encoders(config, data, tmp_path, 4)
  assert encoders.digest == 'of chosen'  # which fine-tuning starts from, too
  assert encoders.features == {
    'random_probe': {part: f'initial {part}' for part in PARTS},
    'probe': {part: f'chosen {part}' for part in PARTS},
  }
  ((run, folder),) = runs
  assert (run.seed, run.method) == (4, 'lcd') and 'supervised' not in run
  assert folder == encoders.folder == tmp_path / 'pretrain-seed4'


def test_all_arms_of_a_cell_learn_from_its_subset(monkeypatch, tmp_path):
  """Features of the subset's rows, in stored order; encoder of the seed.

  Of training and, of the labels it may choose with, of validation.
  """
  config = make_config(
    study_label_efficiency, scratch_learning_rates=(1.0,),
    finetune_learning_rates=(2.0,), attribution=False,
  ).lock()  # fmt: skip
  module, seen = label_efficiency, {'probe': [], 'classifier': []}
  chosen = ['r4', 'r1']

  def label_subset(ids, patients, label, class_names, *, seed, **size):
    np.testing.assert_array_equal(ids, IDS)
    np.testing.assert_array_equal(
      patients, [f'p{i}' for i in (0, 2, 3, 5, 6, 8)]
    )
    assert label.shape == (6, 2) and class_names == ('a', 'b')
    seen['subset'] = seed, size
    return {
      'record_ids': chosen, 'sha256': '', 'num_records': 2,
      'missing_labels': [],
    }  # fmt: skip

  def validation_manifest(study, data, seed, size):
    assert study == config.study and (seed, size) == (7, {'fraction': 0.3})
    return {'record_ids': ['r5', 'r0'], 'sha256': '', 'num_records': 2}

  def probe_scores(recipe, train, validation, test, splits):
    seen['probe'].append(
      (train.tolist(), validation.tolist(), test, splits['train'],
       splits['validation'])
    )  # fmt: skip
    return 'probe scores'

  def train_classifier(
    config, data, folder, arm, *, seed, init_from, learning_rates
  ):
    assert data.labelled['validation'] == 'validation subset r0 r5'
    seen['classifier'].append(
      (arm, data.labelled['train'], folder, seed, init_from, learning_rates)
    )
    return f'{arm} scores'

  def compare(scores, splits, arm, draws):
    seen.update(scores=scores, splits=splits, arm=arm)
    return {}, {}

  monkeypatch.setattr(label_subsets, 'validation_manifest', validation_manifest)
  monkeypatch.setattr(
    label_subsets.records, 'read_table',
    lambda *_: {'patient_id': np.array([f'p{i}' for i in range(9)])},
  )  # fmt: skip
  monkeypatch.setattr(module.splits, 'label_subset', label_subset)
  monkeypatch.setattr(module.splits, 'write_manifest', lambda *_: None)
  monkeypatch.setattr(module, 'probe_scores', probe_scores)
  monkeypatch.setattr(study_lib, 'train_classifier', train_classifier)
  monkeypatch.setattr(module, 'compare', compare)
  monkeypatch.setattr(study_lib, 'facts', lambda *_: {})
  for name, found in (
    ('write_predictions', None), ('assemble', {}), ('write', None),
  ):  # fmt: skip
    monkeypatch.setattr(
      module.results_lib, name, lambda *_, found=found, **__: found
    )
  encoders = types.SimpleNamespace(
    folder=tmp_path / 'pretrain-seed7', digest='', examples_per_second=1,
    features={
      arm: {
        'train': offset + np.arange(6),
        'validation': 100 + offset + np.arange(6),
        'test': f'{arm} test',
      }
      for arm, offset in (('random_probe', 10), ('probe', 20))
    },
  )  # fmt: skip
  data = make_data()
  data.labelled['validation'] = make_split('validation')
  module._run_cell(config, data, encoders, tmp_path, 7, {'fraction': 0.3})
  assert seen['subset'] == (7, {'fraction': 0.3})
  assert seen['probe'] == [
    ([11, 14], [110, 115], 'random_probe test', 'train subset r1 r4',
     'validation subset r0 r5'),
    ([21, 24], [120, 125], 'probe test', 'train subset r1 r4',
     'validation subset r0 r5'),
  ]  # fmt: skip
  pretrained = str(encoders.folder)
  assert seen['classifier'] == [
    ('scratch', 'train subset r1 r4', tmp_path, 7, '', (1.0,)),
    ('finetune', 'train subset r1 r4', tmp_path, 7, pretrained, (2.0,)),
  ]
  assert seen['scores'] == {
    'random_probe': 'probe scores', 'scratch': 'scratch scores',
    'probe': 'probe scores', 'finetune': 'finetune scores',
  }  # fmt: skip
  assert seen['arm'] == 'finetune'
  assert seen['splits']['validation'] == 'validation subset r0 r5'
  assert seen['splits']['test'] == 'test'


# --- Augmentation ------------------------------------------------------------


def test_a_study_uses_the_fold_of_its_seed_or_shares_the_first(
  monkeypatch, tmp_path
):
  ran = {}
  monkeypatch.setattr(augmentation.run_data, 'open_data', lambda c: make_data())
  monkeypatch.setattr(study_lib, 'check_support', lambda test: None)
  monkeypatch.setattr(
    augmentation.augmentation_fold,
    'open_fold',
    lambda c, d, runs, seed: f'fold {seed}',
  )
  monkeypatch.setattr(
    augmentation, '_run_cell',
    lambda c, fold, runs, folder, arm, seed: ran.update(
      {folder: (fold, arm, seed)}
    ),
  )  # fmt: skip
  for shared in (False, True):
    config = make_config(
      study_augmentation, shared_codec=shared, seeds=(2, 4), classes=('MI',),
      arms=('none', 'class_weights'), method='class_weights',
    )  # fmt: skip
    study = augmentation.make(config, make_data(), tmp_path)
    for name in study.cells:
      study.run_cell(name, name)
    assert ran == {
      f'{arm}-seed{seed}': (f'fold {2 if shared else seed}', arm, seed)
      for arm in ('none', 'class_weights') for seed in (2, 4)
    }  # fmt: skip


def test_makers_are_given_the_fold_its_codec_prior_and_teacher(
  monkeypatch, tmp_path
):
  monkeypatch.setattr(
    augmentation_fold, 'train_codec', lambda c, fold, r: f'codec {fold.seed}'
  )
  monkeypatch.setattr(
    augmentation_fold, 'train_prior', lambda c, fold, r: f'prior {fold.seed}'
  )
  monkeypatch.setattr(
    augmentation_fold, 'open_for', lambda run, fold: f'data of {fold.seed}'
  )
  monkeypatch.setattr(
    augmentation_fold, 'generate_for',
    lambda run, data, folder: (run, data, folder),
  )  # fmt: skip
  config = make_config(study_augmentation).lock()
  fold = augmentation_fold.Fold(3, None, {})
  teacher = str(tmp_path / 'class_weights-seed3' / 'run')
  for arm, operator, codec, prior, judge in (
    ('latent_mix', 'A', 'codec 3', '', teacher),
    ('prior', 'prior', '', 'prior 3', teacher),
    ('input_smote', 'input_smote', '', '', teacher),
    ('simulator', 'simulator', '', '', ''),
  ):
    run, data, folder = augmentation_fold.generate(
      config, fold, tmp_path, arm, operator
    )
    assert folder == tmp_path / f'generated-{arm}-seed3'
    assert (data, run.seed, run.augment.operator) == ('data of 3', 3, operator)
    assert run.augment.teacher == judge
    assert run.augment.prior == prior
    if codec:
      assert run.augment.codec == codec


def test_arms_change_what_their_names_say(monkeypatch, tmp_path):
  monkeypatch.setattr(
    augmentation.augmentation_fold, 'generate',
    lambda c, fold, runs, arm, operator: f'{arm} by {operator} of {fold}',
  )  # fmt: skip
  monkeypatch.setattr(
    augmentation, 'best_arms', lambda *_: ('mixup', 'latent_mix')
  )
  config = make_config(study_augmentation, mixup=0.3, oversample=0.2)
  fields = lambda arm: augmentation.arm_fields(config, 'fold', tmp_path, arm, 0)
  extra = ('latent_mix by A of fold',)
  assert fields('none') == {}
  assert fields('class_weights') == {'supervised': {'balance_classes': True}}
  assert fields('oversampling') == {'data': {'oversample': 0.2}}
  assert fields('classical') == {'supervised': {'augment': 'classical'}}
  assert fields('mixup') == {'supervised': {'mixup': 0.3}}
  assert fields('latent_mix') == {'data': {'extra': extra}}
  assert fields('best_of_both') == {
    'supervised': {'mixup': 0.3}, 'data': {'extra': extra},
  }  # fmt: skip
  monkeypatch.setattr(
    augmentation, 'best_arms', lambda *_: ('input_smote', 'latent_mix')
  )
  both = ('input_smote by input_smote of fold', *extra)
  assert fields('best_of_both') == {'data': {'extra': both}}
  for arm, operator in (
    ('input_smote', 'input_smote'), ('reconstruction', 'reconstruction'),
    ('latent_smote', 'F'), ('prior', 'prior'), ('simulator', 'simulator'),
  ):  # fmt: skip
    made = (f'{arm} by {operator} of fold',)
    assert fields(arm) == {'data': {'extra': made}}


@pytest.mark.parametrize('arm', ['none', 'mixup'])
def test_a_cell_compares_with_the_baseline_of_its_seed(
  arm, monkeypatch, tmp_path
):
  module, seen = augmentation, {}

  def train_on(run, folder, data, description=''):
    seen.update(seed=run.seed, mixup=run.supervised.mixup)
    assert data.labelled['train'].name == 'fold train'
    return types.SimpleNamespace(
      initial=named('initial'), examples_per_second=1
    )

  def over_split(model, split, name):
    split = getattr(split, 'name', split)
    return Outputs(f'f({model.name}, {split})', f'p({model.name}, {split})')

  named = lambda name: types.SimpleNamespace(
    name=name, step=6, digest='', figures={'validation_macro_auroc': 6.5}
  )
  monkeypatch.setattr(module, 'train_on', train_on)
  monkeypatch.setattr(module, 'over_split', over_split)
  monkeypatch.setattr(
    module.evaluate, 'choose_model', lambda *_: named('chosen')
  )
  monkeypatch.setattr(
    module, 'probe_scores',
    lambda recipe, train, validation, test, splits: (train, validation, test),
  )  # fmt: skip
  monkeypatch.setattr(
    module.augmentation_summary,
    'read_scores',
    lambda folder: {'none': folder.name},
  )
  monkeypatch.setattr(
    module.augmentation_summary, 'write_scores',
    lambda folder, scores: seen.update(written=scores),
  )  # fmt: skip

  def compare(scores, splits, arm, draws):
    seen.update(scores=scores, arm=arm)
    return {}, {}

  monkeypatch.setattr(module, 'compare', compare)
  monkeypatch.setattr(study_lib, 'facts', lambda *_: {})
  monkeypatch.setattr(
    module, 'assemble',
    lambda *_, **fields: seen.update(fields=fields),
  )  # fmt: skip
  monkeypatch.setattr(module, 'write', lambda *_: None)
  config = make_config(study_augmentation, mixup=0.3).lock()
  fold = augmentation_fold.Fold(2, make_data('fold train'), {})
  module._run_cell(config, fold, tmp_path, tmp_path, arm, 9)
  own = ('p(chosen, validation)', 'p(chosen, test)')
  other = (
    {'random_probe': ('f(initial, fold train)', 'f(initial, validation)',
                      'f(initial, test)')}
    if arm == 'none'
    else {'none': 'none-seed9'}
  )  # fmt: skip
  assert seen['scores'] == seen['written'] == {arm: own} | other
  assert seen['arm'] == arm and seen['seed'] == 9
  assert seen['mixup'] == (0.3 if arm == 'mixup' else 0)
  assert seen['fields']['step'] == 6
  assert seen['fields']['validation_macro_auroc'] == 6.5
