"""The training fold of a study of augmentation, and what is made from it."""

import functools
import json
import pathlib
from typing import NamedTuple

import numpy as np

from ecgjax.config import from_json, to_json
from ecgjax.data.batches import extra, run_data, stream
from ecgjax.data.store import records, splits
from ecgjax.ecg import leads
from ecgjax.generation import operators
from ecgjax.generation.generate import generate_for
from ecgjax.metrics import fidelity, reconstruction
from ecgjax.model import BATCH_SIZE, load, outputs, over_split
from ecgjax.report import results
from ecgjax.studies import study
from ecgjax.train import train_on

_LARGEST = 300  # ECGs of a set whose fidelity is measured


class Fold(NamedTuple):
  """Training records of a study.

  Attributes:
    seed: of the choice of records, and of everything made from them.
    data: `run_data.RunData` whose labelled training split is the fold.
    manifest: of its records.
  """

  seed: int
  data: run_data.RunData
  manifest: dict


def changed(*fields: dict) -> dict:
  """Nested dicts merged, the last one wins.

  Arguments of an encoder (`kwargs`) are not merged with those of another.
  """
  merged = {}
  for part in fields:
    for name, value in part.items():
      if isinstance(value, dict) and name != 'kwargs':
        value = changed(merged.get(name, {}), value)
      merged[name] = value
  return merged


def run_config(config, *changes: dict, without=()):
  """Config of a run of the study, with nested changes."""
  run = study.run_config(config, without)
  return from_json(changed(to_json(run), *changes))


def open_fold(config, data, runs: pathlib.Path, seed: int) -> Fold:
  """Chooses the records of a fold; its manifest is kept.

  Args:
    config: of the study.
    data: with the whole labelled training split.
    runs: the manifest is kept in `fold-seed<seed>.json`.
    seed: of the choice.
  """
  train = data.labelled['train']
  ids = train.record_ids
  if config.study.positives:
    table = records.read_table(data.builder, 'train')
    manifest = splits.rare_subset(
      ids,
      table['patient_id'][train.position],
      train.columns['label'] * train.columns['label_mask'],
      train.class_names,
      seed=seed,
      positives=config.study.positives,
    )
    train = train.take(np.isin(ids, manifest['record_ids']))
  else:
    manifest = splits.manifest(ids, seed=seed)
  splits.write_manifest(manifest, runs / f'fold-seed{seed}.json')
  data = data._replace(
    labelled=data.labelled | {'train': train},
    manifest_hash=splits.manifest(train.record_ids)['sha256'],
  )
  return Fold(seed, data, manifest)


def open_for(run, fold: Fold) -> run_data.RunData:
  """The fold as another run sees it: its leads, labels and all its records."""
  ids = fold.manifest['record_ids']
  data = run_data.open_data(run.data, ids)
  train = data.splits['train']
  train = train.take(np.isin(train.record_ids, ids))
  return data._replace(splits=data.splits | {'train': train})


def train_codec(config, fold: Fold, runs: pathlib.Path) -> pathlib.Path:
  """Trains the codec of a fold and reports on validation; its work folder."""
  folder = runs / f'codec-seed{fold.seed}'
  if (folder / 'reconstruction.json').is_file():
    return folder
  fields = to_json(config.pretrain.codec)
  run = run_config(config, fields, {'seed': fold.seed}, without=('supervised',))
  data = open_for(run, fold)
  trained = train_on(run, folder, data, folder.name)
  coded = reconstruction.reconstruct(
    functools.partial(outputs, trained.model),
    trained.model.contract,
    stream.eval_batches(data.labelled['validation'], BATCH_SIZE),
  )
  found = reconstruction.summarise(
    coded, trained.model.contract.rate, trained.model.method.codec.num_codes
  )
  results.write_text(
    folder / 'reconstruction.json', json.dumps(found, indent=1) + '\n'
  )
  return folder


def train_prior(config, fold: Fold, runs: pathlib.Path) -> pathlib.Path:
  """Trains the prior of a fold; its work folder."""
  folder = runs / f'prior-seed{fold.seed}'
  fields = to_json(config.pretrain.prior)
  codec = {'prior': {'codec': str(train_codec(config, fold, runs))}}
  run = run_config(
    config, fields, codec, {'seed': fold.seed}, without=('supervised',)
  )
  train_on(run, folder, open_for(run, fold), folder.name)
  return folder


