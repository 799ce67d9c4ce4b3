"""The study of augmentation: its arms, its classes, and a real small run."""

import json
import types

import numpy as np
import pytest

from configs import study_augmentation as study_config
from ecgjax.data.store import labels
from ecgjax.report import augmentation as tables
from ecgjax.studies import (
  augmentation,
  augmentation_fold,
  augmentation_summary,
  study,
)


def options(**fields):
  config = study_config.get_config('preset=smoke')
  config = config.copy_and_resolve_references()
  config.study.update(fields)
  return config


@pytest.mark.parametrize(
  ('arms', 'missing'),
  [
    (('none', 'cutmix'), "no arm 'cutmix'"),
    (('class_weights', 'latent_mix', 'reconstruction'), "'none' is missing"),
    (('none', 'latent_mix', 'reconstruction'), "'class_weights' is missing"),
    (('none', 'class_weights', 'latent_mix'), "'reconstruction' is missing"),
  ],
)
def test_arms_need_what_they_are_compared_with(arms, missing):
  with pytest.raises(ValueError, match=missing):
    augmentation.check_arms(options(arms=arms).study)


@pytest.mark.parametrize('preset', ['small', 'full', 'smoke'])
@pytest.mark.parametrize('dataset', ['synthetic', 'ptbxl'])
def test_configs_name_possible_arms(dataset, preset):
  config = study_config.get_config(f'dataset={dataset},preset={preset}')
  augmentation.check_arms(config.study)
  assert set(config.study.arms) <= set(augmentation.ARMS)
  if preset == 'full':
    assert set(config.study.arms) == set(augmentation.ARMS)


def train_split(names, counts):
  label = np.zeros((max(counts) + 1, len(names)), np.float32)
  for k, count in enumerate(counts):
    label[:count, k] = 1
  columns = {'label': label, 'label_mask': np.ones_like(label)}
  return types.SimpleNamespace(class_names=tuple(names), columns=columns)


def test_default_classes_are_the_frequent_morphological_ones():
  names = labels.scp_names()
  counts = np.zeros(len(names), int)
  frequent = {
    'SR': 90,
    'NORM': 80,
    'AFIB': 70,
    'PVC': 60,
    '1AVB': 55,
    'LVH': 50,
  }
  for name, count in (frequent | {'NDT': 40, 'IMI': 30, 'LAFB': 20}).items():
    counts[names.index(name)] = count
  found = augmentation.default_classes(train_split(names, counts.tolist()), 3)
  assert set(found) == {'LVH', 'NDT', 'IMI'}
  assert list(found) == sorted(found, key=names.index)
  few = augmentation.default_classes(train_split(names, counts.tolist()), 10)
  assert set(few) == {'LVH', 'NDT', 'IMI', 'LAFB'}


def test_best_arms_are_those_of_validation(tmp_path, monkeypatch):
  figures = {'classical': 0.8, 'mixup': 0.82, 'latent_mix': 0.7, 'prior': 0.6}
  config = options(arms=(*figures, 'none'), seeds=(0, 1))
  monkeypatch.setattr(
    augmentation,
    'read',
    lambda path: {
      'validation_macro_auroc': figures[path.parent.name.split('-')[0]]
    },
  )
  assert augmentation.best_arms(config.study, tmp_path) == (
    'mixup',
    'latent_mix',
  )


