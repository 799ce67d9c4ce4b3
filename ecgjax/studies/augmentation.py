"""Does augmentation help rare classes? Arms x seeds on one training fold.

All arms train the same classifier with the same updates and the same number of
ECGs seen; they differ in what those ECGs are. `none` is the baseline of every
comparison, the untrained encoder with a probe stands beside it, and
`reconstruction` (ECGs through the codec, nothing else) controls the arms that
use a codec. `best_of_both` joins the classical and the latent arm that are best
on validation.

A fold is the training split, or a part of it in which the classes are rare
(`config.study.positives`). Codec, prior, teacher and neighbours see the
patients of the fold and nobody else. With `config.study.shared_codec` all seeds
share the fold, its codec and what was generated, and only the classifier is
trained anew. See docs/evaluation.md, Augmentation.
"""

import pathlib
import time

import numpy as np

from ecgjax import evaluate
from ecgjax.config.option import SEED, Grid, Number
from ecgjax.data.batches import run_data
from ecgjax.data.store import labels
from ecgjax.evaluators.arms import compare, probe_scores
from ecgjax.generation import parents
from ecgjax.model import over_split
from ecgjax.report.results import assemble, read, write
from ecgjax.studies import augmentation_fold, augmentation_summary, study
from ecgjax.studies.augmentation_summary import (
  BASELINE,
  BEST,
  CLASSICAL,
  CONTROL,
  LATENT,
  PROBE,
)
from ecgjax.train import train_on

OPERATORS = {
  'input_smote': 'input_smote', 'reconstruction': 'reconstruction',
  'latent_mix': 'A', 'latent_smote': 'F', 'prior': 'prior',
  'simulator': 'simulator',
}  # fmt: skip
ARMS = (BASELINE, *CLASSICAL, CONTROL, *LATENT, 'simulator', BEST)
OPTIONS = {
  'classes': (),  # (): the most frequent morphological ones
  'num_classes': Number(10, 'int [1, inf)'),
  # Training ECGs of each class; 0: all.
  'positives': Number(0, 'int [0, inf)'),
  'arms': Grid((
    'none', 'class_weights', 'oversampling', 'classical', 'mixup',
    'input_smote', 'reconstruction', 'latent_mix', 'latent_smote', 'prior',
    'simulator', 'best_of_both',
  )),
  'method': 'latent_mix',  # whose figures head the report
  'seeds': Grid((0, 1, 2, 3, 4), SEED),
  'shared_codec': False,
  # Of macro AUROC; equality is claimed within it alone.
  'margin': Number(0.01, 'float (0, 1)'),
  # Share up to which classes are repeated.
  'oversample': Number(0.05, 'float (0, 1)'),
  'mixup': Number(0.4, 'float [0, inf)'),
  'readers_csv': '',  # readers of the test split, see evaluate.py
}  # fmt: skip


def make(config, data, workdir: pathlib.Path) -> study.Study:
  """Makes the study.

  Args:
    config: a supervised config with `study` (`classes`, () for the most
      frequent `num_classes` morphological ones; `positives`, 0 for all; `arms`;
      `method`, the arm under test; `seeds`; `shared_codec`; `oversample`;
      `mixup`) and `pretrain` (fields of the runs `codec` and `prior`, and
      `augment`).
    data: `data.batches.run_data.RunData`.
    workdir: of the study; folds, codecs and generated ECGs are in its `runs/`.

  Raises:
    ValueError: if arms are off or the headline could not be computed.
  """
  options = config.study
  check_arms(options)
  classes = options.classes or default_classes(
    data.labelled['train'], options.num_classes
  )
  config = config.copy_and_resolve_references()
  config.data.task = ','.join(classes)
  data = run_data.open_data(config.lock().data)
  study.check_support(data.labelled['test'])
  arms = [arm for arm in ARMS if arm in options.arms]
  single = [arm for arm in arms if arm != BEST]
  grid = {f'{a}-seed{s}': (a, s) for s in options.seeds for a in single}
  if BEST in arms:
    grid |= {f'{BEST}-seed{s}': (BEST, s) for s in options.seeds}
  runs, folds = workdir / 'runs', {}

  def fold_of(seed):
    seed = options.seeds[0] if options.shared_codec else seed
    if seed not in folds:
      folds.clear()  # seeds come one after the other
      folds[seed] = augmentation_fold.open_fold(config, data, runs, seed)
    return folds[seed]

  def run_cell(name, folder):
    arm, seed = grid[name]
    _run_cell(config, fold_of(seed), runs, folder, arm, seed)

  def summarise(folders, seconds):
    folded = fold_of(options.seeds[0])
    best = best_arms(options, runs) if BEST in arms else ()
    return augmentation_summary.summarise(
      config, folded, runs, folders, arms, best, seconds
    )

  return study.Study(tuple(grid), run_cell, summarise)


