"""Arms of a comparison: probes on frozen features, and all arms on the test."""

from ecgjax.metrics import metrics
from ecgjax.metrics.compare_arms import evaluate_arms
from ecgjax.metrics.probe import reference, standardised_lr
from ecgjax.runtime.resolve import choose


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


def compare_arms(config, scores: dict, splits: dict, arm: str, also=()):
  """Metrics, intervals and differences of all arms; the test labels' one use.

  Args:
    config: of the run.
    scores: arm -> (validation, test) probabilities, each [N, K] or [S, N, K].
    splits: 'validation' and 'test' -> Split with labels.
    arm: the one under test.
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
    draws=config.bootstrap_draws,
  )
  return evaluation, predictions
