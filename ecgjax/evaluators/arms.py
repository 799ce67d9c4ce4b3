"""Probes of frozen features and the classifier itself, on the test split."""

import dataclasses

from ecgjax.data.batches import run_data
from ecgjax.methods import supervised
from ecgjax.metrics import metrics
from ecgjax.metrics.compare_arms import evaluate_arms
from ecgjax.metrics.probe import reference, standardised_lr
from ecgjax.report import page, tables
from ecgjax.report.finding import Finding
from ecgjax.runtime.resolve import choose


def evaluate(run) -> Finding:
  """Arms of the task, and all arms on the classes that a classifier knows."""
  found, shared = scores(run), shared_classes(run)
  splits = run.data.labelled
  classes = splits['test'].class_names
  if not shared or len(shared) == len(classes):
    return Finding(arms=found)
  arm = supervised.arm(run.model.config)
  columns = [classes.index(name) for name in shared]
  some = {name: _pick_classes(split, columns) for name, split in splits.items()}
  picked = {
    name: tuple(part[:, columns] for part in pair)
    for name, pair in found.items()
  }
  part, _ = compare(
    picked | {arm: _classify(run, shared)}, some, arm, run.draws
  )
  section = page.Section(
    'Classes shared with the checkpoint',
    [
      f'The classifier of the checkpoint ({arm}) knows {", ".join(shared)} of '
      'the classes of this task; all arms on these alone:',
      tables.arms_table(part),
      *tables.difference_tables(part),
    ],
  )
  fields = {'shared_classes': {'class_names': shared, **part}}
  return Finding(fields=fields, arms=found, sections=[section])


def scores(run) -> dict:
  """Arm -> validation and test probabilities on the whole task."""
  found = {arm: run.probe(arm) for arm in run.probed}
  classes = list(run.data.labelled['test'].class_names)
  if shared_classes(run) == classes:
    found[supervised.arm(run.model.config)] = _classify(run, classes)
  return found


def under_test(run) -> str:
  """The arm whose figures head the results."""
  if 'model' in run.probed.values():
    return 'probe'
  return supervised.arm(run.model.config)


def shared_classes(run) -> list[str]:
  """Classes of the task that the classifier knows by name."""
  known = run.model.class_names
  return [x for x in run.data.labelled['test'].class_names if x in known]


def _classify(run, names) -> tuple:
  """Validation and test probabilities of the classifier for some classes."""
  columns = [run.model.class_names.index(name) for name in names]
  return tuple(
    run.outputs('model', split).probabilities[:, columns]
    for split in ('validation', 'test')
  )


def _pick_classes(split, columns):
  """The split with some of its classes."""
  picked = {k: split.columns[k][:, columns] for k in ('label', 'label_mask')}
  return dataclasses.replace(
    split,
    columns=split.columns | picked,
    class_names=tuple(split.class_names[k] for k in columns),
  )


def fit_probe(recipe: str, train, validation, splits):
  """Fits a probe on frozen features.

  Args:
    recipe: 'standardised_lr' or 'reference'.
    train, validation: [N, D] features.
    splits: 'train' and 'validation' -> Split with labels.
  """
  fit = choose(
    'config.probe.recipe',
    recipe,
    {
      'standardised_lr': standardised_lr,
      'reference': reference,
    },
  )
  columns = {name: split.columns for name, split in splits.items()}
  return fit(
    train,
    columns['train']['label'],
    validation,
    columns['validation']['label'],
    train_label_mask=columns['train']['label_mask'],
    val_label_mask=columns['validation']['label_mask'],
  )


def probe_scores(recipe: str, train, validation, test, splits):
  """Validation and test probabilities of a probe on frozen features.

  Args:
    recipe: 'standardised_lr' or 'reference'.
    train, validation, test: [N, D] features.
    splits: 'train' and 'validation' -> Split with labels.
  """
  probe = fit_probe(recipe, train, validation, splits)
  return probe.predict(validation), probe.predict(test)


def compare(scores: dict, splits: dict, arm: str, draws: int, also=()):
  """Metrics, intervals and differences of all arms; the test labels' one use.

  Args:
    scores: arm -> (validation, test) probabilities, each [N, K] or [S, N, K].
    splits: 'validation' and 'test' -> Split with labels.
    arm: the one under test.
    draws: number of bootstrap draws over patients.
    also: further pairs of arms to compare.

  Returns:
    The parts of `metrics.compare_arms.evaluate_arms`, and the test predictions.
  """
  validation, test = splits['validation'].columns, splits['test'].columns
  predictions = {
    'arms': {name: pair[1] for name, pair in scores.items()},
    'labels': test['label'],
    'patients': test['patient'],
    'class_names': splits['test'].class_names,
    'thresholds': {
      name: metrics.f1_thresholds(
        validation['label'], pair[0], validation['label_mask']
      )
      for name, pair in scores.items()
    },
    'label_mask': test['label_mask'],
  }
  pairs = (
    ('finetune', 'scratch'), ('finetune', 'probe'), ('probe', 'scratch'),
    ('linear', 'probe'), ('probe', 'start_probe'),
  )  # fmt: skip
  evaluation = evaluate_arms(
    **predictions,
    method=arm,
    comparisons=[p for p in (*pairs, *also) if set(p) <= set(scores)],
    draws=draws,
  )
  return evaluation, predictions


def errors_section(data, predictions: dict, arm: str) -> page.Section:
  """The most confident errors of an arm, drawn.

  Args:
    data: `data.batches.run_data.RunData`.
    predictions: what `compare` returned, of one seed.
    arm: which.
  """
  test = data.labelled['test']
  mistakes = page.confident_errors(
    predictions['labels'],
    predictions['arms'][arm],
    predictions['thresholds'][arm],
    label_mask=predictions['label_mask'],
  )
  load = lambda row: run_data.load_recording(data, 'test', test.record_ids[row])
  return page.errors_section(mistakes, test.class_names, load)