def test_readers_stand_beside_the_mean_of_the_seeds(tmp_path):
  """The two seeds are wrong in turn; their mean is always right."""
  label = np.tile(np.float32([[1], [0]]), (12, 1))
  columns = {
    'label': label,
    'label_mask': np.ones_like(label),
    'patient': np.arange(24),
  }
  split = types.SimpleNamespace(
    class_names=('MI',), columns=columns, record_ids=np.arange(24).astype(str)
  )
  data = types.SimpleNamespace(labelled={'validation': split, 'test': split})
  weight = np.tile(np.float32([[2], [2], [-1], [-1]]), (6, 1))
  sure = 0.5 + (label - 0.5) * weight / 2
  scores = np.stack([sure, np.roll(sure, 2, axis=0)])  # [S, N, K]
  config = options(readers_csv='')
  assert (
    augmentation_summary.judge_readers(config.study, None, data, 10) is None
  )
  path = tmp_path / 'readers.csv'
  lines = [f'{i},Ann,general,{int(i < 6)}' for i in range(24)]
  path.write_text('\n'.join(['record_id,reader,group,MI', *lines]) + '\n')
  config = options(readers_csv=str(path))
  found = augmentation_summary.judge_readers(
    config.study, (scores, scores), data, config.bootstrap_draws
  )
  assert found['arm'] == config.study.method
  rows = {row['name']: row['per_class']['MI'] for row in found['rows']}
  assert rows['Ann']['sensitivity']['value'] == pytest.approx(3 / 12)
  assert rows['model']['sensitivity']['value'] == 1
  assert found['differences']['Ann']['per_class']['MI']['sensitivity']['p'] < 1


def test_rival_is_the_best_classical_arm_of_validation():
  figures = {'mixup': (0.7, 0.9), 'classical': (0.75, 0.75), 'prior': (1, 1)}
  records = {
    f'{arm}-seed{seed}': {'validation_macro_auroc': value}
    for arm, pair in figures.items()
    for seed, value in enumerate(pair)
  }
  best = augmentation_summary.best_rival
  assert best(records, ['none', *figures], (0, 1)) == 'mixup'
  assert best(records, ['none', 'prior'], (0, 1)) == ''


def test_codec_arms_meet_what_is_cheap_directly():
  pairs = augmentation_summary.direct(
    ['latent_mix', 'prior'],
    ['none', 'oversampling', 'mixup', 'reconstruction', 'latent_mix', 'prior'],
    'mixup',
  )
  others = ['reconstruction', 'oversampling', 'mixup']
  assert pairs == [(a, b) for a in ('latent_mix', 'prior') for b in others]
  arms = ['none', 'reconstruction', 'latent_mix']
  assert augmentation_summary.direct(['latent_mix'], arms, '') == [
    ('latent_mix', 'reconstruction')
  ]


def test_changes_are_merged_field_by_field():
  one, two = {'a': {'x': 1, 'y': 2}, 'b': 3}, {'a': {'y': 5}}
  assert augmentation_fold.changed(one, two) == {'a': {'x': 1, 'y': 5}, 'b': 3}
  assert one == {'a': {'x': 1, 'y': 2}, 'b': 3}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp('augmentation')
  config = options()
  config.data.dir = str(folder / 'data')
  config.lock()
  return config, folder / 'study', study.run_study(config, folder / 'study')


@pytest.mark.slow
def test_study_has_every_arm_and_says_what_it_shows(finished):
  config, workdir, results = finished
  assert set(results['arms']) == {'random_probe', *config.study.arms}
  found = results['augmentation']
  assert set(found['positives']) == {'LBBB', 'RBBB', 'STD', 'STE', 'MI'}
  assert all(0 < row['train'] <= 20 for row in found['positives'].values())
  generators = {'reconstruction', 'latent_mix', 'prior'}
  assert set(found['generated']) == set(found['fidelity']) == generators
  assert any(x.startswith('best_of_both: class_w') for x in found['notes'])
  for entry in found['fidelity'].values():
    assert entry['einthoven_uv'] < 2  # stored in units of a microvolt
  text = (workdir / 'results.md').read_text()
  assert text.strip() == tables.markdown(results).strip()
  assert (workdir / 'report.html').is_file()


@pytest.mark.slow
def test_study_resumes_run_by_run(finished):
  config, workdir, results = finished
  lost = workdir / 'runs' / 'latent_mix-seed0' / 'results.json'
  kept = workdir / 'runs' / 'none-seed0' / 'results.json'
  before, stamp = json.loads(lost.read_text()), kept.stat().st_mtime_ns
  lost.unlink()
  (workdir / 'results.json').unlink()
  again = study.run_study(config, workdir)
  assert kept.stat().st_mtime_ns == stamp
  assert json.loads(lost.read_text())['arms'] == before['arms']
  assert again['arms'] == results['arms']
  assert again['augmentation'] == results['augmentation']
