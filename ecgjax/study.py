"""A grid of runs on one data set: arms x label subsets x seeds.

`<workdir>/runs/` holds one work folder per training and one folder per (label
subset, seed) with its manifest, predictions and results; `results.json` and
`report.html` of the study are made from those files alone. Every piece that is
there is not made again.
"""

import itertools
import logging
import pathlib
import time

import jax
import numpy as np
import tqdm

from ecgjax import config as config_lib
from ecgjax import evaluate
from ecgjax import train as train_lib
from ecgjax.data import input_pipeline, sources
from ecgjax.data import splits as splits_lib
from ecgjax.data import table as table_lib
from ecgjax.evaluation import label_efficiency, report, tables
from ecgjax.evaluation import metrics as metrics_lib
from ecgjax.evaluation import results as results_lib
from ecgjax.training import checkpoints
from ecgjax.training import workdir as workdir_lib

logger = logging.getLogger(__name__)
ARMS = ('random_probe', 'scratch', 'probe', 'finetune')


def run_study(config, workdir) -> dict:
  """Runs what is missing of the grid, then writes table and report.

  Args:
    config: a supervised config with `pretrain` (fields of the pretraining
      run, beside the common ones) and `study` (the grid).
    workdir: folder of the study.

  Returns:
    The study's results.

  Raises:
    ValueError: if config, data or work folder are off.
  """
  started = time.monotonic()
  workdir = pathlib.Path(workdir)
  if 'study' not in config:
    raise ValueError(
      '--mode=study needs a study config, e.g. '
      'configs/study_label_efficiency.py'
    )
  workdir_lib.check(config, workdir)
  finished = workdir_lib.read_results(workdir)
  if finished:
    logger.info('%s is finished; see %s', workdir, workdir / 'results.json')
    return finished
  data = sources.open_data(config)
  subsets = subset_sizes(config.study)
  check_support(data.labelled['test'])
  workdir_lib.create(config, workdir)
  runs = workdir / 'runs'
  grid = list(itertools.product(config.study.seeds, subsets))
  bar = tqdm.tqdm(total=len(grid), desc='study', unit='cell', disable=None)
  encoders = {}
  with bar:
    for seed, (name, size) in grid:
      folder = runs / f'{name}-seed{seed}'
      if not (folder / 'results.json').is_file():
        if seed not in encoders:
          encoders[seed] = _Encoders(config, data, runs, seed)
        _run_cell(config, data, encoders[seed], folder, seed, size)
      bar.update()
  return _summarise(config, data, workdir, started)


def subset_sizes(study) -> list[tuple[str, dict]]:
  """Name and `splits.label_subset` argument of every subset.

  Raises:
    ValueError: if fractions and numbers of records are both given, or neither.
  """
  if bool(study.fractions) == bool(study.num_records):
    raise ValueError(
      'config.study: give either fractions or num_records, not both'
    )
  return [
    (f'labels{100 * f:g}percent', {'fraction': f}) for f in study.fractions
  ] + [(f'labels{n}', {'num_records': n}) for n in study.num_records]


def check_support(test) -> None:
  """Refuses a study whose headline could not be computed."""
  columns = test.columns
  support = metrics_lib.support(
    columns['label'], columns['patient'], columns['label_mask']
  )
  if not support['supported'].any():
    raise ValueError(
      'study: no label has 10 positive and 10 negative test patients among '
      f'{len(np.unique(columns["patient"]))}; use a larger data set'
    )


class _Encoders:
  """Random and pretrained encoder of one seed, and their features."""

  def __init__(self, config, data, runs: pathlib.Path, seed: int):
    self.folder = runs / f'pretrain-seed{seed}'
    self.config = _pretraining_config(config, seed)
    trained = train_lib.train_on(
      self.config, self.folder, data, f'pretrain seed {seed}'
    )
    self.digest = checkpoints.digest(
      [trained.state.params, trained.state.model_state]
    )
    self.examples_per_second = trained.examples_per_second
    self.features = {
      arm: {
        name: evaluate.predict_split(trained, state, split, arm).features
        for name, split in data.labelled.items()
      }
      for arm, state in (
        ('random_probe', trained.initial),
        ('probe', trained.state),
      )
    }