def check_arms(options) -> None:
  """Refuses arms without what they are compared with."""
  unknown = [arm for arm in options.arms if arm not in ARMS]
  if unknown:
    raise ValueError(
      f'config.study.arms: no arm {unknown[0]!r}; choose from {", ".join(ARMS)}'
    )
  needed = [BASELINE, options.method]
  if set(options.arms) & set(OPERATORS):
    needed.append('class_weights')  # the teacher
  if set(options.arms) & {*LATENT, BEST}:
    needed.append(CONTROL)
  if BEST in options.arms and not set(options.arms) & set(LATENT):
    needed.append(LATENT[0])
  missing = [arm for arm in needed if arm not in options.arms]
  if missing:
    raise ValueError(
      f'config.study.arms: {missing[0]!r} is missing, which the others are '
      'compared with or made by'
    )


def default_classes(train, count: int) -> tuple[str, ...]:
  """The most frequent morphological classes of the training split.

  Neither normal nor a matter of rhythm: neither of `parents.RHYTHM` nor a
  rhythm statement of PTB-XL.

  Args:
    train: `Split` with one class per statement.
    count: how many, at most.
  """
  rhythm = {x['code'] for x in labels.scp_statements() if x['rhythm'] == '1'}
  others = rhythm | parents.RHYTHM | {'NORM'}
  positives = (train.columns['label'] * train.columns['label_mask']).sum(axis=0)
  found = [
    (-int(n), k)
    for k, (name, n) in enumerate(zip(train.class_names, positives))
    if name not in others and n > 0
  ]
  chosen = sorted(k for _, k in sorted(found)[:count])
  return tuple(train.class_names[k] for k in chosen)


def arm_fields(config, fold, runs, arm: str, seed: int) -> dict:
  """What an arm changes in the classifier's config; generates what it needs."""
  if arm == BEST:
    chosen = best_arms(config.study, runs)
    changes = [arm_fields(config, fold, runs, a, seed) for a in chosen]
    extra = tuple(
      folder for c in changes for folder in c.get('data', {}).get('extra', ())
    )
    merged = augmentation_fold.changed(*changes)
    return augmentation_fold.changed(merged, {'data': {'extra': extra}})
  if arm in OPERATORS:
    folder = augmentation_fold.generate(config, fold, runs, arm, OPERATORS[arm])
    return {'data': {'extra': (str(folder),)}}
  return {
    'none': {},
    'class_weights': {'supervised': {'balance_classes': True}},
    'oversampling': {'data': {'oversample': config.study.oversample}},
    'classical': {'supervised': {'augment': 'classical'}},
    'mixup': {'supervised': {'mixup': config.study.mixup}},
  }[arm]


def best_arms(study_options, runs) -> tuple[str, str]:
  """The classical and the latent arm with the best mean on validation."""
  chosen = []
  for group in (CLASSICAL, LATENT):
    present = [arm for arm in group if arm in study_options.arms]
    means = {
      arm: np.mean(
        [
          read(runs / f'{arm}-seed{seed}' / 'results.json')[
            'validation_macro_auroc'
          ]
          for seed in study_options.seeds
        ]
      )
      for arm in present
    }
    chosen.append(max(means, key=means.get))
  return tuple(chosen)


def _run_cell(config, fold, runs, folder, arm: str, seed: int) -> None:
  """One classifier; writes its scores and, last, its results."""
  started = time.monotonic()
  data = fold.data
  fields = arm_fields(config, fold, runs, arm, seed)
  run = augmentation_fold.run_config(config, {'seed': seed}, fields)
  trained = train_on(run, folder / 'run', data, folder.name)
  model = evaluate.choose_model(run, trained)
  scores = {
    arm: tuple(
      over_split(model, data.labelled[split], folder.name).probabilities
      for split in ('validation', 'test')
    )
  }
  if arm == BASELINE:
    features = [
      over_split(trained.initial, data.labelled[split], PROBE).features
      for split in run_data.SPLITS
    ]
    scores[PROBE] = probe_scores(config.probe.recipe, *features, data.labelled)
  else:
    scores |= augmentation_summary.read_scores(runs / f'{BASELINE}-seed{seed}')
  extra = {}
  if arm in OPERATORS and seed == fold.seed:
    extra['fidelity'] = augmentation_fold.fidelity_of(
      fold, runs / f'{BASELINE}-seed{seed}' / 'run', run
    )
  evaluation, _ = compare(scores, data.labelled, arm, config.bootstrap_draws)
  augmentation_summary.write_scores(folder, scores)
  results = assemble(
    evaluation,
    **study.facts(
      config, data, config.study.method, time.monotonic() - started
    ),
    seed=seed,
    step=model.step,
    hashes={
      'split': data.split_hash,
      'manifest': data.manifest_hash,
      'checkpoint': model.digest,
    },
    examples_per_second=trained.examples_per_second,
    validation_macro_auroc=model.figures['validation_macro_auroc'],
    **extra,
  )
  write(folder / 'results.json', results)
