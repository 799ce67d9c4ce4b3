"""Several runs of one config in one table, over patients and seeds."""

import numpy as np
import pytest

from configs import study_seeds as study_config
from ecgjax.metrics import compare_arms, metrics
from ecgjax.report import readme, results, tables
from ecgjax.studies import seeds as seeds_study
from ecgjax.studies import study as study_lib

NAMES = ('a', 'b')


def write_run(folder, seed, labels, shift):
  """Results and predictions of a run, as a run writes them."""
  rng = np.random.default_rng(seed)
  predictions = {
    'arms': {
      'random_probe': rng.random(labels.shape),
      'probe': 1
      / (1 + np.exp(-rng.normal(size=labels.shape) - shift * labels)),
    },
    'labels': labels,
    'patients': np.arange(len(labels)) // 2,
    'class_names': NAMES,
  }
  predictions['thresholds'] = {
    arm: metrics.f1_thresholds(labels, scores)
    for arm, scores in predictions['arms'].items()
  }
  folder.mkdir()
  results.write_predictions(folder / 'predictions.npz', **predictions)
  record = results.assemble(
    compare_arms.evaluate_arms(**predictions, method='probe', draws=50),
    method='lcd', dataset='synthetic', protocol='standardised_lr',
    split='test', seed=seed, step=10, num_examples=len(labels),
    num_patients=len(labels) // 2,
    hashes=dict.fromkeys(results.HASHES, f'{seed:02d}' * 32)
    | {'split': '0a' * 32},
    device='1 x cpu', examples_per_second=10.0 + seed, wall_seconds=60.0,
    synthetic=True, leak_allowed=False, config={},
  )  # fmt: skip
  results.write(folder / 'results.json', record)
  return record, predictions


@pytest.fixture
def config():
  config = study_config.get_config('preset=smoke')
  config = config.copy_and_resolve_references()
  config.bootstrap_draws = 200
  return config.lock()


def test_runs_become_one_table_over_patients_and_seeds(tmp_path, config):
  labels = (np.random.default_rng(9).random((160, 2)) < 0.4).astype(int)
  runs = [tmp_path / f'seed{seed}' for seed in range(3)]
  made = [
    write_run(run, seed, labels, shift)
    for seed, (run, shift) in enumerate(zip(runs, (0.8, 1.2, 2.5)))
  ]
  found, predictions = seeds_study.summarise_runs(
    runs, 200, config.study.margin
  )
  assert found['seeds'] == [0, 1, 2] and found['bootstrap']['num_seeds'] == 3
  assert predictions['arms']['probe'].shape == (3, 160, 2)
  name = 'macro_auroc'
  single = [record['metrics'][name]['value'] for record, _ in made]
  entry = found['metrics'][name]
  assert entry['value'] == pytest.approx(np.mean(single))
  assert entry['seed_sd'] == pytest.approx(np.std(single, ddof=1))
  widths = [np.diff(record['metrics'][name]['ci95']) for record, _ in made]
  assert np.diff(entry['ci95']) > 2 * max(widths)  # the seeds disagree
  assert found['checkpoints'] == [r['hashes']['checkpoint'] for r, _ in made]
  change = found['differences']['probe-random_probe'][name]
  assert change['equivalence']['margin'] == config.study.margin
  text = readme.render(found)
  assert tables.ONE_SEED not in text and '; 3 seeds; ' in text
  assert tables.ONE_SEED in readme.render(made[0][0])


def test_other_runs_are_refused(tmp_path, config):
  rng = np.random.default_rng(9)
  runs = [tmp_path / f'seed{seed}' for seed in range(2)]
  for seed, run in enumerate(runs):
    labels = (rng.random((160, 2)) < 0.4).astype(int)
    write_run(run, seed, labels, 1.0)
  with pytest.raises(ValueError, match='no run of the same kind'):
    seeds_study.summarise_runs(runs, 200, config.study.margin)


@pytest.mark.parametrize('of', ['lcd', 'longitudinal', 'supervised'])
def test_cells_are_runs_of_the_named_config(of):
  config = study_config.get_config(f'of={of},preset=smoke,evaluate_on=ptbxl')
  assert config.study.seeds == (0, 1, 2)
  run = seeds_study.run_of(config, 2)
  assert run.seed == 2 and run.method == config.method
  assert 'study' not in run
  other = seeds_study.judged(config.study.evaluation, 'runs/x')
  assert other.init_from == 'runs/x' and other.data.name == 'ptbxl'


def test_unknown_config_and_method(config, tmp_path):
  with pytest.raises(ValueError, match='of is .vqvae.; choose one of lcd'):
    study_config.get_config('of=vqvae')
  codec = config.copy_and_resolve_references()
  codec.method = 'vqvae'
  with pytest.raises(ValueError, match='a study of seeds knows lcd'):
    seeds_study.make(codec.lock(), None, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('of', ['lcd', 'longitudinal'])
def test_a_real_study_of_seeds(of, tmp_path):
  config = study_config.get_config(
    f'of={of},preset=smoke,evaluate_on=synthetic'
  )
  config = config.copy_and_resolve_references()
  config.study.seeds = (0, 1)
  config.bootstrap_draws = 100
  for data in (config.data, config.study.evaluation.data):
    data.dir = str(tmp_path / 'data')
    data.size = 'small'
  config.study.evaluation.bootstrap_draws = 100
  found = study_lib.run_study(config.lock(), tmp_path / 'study')
  assert found['seeds'] == [0, 1]
  assert found['metrics']['macro_auroc']['num_seeds'] == 2
  other = results.read(tmp_path / 'study' / 'eval_synthetic.json')
  assert other['bootstrap']['num_seeds'] == 2
  assert (tmp_path / 'study' / 'report.html').is_file()
  if of == 'longitudinal':
    recall = found['metrics']['recall_at_1']
    assert recall['num_seeds'] == 2
    arms = found['identity']['retrieval']['arms']
    single = [
      results.read(tmp_path / 'study' / 'runs' / f'seed{seed}' / 'results.json')
      for seed in (0, 1)
    ]
    expected = [one['metrics']['recall_at_1']['value'] for one in single]
    assert recall['value'] == pytest.approx(np.mean(expected))
    assert arms['trained']['recall_at_1'] == recall
