"""What a study of augmentation may claim, and its tables.

A gain of an arm for a class counts only if the paired interval of F1 against
no augmentation excludes zero, Holm's p over the whole table is below .05, and
the control that only reconstructs ECGs does not show the same
(specification: vqvae.md, section 12). Nothing is claimed otherwise.
"""

from collections.abc import Mapping

from ecgjax.evaluation import tables

BASELINE, CONTROL = 'none', 'reconstruction'
METRIC = 'f1'
LEVEL = 0.05
SHOWN = ('f1', 'auroc', 'auprc', 'sensitivity')


def shown(entry: Mapping | None) -> int:
  """1 for a gain, -1 for a loss, 0 for neither, of one difference."""
  if entry is None or entry['p_holm'] >= LEVEL:
    return 0
  low, high = entry['ci95']
  return (low > 0) - (high < 0)


def conclude(differences: Mapping, controlled: Mapping[str, bool]) -> dict:
  """Gains and losses per arm.

  Args:
    differences: 'arm-none' -> label -> metric -> value, ci95, p_holm; see
      `arms.evaluate_arms`.
    controlled: arm -> whether it has to stand out from the control.

  Returns:
    arm -> {'gains', 'losses', 'as_control' (gains that the control shows too)}
    lists of labels, 'num_labels', and 'text', one sentence.
  """
  control = differences.get(f'{CONTROL}-{BASELINE}', {})
  found = {}
  for arm, must_stand_out in controlled.items():
    table = differences.get(f'{arm}-{BASELINE}', {})
    lists = {'gains': [], 'losses': [], 'as_control': []}
    for label, metrics in table.items():
      sign = shown(metrics.get(METRIC))
      if sign < 0:
        lists['losses'].append(label)
      elif sign > 0:
        same = shown(control.get(label, {}).get(METRIC)) > 0
        name = 'as_control' if must_stand_out and same else 'gains'
        lists[name].append(label)
    found[arm] = lists | {
      'num_labels': len(table),
      'text': _sentence(arm, lists, table),
    }
  return found


def _sentence(arm: str, lists: Mapping, table: Mapping) -> str:
  parts = []
  for name, words in (
    ('gains', 'gain'),
    ('as_control', 'gain that reconstruction alone shows too, not counted,'),
    ('losses', 'loss'),
  ):
    if lists[name]:
      cells = []
      for label in lists[name]:
        entry = table[label][METRIC]
        low, high = entry['ci95']
        cells.append(f'{label} {entry["value"]:+.3f} [{low:+.3f}, {high:+.3f}]')
      parts.append(f'{words} in F1 for {", ".join(cells)}')
  rest = len(table) - sum(map(len, lists.values()))
  if not parts:
    return f'{arm}: no effect shown in any of {rest} classes.'
  if rest:
    parts.append(f'no effect shown in the other {rest} classes')
  return f'{arm}: {"; ".join(parts)}.'


def beside_rival(differences: Mapping, arms, rival: str) -> str:
  """Arms that use a codec, beside the best arm on validation that does not.

  Args:
    differences: 'arm-rival' -> macro metric -> value, ci95, p_holm.
    arms: those that use a codec.
    rival: the other arm.
  """
  cells = [
    f'{arm} minus {rival} {tables.difference_cell(entry)}'
    for arm in arms
    if (entry := differences[f'{arm}-{rival}'].get('macro_f1'))
  ]
  return (
    f'Best arm without a codec on validation: {rival}. Macro F1, paired: '
    + '; '.join(cells)
    + '.'
  )


def augmentation_tables(results: Mapping) -> list[tables.Table]:
  """Tables of a study: counts, arms per class, differences, generators."""
  found, arms = results['augmentation'], results['arms']
  built = [_counts_table(found, results['per_class'])]
  for metric in SHOWN:
    built.append(_metric_table(metric, arms, results['per_class']))
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
      'Supported classes. Paired patient bootstrap, the same draws for all; '
      f'Holm over all arms and classes, a family of {family}; of the macro '
      'mean, over all arms.',
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


def _metric_table(metric, arms, per_class) -> tables.Table:
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
  caption = 'Mean over seeds with 95 % interval by patient bootstrap'
  return tables.Table(
    [metric, 'macro', *names],
    rows,
    caption + (where if metric in ('f1', 'sensitivity') else '') + '.',
  )


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
    f'{tables.number(test["accuracy"])}, p {test["p"]:.3f}',
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
    'Mean over seeds, 95 % intervals by patient bootstrap; Holm over the arms.',
  )  # fmt: skip
  built = [headline]
  if full:
    built.append(_metric_table(METRIC, arms, results['per_class']))
  if full and found['generated']:
    built += [_generators_table(found), _fidelity_table(found)]
  return _text(results, built)


def markdown(results: Mapping) -> str:
  """Conclusions, budget and all tables."""
  return _text(results, augmentation_tables(results))


def _text(results: Mapping, built) -> str:
  found = results['augmentation']
  claims = [f'* {entry["text"]}' for entry in found['conclusions'].values()]
  parts = ['\n'.join(claims), results['budget'], *found['notes']]
  return '\n\n'.join([*parts, *(table.markdown() for table in built)])
