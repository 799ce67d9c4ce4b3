"""What a study of augmentation may claim, and that its tables say so."""

import numpy as np
import pytest

from ecgjax.evaluation import arms as arms_lib
from ecgjax.evaluation import augmentation, fidelity


def entry(value, low, high, p):
  return {'f1': {'value': value, 'ci95': [low, high], 'p': p / 2, 'p_holm': p}}


GAIN, LOSS = entry(0.1, 0.02, 0.2, 0.01), entry(-0.1, -0.2, -0.02, 0.01)
WEAK = entry(0.1, 0.02, 0.2, 0.06)  # the interval alone is not enough
NOTHING = entry(0.0, -0.1, 0.1, 1.0)


def test_a_gain_needs_interval_holm_and_more_than_the_control():
  differences = {
    'reconstruction-none': {'a': GAIN, 'b': NOTHING, 'c': NOTHING, 'd': WEAK},
    'latent_mix-none': {'a': GAIN, 'b': GAIN, 'c': WEAK, 'd': GAIN},
    'mixup-none': {'a': GAIN, 'b': LOSS, 'c': NOTHING, 'd': NOTHING},
    'latent_mix-reconstruction': {'a': GAIN},
  }
  found = augmentation.conclude(
    differences, {'latent_mix': True, 'mixup': False}
  )
  assert found['latent_mix']['gains'] == ['b', 'd']
  assert found['latent_mix']['as_control'] == ['a']
  assert found['mixup']['gains'] == ['a'] and found['mixup']['losses'] == ['b']
  assert 'not counted, in F1 for a +0.100' in found['latent_mix']['text']
  assert 'no effect shown in the other 1 classes' in found['latent_mix']['text']


def test_no_effect_is_said():
  found = augmentation.conclude(
    {'latent_mix-none': {'a': WEAK, 'b': NOTHING}}, {'latent_mix': True}
  )
  text = found['latent_mix']['text']
  assert text == 'latent_mix: no effect shown in any of 2 classes.'


@pytest.fixture(scope='module')
def results():
  """Arms of which one is better and the others are the same."""
  rng = np.random.default_rng(0)
  labels = (rng.random((400, 2)) < 0.2).astype(np.uint8)
  noisy = lambda scale: np.clip(
    0.5 + 0.2 * labels + scale * rng.normal(size=(2, 400, 2)), 0, 1
  )
  base = noisy(0.2)
  arms = {
    'random_probe': noisy(0.4), 'none': base, 'reconstruction': base,
    'latent_mix': np.clip(0.5 + 0.3 * labels + 0.3 * (base - 0.5), 0, 1),
  }  # fmt: skip
  evaluation = arms_lib.evaluate_arms(
    arms,
    labels,
    np.arange(400),
    ('A', 'B'),
    {arm: np.full((2, 2), 0.6) for arm in arms},
    method='latent_mix',
    baseline='none',
    comparisons=[('latent_mix', 'reconstruction')],
    draws=1000,
  )
  sets = [
    fidelity.Ecgs(
      rng.normal(size=(12, 3)), rng.normal(size=(12, 500, 12)), np.arange(12)
    )
    for _ in range(3)
  ]
  return evaluation | {
    'budget': 'two steps',
    'augmentation': {
      'conclusions': augmentation.conclude(
        evaluation['differences_per_class'],
        {'reconstruction': False, 'latent_mix': True},
      ),
      'notes': ['a note'],
      'num_train': 40,
      'positives': {k: {'train': 4, 'validation': 5} for k in 'AB'},
      'generated': {
        'latent_mix': {
          'num_examples': 8, 'made': {'A': 4, 'B': 4},
          'refused': {'teacher': 2}, 'keep_rate': 0.8,
        }
      },
      'fidelity': {'latent_mix': fidelity.summarise(*sets, 100.0)},
    },
  }  # fmt: skip


def test_conclusion_from_scores(results):
  found = results['augmentation']['conclusions']
  assert found['latent_mix']['gains'] == ['A', 'B']
  assert found['reconstruction']['text'].endswith('any of 2 classes.')


def test_tables_hold_every_arm_and_class(results):
  built = augmentation.augmentation_tables(results)
  for metric in augmentation.SHOWN:
    (table,) = [t for t in built if t.header[0] == metric]
    assert [row[0] for row in table.rows] == list(results['arms'])
    value = results['arms']['latent_mix']['per_class']['B'][metric]['value']
    assert table.rows[-1][-1].startswith(f'{value:.3f} [')
  (differences,) = [t for t in built if t.header[0] == 'difference in F1']
  pairs = [
    'reconstruction-none',
    'latent_mix-none',
    'latent_mix-reconstruction',
  ]
  assert [row[0] for row in differences.rows] == pairs
  assert 'family of 8' in differences.caption  # four pairs, two classes
  for table in built:
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_text_for_the_readme(results):
  text = augmentation.brief(results)
  assert text.startswith('* reconstruction: no effect shown')
  assert 'two steps' in text and 'a note' in text
  assert '| latent_mix | 8 | A 4, B 4 | 0.800 | teacher 2 |' in text
  assert len(augmentation.markdown(results)) > len(text)


def test_best_other_arm_stands_beside():
  change = {'value': -0.1, 'ci95': [-0.2, -0.02], 'p': 0.01, 'p_holm': 0.02}
  text = augmentation.beside_rival(
    {'latent_mix-mixup': {'macro_f1': change}}, ['latent_mix'], 'mixup'
  )
  assert 'on validation: mixup.' in text
  assert 'latent_mix minus mixup -0.100 [-0.200, -0.020], p 0.010' in text
