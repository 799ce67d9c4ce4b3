"""What frozen features know of people: identity, age and sex.

Patient contrast optimises identity and is used for disease. How well one ECG
of a patient finds the other one, and how well age and sex can be read from the
features, stands beside every probe of it. See docs/evaluation.md,
Identity.
"""

import logging
from collections.abc import Mapping

import numpy as np

from ecgjax.data.batches import run_data
from ecgjax.data.store import records
from ecgjax.metrics import compare_arms, retrieval
from ecgjax.metrics.probe import standardised_lr
from ecgjax.report import page, tables
from ecgjax.report.finding import Finding

OPTIONS = {'gap_edges': (30.0, 365.0)}  # days, limits of the strata of gaps
logger = logging.getLogger(__name__)
METHOD, BASELINE = 'trained', 'untrained'
OLD = 65  # years


def evaluate(run) -> Finding:
  """Identity, age and sex in the features, before and after training."""
  features = {
    BASELINE: run.features('untrained'),
    METHOD: run.features('model'),
  }
  gap_edges = run.options['gap_edges']
  return describe(
    evaluate_identity(features, run.data, gap_edges=gap_edges, draws=run.draws)
  )


def describe(identity: Mapping) -> Finding:
  """What `evaluate_identity` found, with its tables."""
  built = tables.identity_tables(identity)
  nothing = 'No test patient has two ECGs; age and sex are not known.'
  return Finding(
    metrics=headline(identity),
    fields={'identity': identity},
    tables=built,
    sections=[] if built else [page.Section('Identity', [nothing])],
  )


def evaluate_identity(
  features: Mapping[str, Mapping[str, np.ndarray]],
  data,
  *,
  gap_edges,
  draws: int,
) -> dict:
  """Identity, age and sex in the features of the labelled records.

  Args:
    features: 'trained' and 'untrained' -> split -> [N, D], or [S, N, D] for S
      training seeds.
    data: `data.batches.run_data.RunData`.
    gap_edges: limits of the strata of gaps, days.
    draws: number of bootstrap draws over patients.

  Returns:
    `retrieval`, see `retrieval.evaluate`, on the test split, features
    standardised by training; None if no test patient has two ECGs.
    `confounders`: `arms` -> label ('65 or older', 'female') -> auroc and
    supports of a probe, `differences` -> label -> auroc; None where neither
    age nor sex is known.
  """
  known = {
    name: {
      field: column[split.position]
      for field, column in records.read_table(data.builder, name).items()
      if field in ('time', 'age', 'sex')
    }
    for name, split in data.labelled.items()
  }
  features = {
    arm: {
      name: part[None] if np.ndim(part) == 2 else part
      for name, part in parts.items()
    }
    for arm, parts in features.items()
  }  # [S, N, D] each
  test = data.labelled['test'].columns
  found = {'retrieval': None, 'confounders': None}
  if len(np.unique(test['patient'])) < len(test['patient']):
    found['retrieval'] = retrieval.evaluate(
      {
        arm: np.stack(
          [standardise(*pair) for pair in zip(parts['test'], parts['train'])]
        )
        for arm, parts in features.items()
      },
      test['patient'],
      known['test']['time'],
      test['label'],
      baseline=BASELINE,
      gap_edges=gap_edges,
      draws=draws,
    )
  else:
    logger.info('No test patient has two ECGs: no retrieval.')
  names, columns = person_labels(known)
  if names:
    found['confounders'] = _confounders(
      features, names, columns, test['patient'], draws
    )
  else:
    logger.info('Age and sex are not known: no probe of confounders.')
  return found


def _confounders(features, names, columns, patients, draws: int) -> dict:
  """Probes for age and sex; `features` [S, N, D] of each arm and split."""
  scores = {
    arm: np.stack(
      [
        _probe(columns, *(parts[name][seed] for name in run_data.SPLITS))
        for seed in range(len(parts['test']))
      ]
    )
    for arm, parts in features.items()
  }
  label, mask = columns['test']
  evaluation = compare_arms.evaluate_arms(
    scores, label, patients, names,
    method=METHOD, baseline=BASELINE, label_mask=mask, draws=draws,
  )  # fmt: skip
  keep = ('auroc', 'supported', 'num_positive', 'num_negative')
  return {
    'arms': {
      arm: {
        name: {field: entry[field] for field in keep}
        for name, entry in parts['per_class'].items()
      }
      for arm, parts in evaluation['arms'].items()
    },
    'differences': {
      pair: {name: entry['auroc'] for name, entry in table.items()}
      for pair, table in evaluation['differences_per_class'].items()
    },
  }


def _probe(columns, train, validation, test) -> np.ndarray:
  """Test probabilities [N, K] of a probe for age and sex, of one seed."""
  probe = standardised_lr(
    train,
    columns['train'][0],
    validation,
    columns['validation'][0],
    train_label_mask=columns['train'][1],
    val_label_mask=columns['validation'][1],
  )
  return probe.predict(test)


def standardise(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
  """Features [N, D] by mean and standard deviation of others [M, D].

  As the probe does. Untrained features share one large mean, so that the
  cosine of any two of them would be 1.
  """
  deviation = reference.std(axis=0)
  deviation[deviation < 1e-6] = 1
  return (features - reference.mean(axis=0)) / deviation


def person_labels(tables: Mapping[str, Mapping[str, np.ndarray]]):
  """Age and sex as labels.

  Args:
    tables: split -> `age` [N] years, nan unknown, and `sex` [N], 0 male, 1
      female, -1 unknown.

  Returns:
    names of the labels of which every split has both classes, and split ->
    labels and mask, both [N, K].
  """
  columns = {}
  for split, table in tables.items():
    age, sex = table['age'], table['sex']
    label = np.stack([age >= OLD, sex == 1], axis=1)
    mask = np.stack([~np.isnan(age), sex >= 0], axis=1)
    columns[split] = label.astype(np.float32), mask.astype(np.float32)
  both = np.ones(2, bool)
  for label, mask in columns.values():
    for value in (0, 1):
      both &= ((label == value) & (mask > 0)).any(axis=0)
  names = [n for n, b in zip((f'{OLD} or older', 'female'), both) if b]
  return names, {
    split: (label[:, both], mask[:, both])
    for split, (label, mask) in columns.items()
  }


def headline(identity: Mapping) -> dict:
  """Recall of the trained features, for the metrics of a result record."""
  found = identity['retrieval']
  return {'recall_at_1': found['arms'][METHOD]['recall_at_1']} if found else {}
