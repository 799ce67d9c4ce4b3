"""What a study of augmentation may claim, and that its tables say so."""

import numpy as np
import pytest

from ecgjax.metrics import compare_arms, fidelity
from ecgjax.report import augmentation


def entry(value, low, high, p):
  return {'value': value, 'ci95': [low, high], 'p': p / 2, 'p_holm': p}


GAIN, LOSS = entry(0.1, 0.02, 0.2, 0.01), entry(-0.1, -0.2, -0.02, 0.01)
WEAK = entry(0.1, 0.02, 0.2, 0.06)  # the interval alone is not enough
NOTHING = entry(0.0, -0.1, 0.1, 1.0)


def study(pairs):
  """pair -> label -> (F1, AUROC) differences, as `evaluate_arms` gives them."""
  return {
    'differences': {
      pair: {'macro_f1': NOTHING, 'macro_auroc': LOSS} for pair in pairs
    },
    'differences_per_class': {
      pair: {
        label: {'f1': f1, 'auroc': auroc} for label, (f1, auroc) in row.items()
      }
      for pair, row in pairs.items()
    },
  }


def test_a_claim_needs_direct_tests_against_both():
  """'b' gains over none where reconstruction does not: that is no claim."""
  found = augmentation.conclude(
    study({
      'reconstruction-none': {'a': (GAIN, NOTHING), 'b': (NOTHING, NOTHING)},
      'latent_mix-none': {'a': (GAIN, NOTHING), 'b': (GAIN, NOTHING)},
      'latent_mix-reconstruction': {'a': (GAIN, NOTHING), 'b': (WEAK, LOSS)},
    }),
    ['latent_mix'],
  )  # fmt: skip
  assert found['beyond_control']['latent_mix']['labels'] == ['a']
  pair = found['pairs']['latent_mix-reconstruction']
  assert pair['f1'] == {'gains': ['a'], 'losses': []}
  assert pair['auroc'] == {'gains': [], 'losses': ['b']}


def test_losses_in_auroc_are_told():
  found = augmentation.conclude(
    study({
      'latent_mix-none': {'a': (NOTHING, LOSS), 'b': (NOTHING, NOTHING)},
      'latent_mix-reconstruction': {'a': (NOTHING, NOTHING)},
    }),
    ['latent_mix'],
  )  # fmt: skip
  text = found['pairs']['latent_mix-none']['text']
  assert 'macro F1 not shown to differ' in text
  assert 'macro AUROC lower, -0.100 [-0.200, -0.020], Holm p 0.010' in text
  assert 'loss in AUROC for a -0.100' in text
  assert 'AUROC: nothing shown for 1 of 2 classes' in text
  assert found['beyond_control']['latent_mix']['text'].endswith('in no class.')


@pytest.fixture(scope='module')
def results():
  """Arms of which one is better and the others are the same."""
  rng = np.random.default_rng(0)
  labels = (rng.random((400, 2)) < 0.2).astype(np.uint8)
  noisy = lambda scale: np.clip(
    0.5 + 0.2 * labels + scale * rng.normal(size=(4, 400, 2)), 0, 1
  )
  base = noisy(0.2)
  arms = {
    'random_probe': noisy(0.4), 'none': base, 'reconstruction': base,
    'latent_mix': np.clip(0.5 + 0.3 * labels + 0.3 * (base - 0.5), 0, 1),
  }  # fmt: skip
  evaluation = compare_arms.evaluate_arms(
    arms,
    labels,
    np.arange(400),
    ('A', 'B'),
    {arm: np.full((4, 2), 0.6) for arm in arms},
    method='latent_mix',
    baseline='none',
    comparisons=[('latent_mix', 'reconstruction')],
    draws=1000,
    margin=0.01,
  )
  sets = [
    fidelity.Ecgs(
      rng.normal(size=(12, 3)), rng.normal(size=(12, 500, 12)), np.arange(12)
    )
    for _ in range(3)
  ]
  return evaluation | {
    'budget': 'two steps',
    'seeds': [0, 1, 2, 3],
    'augmentation': {
      'conclusions': augmentation.conclude(evaluation, ['latent_mix']),
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
  assert found['beyond_control']['latent_mix']['labels'] == ['A', 'B']
  text = found['pairs']['reconstruction-none']['text']
  assert 'equal within 0.01' in text and 'nothing shown for 2 of 2' in text


def test_a_file_of_fixed_seeds_draws_no_conclusion(results):
  old = dict(results['bootstrap'])
  del old['num_seeds']
  text = augmentation.brief(results | {'bootstrap': old})
  assert text.startswith(f'* {augmentation.SEEDS_FIXED}')
  assert 'latent_mix-none:' not in text and 'seeds held fixed' in text


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
  assert text.startswith('* latent_mix: F1 above that of none and above that')
  assert 'bootstrap over patients and 4 seeds' in text
  assert 'two steps' in text and 'a note' in text
  assert '| latent_mix | 8 | A 4, B 4 | 0.800 | teacher 2 |' in text
  assert len(augmentation.markdown(results)) > len(text)
