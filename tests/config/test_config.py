import importlib
import json
import pathlib

import ml_collections
import pytest

from configs import evaluate as evaluate_config
from ecgjax import config as config_lib
from ecgjax.training import workdir

CONFIGS = sorted(
  p.stem for p in (pathlib.Path(__file__).parents[2] / 'configs').glob('*.py')
)


@pytest.mark.parametrize('name', CONFIGS)
def test_configs_are_locked_leaf_values(name):
  config = importlib.import_module(f'configs.{name}').get_config()
  assert isinstance(config, ml_collections.ConfigDict) and config.is_locked
  text = json.dumps(config_lib.to_json(config))
  again = config_lib.from_json(json.loads(text))
  assert config_lib.to_json(again) == config_lib.to_json(config)
  assert again.data.leads == tuple(config.data.leads)


def test_parse_argument():
  parse = config_lib.parse_argument
  defaults = {'dataset': 'synthetic', 'preset': 'default'}
  assert parse(None, **defaults) == defaults
  assert parse('preset=smoke', **defaults)['preset'] == 'smoke'
  for wrong in ('smoke', 'size=3', 'preset'):
    with pytest.raises(ValueError, match='dataset, preset'):
      parse(wrong, **defaults)


def test_configs_of_older_versions_are_read():
  """Fields they lack get their defaults; those that are gone must be so."""
  config = importlib.import_module('configs.vqvae').get_config()
  fields = config_lib.to_json(config)
  old = json.loads(json.dumps(fields))
  old['vqvae'] |= {'cosine': False, 'gradient': 'ste', 'stats': 'segment'}
  for group, name in (
    (old, 'keep_remainder'),
    (old['data'], 'window_gib'),
    (old['optimizer'], 'freeze'),
    (old['vqvae'], 'stage_dropout'),
  ):
    del group[name]
  assert config_lib.to_json(config_lib.from_json(old)) == fields
  assert not workdir.first_difference(old, fields)
  old['vqvae']['cosine'] = True
  with pytest.raises(ValueError, match='config.vqvae.cosine is True, which'):
    config_lib.from_json(old)


def test_pages_belong_to_one_config():
  """What a config left out on purpose is no difference either."""
  vqvae = importlib.import_module('configs.vqvae')
  fields = config_lib.to_json(vqvae.get_config('modality=image'))
  assert 'l1' not in fields['vqvae']
  assert not workdir.first_difference(fields, fields)


def test_downstream_sets_of_lcd():
  data = evaluate_config.get_config('preset=chapman').data
  assert (data.name, data.task) == ('cinc2021', 'chapman4')
  assert data.sources == ('chapman_shaoxing',)
  data = evaluate_config.get_config('preset=cpsc2018').data
  assert (data.task, data.sources) == ('cpsc9', ('cpsc_2018',))
  data = evaluate_config.get_config('dataset=ptbxl').data
  assert (data.name, data.task, data.sources) == ('ptbxl', 'superclass', ())
  with pytest.raises(ValueError, match='says which data set'):
    evaluate_config.get_config('dataset=ptbxl,preset=chapman')
  with pytest.raises(ValueError, match='one of none, cpsc2018, chapman'):
    evaluate_config.get_config('preset=georgia')
