"""What is pretraining worth at few labels: arms x label subsets x seeds.

Every seed has a pretraining of its own and nested, stratified subsets of the
labelled training records, by share (`config.study.fractions`) or by number
(`config.study.num_records`). Each cell, one subset of one seed, holds its
manifest, the predictions of all arms and their results. See
docs/evaluation.md, Label subsets.
"""

import itertools
import json
import pathlib
import time
from collections.abc import Mapping

import jax
import numpy as np

from ecgjax import evaluate
from ecgjax.config import to_json
from ecgjax.config.option import SEED, Choice, Grid, Number
from ecgjax.data.raw import ludb_waves
from ecgjax.data.store import splits
from ecgjax.evaluators.arms import compare, errors_section, probe_scores
from ecgjax.evaluators.attribution import TITLES, measure_shares
from ecgjax.metrics import attribution, label_efficiency
from ecgjax.metrics.compare_arms import evaluate_arms
from ecgjax.model import over_split
from ecgjax.report import attribution as attribution_report
from ecgjax.report import efficiency_tables, page, tables
from ecgjax.report import results as results_lib
from ecgjax.report.ending import Ending
from ecgjax.studies import label_subsets
from ecgjax.studies import study as study_lib
from ecgjax.train import train_on

ARMS = ('random_probe', 'scratch', 'probe', 'finetune')
OPTIONS = {
  'fractions': Grid((), 'float (0, 1]', empty=True),  # of the labelled records
  'num_records': Grid((), 'int [0, inf)', empty=True),  # or sizes; 0: all
  'seeds': Grid((0, 1, 2), SEED),
  'validation': Choice('budget', 'full'),  # do its labels count?
  # Of macro AUROC; equality is claimed within it alone.
  'margin': Number(0.01, 'float (0, 1)'),
  'scratch_learning_rates': Grid((1e-3,), 'float [0, inf)'),
  'finetune_learning_rates': Grid((1e-3,), 'float [0, inf)'),
  'attribution': False,  # where classifiers look; with LUDB if ludb_dir
  'ludb_dir': '',
}
# Changes of a config, for its presets.
FULL = {
  'study.seeds': (0, 1, 2, 3, 4),
  'study.scratch_learning_rates': (1e-4, 3e-4, 1e-3),
  'study.finetune_learning_rates': (1e-4, 3e-4, 1e-3),
  'batch_size': 128,
  'num_steps': 5000,
  'eval_every': 250,
  'patience': 5,
}
SMOKE = {
  'study.seeds': (0,),
  'pretrain.batch_size': 32,
  'pretrain.num_steps': 2,
  'batch_size': 16,
  'num_steps': 2,
  'eval_every': 1,
  'bootstrap_draws': 1000,
}
LOOKING = ('finetune', 'scratch')  # whose attributions are measured


def make(config, data, workdir: pathlib.Path) -> study_lib.Study:
  """Makes the study.

  Args:
    config: a supervised config with `pretrain` (fields of the pretraining
      run, beside the common ones) and `study`: `fractions` of the training
      patients or `num_records` (0: all), `seeds`, `scratch_learning_rates`
      and `finetune_learning_rates`; `attribution` measures where fine-tuned
      classifiers and those from scratch look, on simulated ECGs and, with
      `ludb_dir`, on LUDB; `validation`: 'budget' counts the labels of
      validation, see `label_subsets`, 'full' gives all of them to every
      cell; `margin` of macro AUROC within which equality may be claimed.
    data: `data.batches.run_data.RunData`.
    workdir: of the study; pretrainings are kept in its `runs/`.

  Raises:
    ValueError: if the sizes are off or the headline could not be computed.
  """
  subsets = label_subsets.subset_sizes(
    config.study, len(data.labelled['train'])
  )
  study_lib.check_support(data.labelled['test'])
  if config.study.ludb_dir:
    ludb_waves.read_diagnoses(config.study.ludb_dir)
  grid = {
    f'{name}-seed{seed}': (seed, size)
    for seed, (name, size) in itertools.product(config.study.seeds, subsets)
  }
  encoders = {}

  def run_cell(name, folder):
    seed, size = grid[name]
    if seed not in encoders:
      encoders.clear()  # seeds come one after the other
      encoders[seed] = _Encoders(config, data, workdir / 'runs', seed)
    _run_cell(config, data, encoders[seed], folder, seed, size)

  def summarise(folders, seconds):
    return _summarise(config, data, folders, seconds)

  return study_lib.Study(tuple(grid), run_cell, summarise)


