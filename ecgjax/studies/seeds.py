"""The same run with several seeds, and one table of them all.

A table of one run holds its seed fixed: its intervals do not cover what the
same command gives with another seed. Here every cell is a whole run, and every
interval and p value is over patients and seeds (`bootstrap.seed_weights`). With
`config.study.evaluation` each checkpoint is also judged on another data set.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from ecgjax import evaluate, train
from ecgjax.config import from_json, to_json
from ecgjax.config.option import SEED, Grid, Number
from ecgjax.evaluators import identity
from ecgjax.metrics import compare_arms
from ecgjax.model import load, over_split, untrained
from ecgjax.report.ending import Ending, publish
from ecgjax.report.finding import Finding, merge
from ecgjax.report.results import assemble, read, read_predictions, write
from ecgjax.studies import study

OPTIONS = {
  'seeds': Grid((0, 1, 2), SEED),
  # Of macro AUROC; equality is claimed within it alone.
  'margin': Number(0.01, 'float (0, 1)'),
}
METHODS = ('lcd', 'longitudinal', 'supervised')
_SAME = (
  'method', 'dataset', 'protocol', 'split', 'num_examples', 'num_patients',
  'synthetic', 'leak_allowed',
)  # fmt: skip


def make(config, data, workdir: pathlib.Path) -> study.Study:
  """Makes the study.

  Args:
    config: of the run, with `study`: `seeds`, `margin` of the equivalence test
      of macro AUROC, and, where checkpoints are judged on another data set too,
      `evaluation`, a config as of `configs/evaluate.py`.
    data: `data.batches.run_data.RunData`.
    workdir: of the study; `results.json` and, of the other data set,
      `eval_<dataset>.json` are written there.

  Raises:
    ValueError: if the method has figures that are not of patients.
  """
  if config.method not in METHODS:
    raise ValueError(
      f'config.method is {config.method!r}; a study of seeds knows '
      f'{", ".join(METHODS)}'
    )
  study.check_support(data.labelled['test'])
  seeds = {f'seed{seed}': seed for seed in config.study.seeds}
  other = config.study.get('evaluation')
  bootstrap = config.bootstrap_draws, config.study.margin

  def run_cell(name, folder):
    run = run_of(config, seeds[name])
    results = train.train_and_evaluate(run, folder / 'run')
    if other is not None:
      evaluate.evaluate_checkpoint(
        judged(other, folder / 'run'), folder / 'run'
      )
    write(folder / 'results.json', results)

  def summarise(folders, seconds):
    runs = [folder / 'run' for folder in folders.values()]
    if other is not None:
      name = f'eval_{other.data.name}'
      both = summarise_runs(runs, *bootstrap, f'{name}.json', f'{name}.npz')
      publish(workdir / f'{name}.json', Ending(*both))
    results, predictions = summarise_runs(runs, *bootstrap)
    found = Finding()
    if 'identity' in read(runs[0] / 'results.json'):
      part = identity.describe(identity_of(config, data, runs))
      found = merge({'identity': part})
    results = results | found.fields
    results['metrics'] = results['metrics'] | found.metrics
    return Ending(results, predictions, found.sections, found.tables)

  return study.Study(tuple(seeds), run_cell, summarise)


def run_of(config, seed: int):
  """The config of one run."""
  fields = to_json(config)
  fields.pop('study')
  return from_json(fields | {'mode': 'train', 'seed': seed})


def judged(other, run: pathlib.Path):
  """The config that judges a run on another data set."""
  fields = to_json(other)
  return from_json(fields | {'init_from': str(run)})


def summarise_runs(
  runs: Sequence[pathlib.Path],
  draws: int,
  margin: float,
  results_name: str = 'results.json',
  predictions_name: str = 'predictions.npz',
) -> tuple[dict, dict]:
  """One result record of runs that differ in their seed alone.

  Args:
    runs: work folders.
    draws: of the bootstrap.
    margin: of macro AUROC; equality is claimed within it alone.
    results_name, predictions_name: of the files in each.

  Returns:
    The record, and the test predictions with scores [S, N, K].

  Raises:
    ValueError: if the runs are of different test records or arms.
  """
  records = [read(run / results_name) for run in runs]
  stored = [read_predictions(run / predictions_name) for run in runs]
  first, last = records[0], stored[0]
  for run, record, one in zip(runs, records, stored):
    same = all(record[field] == first[field] for field in _SAME)
    same &= record['hashes']['split'] == first['hashes']['split']
    same &= np.array_equal(one['labels'], last['labels'])
    same &= list(one['arms']) == list(last['arms'])
    if not same:
      raise ValueError(f'{run} is no run of the same kind as {runs[0]}')
  predictions = last | {
    part: {arm: np.stack([one[part][arm] for one in stored])
           for arm in last['arms']}
    for part in ('arms', 'thresholds')
  }  # fmt: skip
  arms = predictions['arms']
  evaluation = compare_arms.evaluate_arms(
    **predictions,
    method=next(a for a in ('finetune', 'scratch', 'probe') if a in arms),
    comparisons=[tuple(pair.split('-')) for pair in first['differences']],
    draws=draws,
    margin=margin,
  )
  mean = lambda field: float(np.mean([record[field] for record in records]))
  results = assemble(
    evaluation,
    **{field: first[field] for field in _SAME},
    seed=first['seed'],
    step=first['step'],
    hashes=first['hashes'],
    device=first['device'],
    examples_per_second=mean('examples_per_second'),
    wall_seconds=len(records) * mean('wall_seconds'),
    seeds=[record['seed'] for record in records],
    checkpoints=[record['hashes']['checkpoint'] for record in records],
    config=first['config'],
    **{k: first[k] for k in ('trained_on', 'leakage_audit') if k in first},
  )
  return results, predictions


def identity_of(config, data, runs: Sequence[pathlib.Path]) -> Mapping:
  """`evaluators.identity` over all seeds, from their checkpoints."""
  features = {identity.BASELINE: [], identity.METHOD: []}
  for run in runs:
    trained = load(run)
    models = zip(features, (untrained(trained), trained))
    for arm, model in models:
      features[arm].append(
        {
          name: over_split(model, split, arm).features
          for name, split in data.labelled.items()
        }
      )
  return identity.evaluate_identity(
    {
      arm: {name: np.stack([one[name] for one in found]) for name in found[0]}
      for arm, found in features.items()
    },
    data,
    gap_edges=config[config.method].gap_edges,
    draws=config.bootstrap_draws,
  )
