"""Which corpus, which chain: what frozen features tell of a recording's origin.

A recorder, a filter or a source of a corpus leaves traces in a signal, and
labels go with hospitals: features that tell the origin offer a shortcut. The
same probe as for labels is fitted to the origin, beside one on the untrained
encoder; 0.5 AUROC would be features that know nothing of it.
"""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ecgjax.data.store import records
from ecgjax.metrics import bootstrap, compare_arms
from ecgjax.metrics.probe import standardised_lr
from ecgjax.report import page, tables
from ecgjax.report.finding import Finding

SOURCE = 'source'  # the choice that needs no table
_LEAST = {'train': 10, 'validation': 2, 'test': 2}  # records of a chain
_METRICS = ('macro_auroc', 'macro_auroc_all')
OPTIONS = {'chains': ''}  # '': `SOURCE`; or FILE:COLUMN


def check_data(options, data) -> None:
  """Raises a ValueError where there are not two chains to tell apart."""
  find_chains(options['chains'] or SOURCE, data)


def evaluate(run) -> Finding:
  """Probes of the frozen features, before and after training, for the chain."""
  choice = run.options['chains'] or SOURCE
  part = evaluate_chains(
    {
      compare_arms.BASELINE: run.features('untrained'),
      'probe': run.features('model'),
    },
    find_chains(choice, run.data),
    run.data.labelled['test'].columns['patient'],
    standardised_lr,
    run.draws,
  )
  return Finding(fields={'chains': part}, sections=[section(part, choice)])


def read_chains(choice: str) -> dict[str, str]:
  """Record -> chain of a table `FILE:COLUMN`, e.g. `records.csv:means`.

  Args:
    choice: the first column of the file names the records; empty values mean
      that the chain is not known.

  Raises:
    ValueError: if there is no such file or column.
  """
  path, _, column = choice.rpartition(':')
  try:
    with open(path, newline='', encoding='utf-8-sig') as file:
      reader = csv.DictReader(file)
      if not path or column not in (reader.fieldnames or ()):
        raise ValueError(
          f'config.evaluation.chains: {path} has no column {column!r}'
        )
      first = reader.fieldnames[0]
      # Devices of PTB-XL are padded with blanks.
      return {row[first]: ' '.join(row[column].split()) for row in reader}
  except OSError as error:
    raise ValueError(
      f'config.evaluation.chains is {choice!r}; it is {SOURCE} or FILE:COLUMN '
      f'({error.strerror})'
    ) from None


def find_chains(choice: str, data) -> dict[str, list[str]]:
  """Split -> chain of its labelled records, '' unknown.

  Args:
    choice: `SOURCE`, or see `read_chains`.
    data: `data.batches.run_data.RunData`.

  Raises:
    ValueError: if there are not two chains to tell apart.
  """
  known = {} if choice == SOURCE else read_chains(choice)
  found = {}
  for name, split in data.labelled.items():
    if choice == SOURCE:
      table = records.read_table(data.builder, name)
      known = dict(zip(table['record_id'], table['source']))
    found[name] = [str(known.get(record, '')) for record in split.record_ids]
  choose_chains(found)
  return found


def choose_chains(chains: Mapping[str, Sequence[str]]) -> list[str]:
  """Chains that every split has enough records of, most frequent first.

  Args:
    chains: split -> chain of every record, '' unknown.

  Raises:
    ValueError: if fewer than two remain.
  """
  counts = {split: Counter(found) for split, found in chains.items()}
  kept = [
    name
    for name, _ in counts['train'].most_common()
    if name and all(counts[split][name] >= n for split, n in _LEAST.items())
  ]
  if len(kept) < 2:
    raise ValueError(
      'config.evaluation.chains: fewer than two chains have '
      f'{_LEAST["train"]} records in train and {_LEAST["test"]} in validation '
      f'and test: {dict(counts["train"])}'
    )
  return kept


def evaluate_chains(
  features: Mapping[str, Mapping[str, np.ndarray]],
  chains: Mapping[str, Sequence[str]],
  patients: Sequence,
  fit: Callable,
  draws: int = bootstrap.DRAWS,
) -> dict:
  """Probes of frozen features for the chain.

  Args:
    features: arm -> split -> [N, D]; `compare_arms.BASELINE` and 'probe'.
    chains: split -> [N] chain of every record, '' unknown.
    patients: [N] of the test split.
    fit: (train features, labels, validation features, labels) -> probe.
    draws: number of bootstrap draws over patients.

  Returns:
    A dict for the results: `chains` (name -> records of train and test),
    `unknown` (test records without a chain), `arms` and `differences` as in
    the results.

  Raises:
    ValueError: if fewer than two chains have enough records.
  """
  names = choose_chains(chains)
  chains = {split: np.asarray(found) for split, found in chains.items()}
  keep = {split: np.isin(found, names) for split, found in chains.items()}
  labels = {
    split: (found[keep[split], None] == np.array(names)).astype(np.uint8)
    for split, found in chains.items()
  }
  patients = np.asarray(patients)[keep['test']]
  scores = {}
  for arm, by_split in features.items():
    part = {split: rows[keep[split]] for split, rows in by_split.items()}
    probe = fit(
      part['train'], labels['train'], part['validation'], labels['validation']
    )
    scores[arm] = probe.predict(part['test'])
  found = compare_arms.evaluate_arms(
    scores, labels['test'], patients, names, method='probe', draws=draws
  )
  return {
    'chains': {
      name: {split: int(labels[split][:, k].sum()) for split in labels}
      for k, name in enumerate(names)
    },
    'unknown': int((~keep['test']).sum()),
    'arms': found['arms'],
    'differences': found['differences'],
  }


def section(part: Mapping, choice: str) -> page.Section:
  """Tables of the report.

  Args:
    part: what `evaluate_chains` returned.
    choice: `config.evaluation.chains`.
  """
  rows = []
  for name, arm in part['arms'].items():
    rows.append([name, *(tables.cell(arm['metrics'].get(m)) for m in _METRICS)])
  for name, row in part['differences'].items():
    cells = [tables.difference_cell(row.get(m)) for m in _METRICS]
    rows.append([name, *cells])
  counts = [
    [name, *(str(n) for n in found.values())]
    for name, found in part['chains'].items()
  ]
  splits = list(next(iter(part['chains'].values())))
  return page.Section(
    'Which corpus, which chain',
    [
      f'How well frozen features tell {choice}; a shortcut that labels may '
      'go with.',
      tables.Table(
        ['', 'macro AUROC', 'over all chains'],
        rows,
        f'95 % intervals by patient. {part["unknown"]} test records without a '
        'chain, or of a rare one, are left out.',
      ),
      tables.Table(['chain', *splits], counts),
    ],
  )