def _pretraining_config(config, seed: int):
  """The pretraining run of a study: its own fields, the study's data."""
  fields = config_lib.to_json(config)
  for name in ('study', 'supervised', 'pretrain'):
    fields.pop(name)
  fields |= config_lib.to_json(config.pretrain)
  fields |= {'seed': seed, 'eval_every': 0, 'patience': 0}
  return config_lib.from_json(fields)


def _run_cell(config, data, encoders, folder, seed: int, size: dict) -> None:
  """All arms on one label subset; writes its manifest and results."""
  started = time.monotonic()
  train = data.labelled['train']
  table = table_lib.read_table(data.builder, 'train')
  manifest = splits_lib.label_subset(
    train.record_ids,
    table['patient_id'][train.position],
    train.columns['label'],
    train.class_names,
    seed=seed,
    **size,
  )
  splits_lib.write_manifest(manifest, folder / 'manifest.json')
  subset = input_pipeline.open_split(
    data.builder, 'train', config, records=manifest['record_ids']
  )
  splits = data.labelled | {'train': subset}
  rows = np.isin(train.record_ids, manifest['record_ids'])
  scores = {}
  for arm, features in encoders.features.items():
    scores[arm] = evaluate.probe_scores(
      config.probe.recipe,
      features['train'][rows],
      features['validation'],
      features['test'],
      splits,
    )
  for arm, init_from, rates in (
    ('scratch', '', config.study.scratch_learning_rates),
    ('finetune', str(encoders.folder), config.study.finetune_learning_rates),
  ):
    runs = [
      _train_classifier(config, data, splits, folder, arm, seed, init_from, r)
      for r in rates
    ]
    _, scores[arm] = max(runs, key=lambda run: run[0])
  evaluation, predictions = evaluate.compare_arms(
    config, {arm: scores[arm] for arm in ARMS}, splits, 'finetune'
  )
  results_lib.write_predictions(folder / 'predictions.npz', **predictions)
  results = results_lib.assemble(
    evaluation,
    **_facts(config, data, started),
    seed=seed,
    step=config.num_steps,
    hashes={
      'split': data.split_hash,
      'manifest': manifest['sha256'],
      'checkpoint': encoders.digest,
    },
    examples_per_second=encoders.examples_per_second,
    num_labelled_records=manifest['num_records'],
    missing_labels=manifest['missing_labels'],
  )
  results_lib.write(folder / 'results.json', results)


def _train_classifier(
  config, data, splits, folder, arm, seed, init_from, learning_rate
):
  """Trains one classifier; returns its best validation figure and scores."""
  fields = config_lib.to_json(config)
  for name in ('study', 'pretrain'):
    fields.pop(name)
  fields |= {'seed': seed, 'init_from': init_from}
  fields['optimizer'] |= {'learning_rate': learning_rate}
  # A power of two, so that small subsets run on several devices too.
  largest = 1 << (len(splits['train']).bit_length() - 1)
  fields['batch_size'] = min(config.batch_size, largest)
  run = config_lib.from_json(fields)
  name = f'{arm}-rate{learning_rate:g}'
  trained = train_lib.train_on(
    run, folder / name, data._replace(labelled=splits), f'{folder.name} {name}'
  )
  state, step = evaluate.choose_state(run, trained)
  scores = tuple(
    evaluate.predict_split(trained, state, splits[split], arm).probabilities
    for split in ('validation', 'test')
  )
  metadata = trained.checkpointer.metadata(step)
  return metadata['metrics'][run.best_metric], scores


def _facts(config, data, started) -> dict:
  """Fields that the results of cells and of the study share."""
  test = data.labelled['test']
  return {
    'method': config.pretrain.method,
    'dataset': config.data.name,
    'protocol': 'label_efficiency',
    'split': 'test',
    'num_examples': len(test),
    'num_patients': len(np.unique(test.columns['patient'])),
    'device': evaluate.describe_device(),
    'wall_seconds': time.monotonic() - started,
    'synthetic': data.synthetic,
    'leak_allowed': bool(config.data.allow_leak),
  }


