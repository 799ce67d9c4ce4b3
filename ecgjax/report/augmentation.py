"""What a study of augmentation may claim, and its tables.

Every statement is about a direct, paired comparison of two arms. That the
latent space is worth something is claimed for a class only where the arm beats
no augmentation AND the control that only reconstructs ECGs, each by a test of
its own (docs/evaluation.md, Augmentation).
"""

from collections.abc import Mapping

from ecgjax.report import tables, verdicts

BASELINE, CONTROL = 'none', 'reconstruction'
METRIC = 'f1'
TOLD = ('f1', 'auroc')  # metrics of which gains and losses are told
SHOWN = ('f1', 'auroc', 'auprc', 'sensitivity')
SEEDS_FIXED = (
  'No conclusion is drawn: the intervals of this file hold the training seeds '
  'fixed, so that they do not cover retraining.'
)


def conclude(results: Mapping, controlled) -> dict:
  """Conclusions of a study.

  Args:
    results: has `differences` and `differences_per_class`, see
      `compare_arms.evaluate_arms`.
    controlled: arms that have to stand out from the control.

  Returns:
    `pairs`: 'a-b' -> metric -> {'gains', 'losses'} (lists of labels) and
    'text'; `beyond_control`: arm -> {'labels', 'text'}, the classes with more
    F1 than without augmentation and than by reconstruction alone.
  """
  macro, per_class = results['differences'], results['differences_per_class']
  pairs = {
    pair: {metric: verdicts.of_labels(entries, metric) for metric in TOLD}
    | {'text': verdicts.sentence(pair, macro[pair], entries, TOLD)}
    for pair, entries in per_class.items()
    if not pair.startswith('random_probe')
  }
  beyond = {}
  for arm in controlled:
    over = [pairs[f'{arm}-{x}'][METRIC]['gains'] for x in (BASELINE, CONTROL)]
    labels = [label for label in over[0] if label in over[1]]
    beyond[arm] = {
      'labels': labels,
      'text': f'{arm}: F1 above that of {BASELINE} and above that of '
      f'{CONTROL}, each tested directly, in {", ".join(labels) or "no class"}.',
    }
  return {'pairs': pairs, 'beyond_control': beyond}


def claims(results: Mapping) -> list[str]:
  """The sentences of the conclusions; none where seeds were held fixed."""
  if 'num_seeds' not in results['bootstrap']:
    return [SEEDS_FIXED]
  found = results['augmentation']['conclusions']
  one = results['bootstrap']['num_seeds'] == 1
  return [
    *(['One seed: nothing here covers retraining.'] if one else []),
    *(entry['text'] for entry in found['beyond_control'].values()),
    *(entry['text'] for entry in found['pairs'].values()),
  ]


def augmentation_tables(results: Mapping) -> list[tables.Table]:
  """Tables of a study: counts, arms per class, differences, generators."""
  found = results['augmentation']
  built = [_counts_table(found, results['per_class'])]
  for metric in SHOWN:
    built.append(_metric_table(metric, results))
  differences = results['differences_per_class']
  labels = list(next(iter(differences.values())))
  pairs = [pair for pair in differences if not pair.startswith('random_probe')]
  family = next(
    (d[METRIC]['family_size'] for t in differences.values()
     for d in t.values() if METRIC in d), 0
  )  # fmt: skip
  built.append(
    tables.Table(
      ['difference in F1', 'macro', *labels],
      [
        [
          pair,
          tables.difference_cell(results['differences'][pair].get('macro_f1')),
          *(
            tables.difference_cell(differences[pair][label].get(METRIC))
            for label in labels
          ),
        ]
        for pair in pairs
      ],
      'Supported classes. Paired bootstrap over '
      f'{tables.resampled(results["bootstrap"])}, the same draws for all; Holm '
      f'over all arms and classes, a family of {family}; of the macro mean, '
      'over all arms.',
    )
  )
  if found['generated']:
    built += [_generators_table(found), _fidelity_table(found)]
  return built


def _counts_table(found, per_class) -> tables.Table:
  rows = []
  for label, counts in found['positives'].items():
    entry = per_class[label]
    rows.append([
      label if entry['supported'] else f'{label} †',
      str(counts['train']),
      str(counts['validation']),
      f'{entry["num_positive"]} ({entry["num_positive_patients"]})',
    ])  # fmt: skip
  return tables.Table(
    ['class', 'training', 'validation', 'test (patients)'],
    rows,
    f'Positive ECGs; {found["num_train"]} ECGs in training, real ones '
    'throughout in validation and test. †: fewer than 10 positive or negative '
    'test patients, left out of macro means and conclusions.',
  )


