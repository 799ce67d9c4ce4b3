"""Pretraining, then the encoder in another model: real runs, tiny data."""

import pytest

from configs import lcd as lcd_config
from configs import longitudinal as longitudinal_config
from configs import supervised as supervised_config
from ecgjax import checkpoints, train
from tests import tiny_runs


def on(config, data_dir, **fields):
  config = config.copy_and_resolve_references()
  config.data.dir = data_dir
  config.update(fields)
  return config.lock()


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory, data_dir):
  workdir = tmp_path_factory.mktemp('runs') / 'lcd'
  config = lcd_config.get_config('preset=smoke')
  train.train_and_evaluate(on(config, data_dir, num_steps=1), workdir)
  return workdir


@pytest.mark.slow
def test_finetune_starts_from_the_pretrained_encoder(
  pretrained, data_dir, tmp_path
):
  config = on(
    supervised_config.get_config('preset=smoke'),
    data_dir,
    init_from=str(pretrained),
    num_steps=2,
    optimizer={'learning_rate': 0.0},
  )
  results = train.train_and_evaluate(config, tmp_path / 'run')
  assert set(results['arms']) == {'random_probe', 'probe', 'finetune'}
  old, _ = checkpoints.load(pretrained)
  new, metadata = checkpoints.load(tmp_path / 'run')
  assert checkpoints.digest(new['params']['encoder']) == checkpoints.digest(
    old['params']['encoder']
  )
  assert metadata['class_names']


@pytest.mark.slow
def test_patient_contrast_then_finetuning(data_dir, tmp_path):
  """One encoder over all leads; the pretraining reports who is who."""

  def small(config):
    config = config.copy_and_resolve_references()
    kwargs = {'width': 8, 'depth': 1, 'heads': 2, 'patch': 50}
    config.model = {'name': 'vit1d', 'kwargs': kwargs}  # compiles fast
    return config

  config = small(longitudinal_config.get_config('preset=smoke'))
  config = on(config, data_dir, num_steps=3)
  results = train.train_and_evaluate(config, tmp_path / 'long')
  retrieval = results['identity']['retrieval']
  assert list(retrieval['differences']) == ['trained-untrained']
  assert retrieval['num_queries'] > 10
  assert results['identity']['confounders'] is None  # nobody has an age
  config = on(
    small(supervised_config.get_config('preset=smoke')),
    data_dir,
    init_from=str(tmp_path / 'long'),
    supervised={'branches': 'joint', 'pool': 'mean'},
    optimizer={'learning_rate': 0.0},
    num_steps=2,
  )
  results = train.train_and_evaluate(config, tmp_path / 'run')
  assert set(results['arms']) == {'random_probe', 'probe', 'finetune'}
  old, new = (checkpoints.load(tmp_path / name)[0] for name in ('long', 'run'))
  assert checkpoints.digest(new['params']['encoder']) == checkpoints.digest(
    old['params']['encoder']
  )


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """What `pretrained` is at its first step."""
  workdir = tmp_path_factory.mktemp('runs') / 'written'
  tiny_runs.write_lcd(workdir, length=1000)
  return workdir


@pytest.mark.parametrize(
  'change, message',
  [
    (
      {'data': {'length': 500}},
      'trained with length 1000, this config has 500',
    ),
    ({'data': {'normalisation': 'lead'}}, 'trained with normalisation record'),
    ({'model': {'kwargs': {'width': 0.25}}}, 'the encoder there is'),
    ({'init_from': '/nowhere'}, 'no valid checkpoint'),
  ],
  ids=['length', 'normalisation', 'model', 'missing'],
)
def test_other_contracts_are_refused(
  written, data_dir, tmp_path, change, message
):
  fields = {'init_from': str(written)} | change
  config = on(supervised_config.get_config('preset=smoke'), data_dir, **fields)
  with pytest.raises(ValueError, match=message):
    train.train_and_evaluate(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