class _Encoders:
  """Random and pretrained encoder of one seed, and their features."""

  def __init__(self, config, data, runs: pathlib.Path, seed: int):
    self.folder = runs / f'pretrain-seed{seed}'
    fields = to_json(config.pretrain)
    fields |= {'seed': seed, 'eval_every': 0, 'patience': 0}
    run = study_lib.run_config(config, ('supervised',), **fields)
    trained = train_on(run, self.folder, data, f'pretrain seed {seed}')
    # The step that `init_from` takes from this run.
    model = evaluate.choose_model(run, trained)
    self.digest = model.digest
    self.examples_per_second = trained.examples_per_second
    self.features = {
      arm: {
        name: over_split(encoder, split, arm).features
        for name, split in data.labelled.items()
      }
      for arm, encoder in (
        ('random_probe', trained.initial),
        ('probe', model),
      )
    }


def _run_cell(config, data, encoders, folder, seed: int, size: dict) -> None:
  """All arms on one label subset; writes its manifest and results."""
  started = time.monotonic()
  manifest = splits.label_subset(
    *label_subsets.arguments(data, 'train'), seed=seed, **size
  )
  held_out = label_subsets.validation_manifest(config.study, data, seed, size)
  chosen = {'train': manifest, 'validation': held_out}
  splits.write_manifest(manifest, folder / 'manifest.json')
  splits.write_manifest(held_out, folder / 'validation_manifest.json')
  rows = {
    name: np.isin(data.labelled[name].record_ids, one['record_ids'])
    for name, one in chosen.items()
  }
  subsets = {name: data.labelled[name].take(rows[name]) for name in chosen}
  data = data._replace(labelled=data.labelled | subsets)
  scores = {}
  for arm, features in encoders.features.items():
    scores[arm] = probe_scores(
      config.probe.recipe,
      features['train'][rows['train']],
      features['validation'][rows['validation']],
      features['test'],
      data.labelled,
    )
  for arm, init_from in (('scratch', ''), ('finetune', str(encoders.folder))):
    scores[arm] = study_lib.train_classifier(
      config, data, folder, arm,
      seed=seed,
      init_from=init_from,
      learning_rates=config.study[f'{arm}_learning_rates'],
    )  # fmt: skip
  scores = {arm: scores[arm] for arm in ARMS}
  evaluation, predictions = compare(
    scores, data.labelled, 'finetune', config.bootstrap_draws
  )
  results_lib.write_predictions(folder / 'predictions.npz', **predictions)
  if config.study.attribution:
    models = {arm: study_lib.best_model(config, folder, arm) for arm in LOOKING}
    _write_shares(folder, models, config.study.ludb_dir)
  results = results_lib.assemble(
    evaluation,
    **study_lib.facts(
      config, data, config.pretrain.method, time.monotonic() - started
    ),
    seed=seed,
    step=config.num_steps,
    hashes={
      'split': data.split_hash,
      'manifest': manifest['sha256'],
      'validation_manifest': held_out['sha256'],
      'checkpoint': encoders.digest,
    },
    examples_per_second=encoders.examples_per_second,
    num_labelled_records=manifest['num_records'],
    num_validation_records=held_out['num_records'],
    missing_labels=manifest['missing_labels'],
  )
  results_lib.write(folder / 'results.json', results)


def _write_shares(folder, models: Mapping, ludb_dir: str) -> None:
  """Where the classifiers of a cell look, arm -> Model."""
  method = models['finetune'].method  # one program for both
  models = {k: model._replace(method=method) for k, model in models.items()}
  shares = measure_shares(models, ludb_dir)
  results_lib.write_text(folder / 'attribution.json', json.dumps(shares))


def _summarise(config, data, folders: Mapping, seconds: float) -> Ending:
  """Results, Markdown tables and report of the study, from its cells."""
  subsets = label_subsets.subset_sizes(
    config.study, len(data.labelled['train'])
  )
  names, seeds = [name for name, _ in subsets], config.study.seeds
  cells = {(n, s): folders[f'{n}-seed{s}'] for n in names for s in seeds}
  records = {k: results_lib.read(f / 'results.json') for k, f in cells.items()}
  sizes, spent = _label_counts(records, names, config.study)
  arms, thresholds, common = _stack(cells, names, seeds)
  bootstrap = {'draws': config.bootstrap_draws, 'margin': config.study.margin}
  near = lambda share: np.abs(np.log(np.divide(sizes, share * sizes[-1]))).min()
  efficiency = label_efficiency.label_efficiency(
    arms,
    sizes,
    targets=[share for share in label_efficiency.TARGETS if near(share) < 0.1],
    **bootstrap,
    **common,
  )
  efficiency['validation'] = config.study.validation
  efficiency['num_validation_records'] = spent
  largest = {arm: scores[-1] for arm, scores in arms.items()}
  evaluation = evaluate_arms(
    largest, thresholds=thresholds, method='finetune',
    comparisons=[('finetune', 'scratch'), ('probe', 'scratch')],
    **bootstrap, **common,
  )  # fmt: skip
  last = records[names[-1], seeds[0]]
  results = results_lib.assemble(
    evaluation,
    **study_lib.facts(config, data, config.pretrain.method, seconds),
    seed=seeds[0],
    step=config.num_steps,
    hashes=last['hashes'],
    examples_per_second=last['examples_per_second'],
    seeds=list(seeds),
    label_efficiency=efficiency,
    study={k: v for k, v in to_json(config.study).items() if k != 'ludb_dir'},
    budget=budget(config),
  )  # fmt: skip
  built = efficiency_tables.efficiency_tables(efficiency)
  sections = [efficiency_tables.section(efficiency)]
  if config.study.attribution:
    results['attribution'], section = _attribution(
      cells, dict(zip(names, sizes)), seeds, config.bootstrap_draws
    )
    built += [part for part in section.parts if isinstance(part, tables.Table)]
    sections.append(section)
  head = [budget(config), *efficiency_tables.claims(efficiency)]
  scored = {'arms': largest, 'thresholds': thresholds}
  mean = lambda values: {arm: one.mean(axis=0) for arm, one in values.items()}
  averaged = common | {part: mean(values) for part, values in scored.items()}
  return Ending(
    results,
    common | scored,
    [*sections, errors_section(data, averaged, 'finetune')],
    title=f'Label efficiency of {config.pretrain.method}',
    text='\n\n'.join([*head, *(table.markdown() for table in built)]),
  )