def generate(
  config, fold: Fold, runs: pathlib.Path, arm: str, operator: str
) -> pathlib.Path:
  """Generates the ECGs of an arm; the folder for `config.data.extra`.

  The teacher is the classifier with class weights: without them, no ECG of a
  rare class would reach a probability of one half. The simulator has none, as
  it knows what it draws.
  """
  folder = runs / f'generated-{arm}-seed{fold.seed}'
  if (folder / extra.SUMMARY).is_file():
    return folder
  options = {'operator': operator}
  if operator in operators.WITH_CODEC:
    options['codec'] = str(train_codec(config, fold, runs))
  if operator in operators.WITH_PRIOR:
    options['prior'] = str(train_prior(config, fold, runs))
  if operator != 'simulator':
    teacher = runs / f'class_weights-seed{fold.seed}' / 'run'
    options['teacher'] = str(teacher)
  run = run_config(
    config,
    to_json(config.pretrain.augment),
    {'augment': options, 'seed': fold.seed},
    without=('supervised',),
  )
  data = open_for(run, fold)
  return generate_for(run, data, folder)


def fidelity_of(fold: Fold, encoder: pathlib.Path, run) -> dict:
  """Generated ECGs of a run beside real ones of the same classes.

  Args:
    fold: the training fold.
    encoder: work folder of the classifier whose features are compared.
    run: config of a classifier with one folder in `data.batches.extra`.

  Returns:
    See `fidelity.summarise`.
  """
  model = load(encoder)
  data = fold.data
  table = records.read_table(data.builder, 'train')
  train, train_rows = _real(model, data.labelled['train'])
  held_out, _ = _real(model, data.labelled['validation'])
  (split,) = extra.open_extra(run.data, data)
  made = extra.read_table(run.data.extra[0])
  rows = _some(len(split))
  row_of = {
    record: place
    for place, record in enumerate(
      data.labelled['train'].record_ids[train_rows].tolist()
    )
  }
  parents = np.array([
    [row_of.get(str(made[name][row]), -1) for name in ('parent_a', 'parent_b')]
    for row in rows
  ])  # fmt: skip
  patient_of = dict(zip(table['record_id'].tolist(), table['patient_id']))
  patients = np.array([
    patient_of.get(str(made['parent_a'][row]), f'none {row}') for row in rows
  ])  # fmt: skip
  fake = fidelity.Ecgs(
    _features(model, split)[rows], _millivolts(split, rows), patients
  )
  return fidelity.summarise(fake, train, held_out, model.contract.rate, parents)


def _real(model, split) -> tuple[fidelity.Ecgs, np.ndarray]:
  """Records with any of the classes, and their rows."""
  label = split.columns['label'] * split.columns['label_mask']
  rows = np.flatnonzero((label > 0).any(axis=1))
  rows = rows[_some(len(rows))]
  return fidelity.Ecgs(
    _features(model, split)[rows],
    _millivolts(split, rows),
    split.columns['patient'][rows],
  ), rows


def _some(count: int) -> np.ndarray:
  """At most `_LARGEST` rows, drawn and in order."""
  rng = np.random.Generator(np.random.Philox(0))
  return np.sort(rng.permutation(count)[:_LARGEST])


def _features(model, split) -> np.ndarray:
  return over_split(model, split, 'fidelity').features


def _millivolts(split, rows) -> np.ndarray:
  """[n, L, 12] of a split opened with all twelve leads."""
  if split.leads != leads.indices(leads.LEADS):
    raise ValueError(
      'config.data.leads: a study of augmentation needs all twelve leads, in '
      'their order'
    )
  ecg = split.read(0, len(split))[rows]
  baseline, gain = (split.columns[k][rows] for k in ('baseline', 'gain'))
  return (ecg - baseline[:, None]) / gain[:, None]


def describe(fold: Fold, runs: pathlib.Path, arms) -> dict:
  """Counts, generators and codec, for results and tables."""
  counts = {
    name: (split.columns['label'] * split.columns['label_mask']).sum(axis=0)
    for name, split in fold.data.labelled.items()
  }
  generated = {}
  for arm in arms:
    folder = runs / f'generated-{arm}-seed{fold.seed}'
    if (folder / extra.SUMMARY).is_file():
      summary = extra.read_summary(folder)
      generated[arm] = {
        'num_examples': summary['num_examples'],
        'made': {k: v['made'] for k, v in summary['classes'].items()},
        'refused': summary['rejected'],
        'keep_rate': summary['keep_rate'],
      }
  report = runs / f'codec-seed{fold.seed}' / 'reconstruction.json'
  return {
    'num_train': len(fold.data.labelled['train']),
    'positives': {
      name: {split: int(counts[split][k]) for split in counts}
      for k, name in enumerate(fold.data.labelled['train'].class_names)
    },
    'generated': generated,
    'codec': json.loads(report.read_text()) if report.is_file() else {},
  }