def _summarise(config, data, workdir: pathlib.Path, started) -> dict:
  """Results, Markdown table and report of the study, from its cells."""
  cells = {
    (name, seed): workdir / 'runs' / f'{name}-seed{seed}'
    for name, _ in subset_sizes(config.study)
    for seed in config.study.seeds
  }
  names = [name for name, _ in subset_sizes(config.study)]
  records = {k: results_lib.read(f / 'results.json') for k, f in cells.items()}
  stored = {
    k: results_lib.read_predictions(f / 'predictions.npz')
    for k, f in cells.items()
  }
  seeds = config.study.seeds
  arms = {
    arm: np.stack(
      [
        np.stack([stored[name, seed]['arms'][arm] for seed in seeds])
        for name in names
      ]
    )
    for arm in ARMS
  }  # each [F, S, N, K]
  sizes = [
    int(np.mean([records[n, s]['num_labelled_records'] for s in seeds]))
    for n in names
  ]
  first = stored[names[-1], seeds[0]]
  common = {
    'labels': first['labels'],
    'patients': first['patients'],
    'class_names': first['class_names'],
    'label_mask': first['label_mask'],
  }
  efficiency = label_efficiency.label_efficiency(
    arms,
    sizes,
    targets=[
      target
      for target in label_efficiency.TARGETS
      if np.abs(np.log(np.divide(sizes, target * sizes[-1]))).min() < 0.1
    ],
    draws=config.bootstrap_draws,
    **common,
  )
  largest = {arm: scores[-1] for arm, scores in arms.items()}
  thresholds = {
    arm: np.stack([stored[names[-1], s]['thresholds'][arm] for s in seeds])
    for arm in ARMS
  }
  evaluation = evaluate.arms_lib.evaluate_arms(
    largest, thresholds=thresholds, method='finetune',
    comparisons=[('finetune', 'scratch'), ('probe', 'scratch')],
    draws=config.bootstrap_draws, **common,
  )  # fmt: skip
  last = records[names[-1], seeds[0]]
  results = results_lib.assemble(
    evaluation,
    **_facts(config, data, started),
    seed=seeds[0],
    step=config.num_steps,
    hashes=last['hashes'],
    examples_per_second=last['examples_per_second'],
    seeds=list(seeds),
    label_efficiency=efficiency,
    study=config_lib.to_json(config.study),
    budget=budget(config),
  )
  built = tables.efficiency_tables(efficiency)
  text = f'{budget(config)}\n\n' + '\n\n'.join(
    table.markdown() for table in built
  )
  results_lib.write_text(workdir / 'results.md', text + '\n')
  test = data.labelled['test']
  predictions = {**common, 'arms': largest, 'thresholds': thresholds}
  mistakes = report.confident_errors(
    common['labels'],
    largest['finetune'].mean(axis=0),
    thresholds['finetune'].mean(axis=0),
    label_mask=common['label_mask'],
  )
  load = lambda row: sources.load_recording(data, 'test', test.record_ids[row])
  report.write_report(
    workdir / 'report.html',
    results,
    title=f'Label efficiency of {config.pretrain.method}',
    predictions=predictions,
    efficiency=efficiency,
    sections=[report.errors_section(mistakes, test.class_names, load)],
  )
  results_lib.write(workdir / 'results.json', results)
  logger.info('%s', text)
  logger.info('Results: %s', workdir / 'results.json')
  logger.info('Report:  %s', workdir / 'report.html')
  return results


def budget(config) -> str:
  """What the grid gave to each arm, in words."""
  study = config.study
  rates = lambda values: ', '.join(f'{v:g}' for v in values)
  return (
    f'Classifiers: {config.num_steps} updates of at most {config.batch_size} '
    f'ECGs, learning rate {rates(study.scratch_learning_rates)} (scratch) and '
    f'{rates(study.finetune_learning_rates)} (fine-tuning), best validation '
    f'checkpoint; {len(study.seeds)} seeds, each with a pretraining of its own '
    f'({jax.default_backend()}).'
  )