def _label_counts(records: Mapping, names, study) -> tuple[list, list]:
  """Labels that each subset costs, and how many of them are of validation.

  Args:
    records: (subset, seed) -> results of the cell.
    names: of the subsets.
    study: `config.study`.
  """
  mean = lambda field: [
    int(np.mean([records[n, s][field] for s in study.seeds])) for n in names
  ]
  sizes, spent = mean('num_labelled_records'), mean('num_validation_records')
  if study.validation == 'budget':
    sizes = [train + held_out for train, held_out in zip(sizes, spent)]
  return sizes, spent


def _stack(cells: Mapping, names, seeds) -> tuple[dict, dict, dict]:
  """What the cells predict, over subsets and seeds.

  Args:
    cells: (subset, seed) -> folder.
    names: of the subsets, F.
    seeds: S.

  Returns:
    arm -> [F, S, N, K] probabilities of the test split; arm -> [S, K] F1
    thresholds of the last subset; and what all of them share: labels, patients,
    class names and label mask.
  """
  stored = {
    k: results_lib.read_predictions(f / 'predictions.npz')
    for k, f in cells.items()
  }
  over_seeds = lambda name, part, arm: np.stack(
    [stored[name, seed][part][arm] for seed in seeds]
  )
  arms = {
    arm: np.stack([over_seeds(name, 'arms', arm) for name in names])
    for arm in ARMS
  }
  thresholds = {arm: over_seeds(names[-1], 'thresholds', arm) for arm in ARMS}
  first = stored[names[-1], seeds[0]]
  shared = ('labels', 'patients', 'class_names', 'label_mask')
  return arms, thresholds, {name: first[name] for name in shared}


def _attribution(cells: Mapping, sizes: Mapping, seeds, draws: int):
  """Shares inside the defining waves by number of labels, and their tables.

  Args:
    cells: (subset, seed) -> folder.
    sizes: subset -> labels that it costs.
    seeds: of the study.
    draws: of the bootstrap.
  """
  found = {
    name: [
      json.loads((cells[name, seed] / 'attribution.json').read_text())
      for seed in seeds
    ]
    for name in sizes
  }
  measured = {  # examples -> subset -> ...
    examples: {
      name: attribution.measure(
        [run[examples] for run in found[name]], LOOKING, draws
      )
      for name in sizes
    }
    for examples in found[next(iter(sizes))][0]
  }
  parts = [
    'Integrated gradients of the logit of a class that the recording has. For '
    'reference: the share of time and of |signal| inside the same waves.'
  ]
  for examples, by_size in measured.items():
    title = TITLES[examples]
    words = {f'{n} records': by_size[name] for name, n in sizes.items()}
    parts.append(attribution_report.size_table(words, title, LOOKING[0]))
    for size, one in words.items():
      parts += attribution_report.section(
        {examples: one}, {examples: f'{title}, {size}'}, first=LOOKING[0]
      ).parts
  return measured, page.Section('Where the classifiers look', parts)


def budget(config) -> str:
  """What the grid gave to each arm, in words."""
  study = config.study
  rates = lambda values: ', '.join(f'{v:g}' for v in values)
  return (
    f'Classifiers: {config.num_steps} updates of at most {config.batch_size} '
    f'ECGs, learning rate {rates(study.scratch_learning_rates)} (scratch) and '
    f'{rates(study.finetune_learning_rates)} (fine-tuning), best validation '
    f'checkpoint; {tables.seeds_text(len(study.seeds))}, each with a '
    f'pretraining of its own ({jax.default_backend()}).'
  )