def _metric_table(metric, results) -> tables.Table:
  arms, per_class = results['arms'], results['per_class']
  rows = [
    [
      arm,
      tables.cell(parts['metrics'].get(f'macro_{metric}')),
      *(tables.cell(parts['per_class'][c].get(metric)) for c in per_class),
    ]
    for arm, parts in arms.items()
  ]
  names = [c if e['supported'] else f'{c} †' for c, e in per_class.items()]
  where = ', at the threshold with the best F1 on validation'
  caption = _intervals(results)
  return tables.Table(
    [metric, 'macro', *names],
    rows,
    caption + (where if metric in ('f1', 'sensitivity') else '') + '.',
  )


def _intervals(results) -> str:
  """What a cell of an arm is."""
  seeds = results['seeds']
  what = 'One seed' if len(seeds) == 1 else f'Mean of {len(seeds)} seeds'
  over = tables.resampled(results['bootstrap'])
  return f'{what}; 95 % intervals by bootstrap over {over}'


def _generators_table(found) -> tables.Table:
  rows = []
  for arm, summary in found['generated'].items():
    made = ', '.join(
      f'{label} {number}' for label, number in summary['made'].items()
    )
    refused = ', '.join(
      f'{reason} {number}' for reason, number in summary['refused'].items()
    )
    keep = summary['keep_rate']
    rows.append([
      arm, str(summary['num_examples']), made,
      '' if keep is None else tables.number(keep), refused or 'none',
    ])  # fmt: skip
  return tables.Table(
    ['generator', 'ECGs', 'made for', 'kept by the teacher', 'refused'], rows
  )


def _fidelity_table(found) -> tables.Table:
  rows = []
  for arm, entry in found['fidelity'].items():
    rows.append([arm, *_fidelity_cells(entry)])
  first = next(iter(found['fidelity'].values()))['real']
  measures = first['measures']
  rows.append([
    'real training ECGs', tables.number(first['features']['kernel']),
    tables.number(first['features']['precision']),
    tables.number(first['features']['coverage']), '', '', '', '',
    tables.number(first['spectrum_db']),
    *(tables.number(v) for v in measures.values()),
    tables.number(first['einthoven_uv']),
  ])  # fmt: skip
  return tables.Table(
    [
      'generated by', 'kernel distance', 'precision', 'coverage',
      'told apart, balanced accuracy', 'memorisation with parents',
      'without', 'of beats, without', 'spectrum dB',
      *(f'{name} (W1)' for name in measures), 'Einthoven uV',
    ],
    rows,
    'Against real ECGs of the same classes of validation patients, in features '
    'of the frozen classifier trained without augmentation, whose training '
    'ECGs these are: the last row is no ideal. Memorisation: median distance '
    'to the nearest training ECG over that to the nearest one of other '
    'patients; below .9 is suspicious. W1: Wasserstein distance of the '
    'histograms.',
  )  # fmt: skip


def _fidelity_cells(entry) -> list[str]:
  features, test = entry['features'], entry['two_sample']

  def ratio(name, kind):
    kinds = entry.get(name, {})
    chosen = kinds.get(kind) or kinds.get('all')
    return tables.number(chosen['ratio']) if chosen else ''

  return [
    tables.number(features['kernel']),
    tables.number(features['precision']),
    tables.number(features['coverage']),
    f'{tables.number(test["accuracy"])}, {tables.p_text(test["p"])}',
    ratio('memorisation', 'with_parents'),
    ratio('memorisation', 'without_parents'),
    ratio('memorisation_of_beats', 'without_parents'),
    tables.number(entry['spectrum_db']),
    *(tables.number(v) for v in entry['measures'].values()),
    tables.number(entry['einthoven_uv']),
  ]


def brief(results: Mapping, full: bool = True) -> str:
  """Conclusions, budget and the macro table; if `full`, F1 and generators."""
  found, arms = results['augmentation'], results['arms']
  names = [f'macro_{metric}' for metric in SHOWN]
  rows = []
  for arm, parts in arms.items():
    pair = results['differences'].get(f'{arm}-{BASELINE}', {})
    rows.append([
      arm, *(tables.cell(parts['metrics'].get(name)) for name in names),
      tables.difference_cell(pair.get('macro_f1')) if pair else '',
    ])  # fmt: skip
  headline = tables.Table(
    ['arm', *names, f'macro_f1 against {BASELINE}'], rows,
    f'{_intervals(results)}; Holm over the comparisons.',
  )  # fmt: skip
  built = [headline]
  if full:
    built.append(_metric_table(METRIC, results))
  if full and found['generated']:
    built += [_generators_table(found), _fidelity_table(found)]
  return _text(results, built)


def markdown(results: Mapping) -> str:
  """Conclusions, budget and all tables."""
  return _text(results, augmentation_tables(results))


def _text(results: Mapping, built) -> str:
  found = results['augmentation']
  told = '\n'.join(f'* {text}' for text in claims(results))
  parts = [told, results['budget'], *found['notes']]
  return '\n\n'.join([*parts, *(table.markdown() for table in built)])
