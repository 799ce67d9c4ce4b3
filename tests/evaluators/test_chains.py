"""The origin of recordings, told from features that know it or do not."""

import types

import numpy as np
import pytest

from ecgjax.evaluators import chains
from ecgjax.metrics import probe
from ecgjax.report import tables

SIZES = {'train': 80, 'validation': 40, 'test': 60}


@pytest.fixture
def planted():
  """Features: 'probe' knows the chain, the baseline is noise."""
  rng = np.random.default_rng(0)
  found = {
    split: np.array(['new', 'old', 'new', ''])[np.arange(n) % 4].tolist()
    for split, n in SIZES.items()
  }
  found['train'][0] = 'rare'
  features = {'random_probe': {}, 'probe': {}}
  for split, names in found.items():
    noise = rng.normal(size=(len(names), 5))
    features['random_probe'][split] = noise
    old = np.array([name == 'old' for name in names])
    features['probe'][split] = noise + 8 * old[:, None] * [1, 0, 0, 0, 0]
  return found, features


def test_features_that_know_the_chain(planted):
  found, features = planted
  part = chains.evaluate_chains(
    features, found, np.arange(60) // 2, probe.standardised_lr, draws=200
  )
  assert part['chains'] == {
    'new': {'train': 39, 'validation': 20, 'test': 30},
    'old': {'train': 20, 'validation': 10, 'test': 15},
  }
  assert part['unknown'] == 15
  auroc = {k: v['metrics']['macro_auroc_all'] for k, v in part['arms'].items()}
  assert auroc['probe']['value'] > 0.99
  low, high = auroc['random_probe']['ci95']
  assert low < 0.65 and high > 0.4 and high < 0.95
  difference = part['differences']['probe-random_probe']['macro_auroc_all']
  assert difference['ci95'][0] > 0
  text = '\n'.join(
    p.markdown()
    for p in chains.section(part, 'source').parts
    if isinstance(p, tables.Table)
  )
  assert '| old | 20 | 10 | 15 |' in text and 'probe-random_probe' in text


def test_two_chains_at_least(planted):
  found, features = planted
  found['test'] = ['new'] * 60
  with pytest.raises(ValueError, match='fewer than two chains'):
    chains.evaluate_chains(features, found, range(60), probe.standardised_lr)


def test_chains_from_a_table(tmp_path, planted):
  path = tmp_path / 'table.csv'
  names = planted[0]
  rows = [
    f'{s}{k},{c}' for s, part in names.items() for k, c in enumerate(part)
  ]
  path.write_text('\n'.join(['ecg_id,device', *rows]).replace('old', 'old   E'))
  labelled = {
    split: types.SimpleNamespace(
      record_ids=np.array([f'{split}{k}' for k in range(n + 1)])
    )
    for split, n in SIZES.items()
  }
  data = types.SimpleNamespace(labelled=labelled)
  found = chains.find_chains(f'{path}:device', data)
  assert found['test'] == [c.replace('old', 'old E') for c in names['test']] + [
    ''
  ]
  for choice, message in (
    (f'{path}:recorder', "has no column 'recorder'"),
    (f'{path}.no:device', 'No such file'),
    ('device', 'FILE:COLUMN'),
  ):
    with pytest.raises(ValueError, match=message):
      chains.find_chains(choice, data)
