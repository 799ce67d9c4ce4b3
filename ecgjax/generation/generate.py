"""`--mode=generate`: ECGs for the rare classes of a training fold.

Reads a data set, a codec, a prior or nothing (`config.augment`), makes ECGs by
one operator (`operators`), drops what the plausibility filter or a rule
refuses, and writes a TFRecord data set that `config.data.extra` reads. Codec,
prior and teacher must have been trained on the same training fold; parents are
labelled training records and never anything else.

Every draw follows from (config.seed, class, number of the batch), so that the
same command writes the same bytes. `generated.json` is written last; a run
without it starts again.
"""

import collections
import json
import logging
import pathlib
import time

import jax
import numpy as np
import tqdm

from ecgjax.config import check, identity
from ecgjax.config.option import Choice, Number
from ecgjax.data.batches import extra, run_data
from ecgjax.data.store import labels, splits
from ecgjax.data.store.records import read_table
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.generation import inputs, latent_mix, operators, parents
from ecgjax.generation.summary import (
  describe,
  keep_rate,
  measure,
  write_gallery,
)
from ecgjax.report import results
from ecgjax.training import workdir as workdir_lib

logger = logging.getLogger(__name__)
_MAX_TRIES = 20  # proposals per ECG that is wanted
OPTIONS = {
  'operator': Choice(*operators.OPERATORS),
  'codec': '',  # work folder of a run of configs/vqvae.py
  'prior': '',  # of configs/prior.py
  'teacher': '',  # of configs/supervised.py; keeps ECGs with p > .5
  'manifest': '',  # file with the labelled training records; '': all
  'classes': (),  # (): every class that the operator can make
  # Generated : real positives, at most 5.
  'ratio': Number(1.0, 'float [0, inf)'),
  # Positives up to which a class is filled; 0: no limit.
  'target': Number(0, 'int [0, inf)'),
  'match': Choice('stored', 'task'),  # parents share all of these statements
  'align': True,  # False only to show the ghost beats
  'law': Choice('', *latent_mix.LAWS),  # of lambda; '': the operator's own
  'neighbours': Number(5, 'int [1, inf)'),  # of F and input_smote
  # Share of code indices that are no parent's.
  'least_changed': Number(0.05, 'float [0, 1]'),
  # Share of a parent's codes that resample keeps.
  'keep': Number(0.6, 'float [0, 1]'),
  # Of the prior, and the next two.
  'temperature': Number(1.0, 'float (0, inf)'),
  'top_k': Number(0, 'int [0, inf)'),
  'guidance': Number(1.0, 'float [0, inf)'),
  'gallery': Number(6, 'int [0, inf)'),  # children on the page
}


def generate(config, workdir) -> dict | None:
  """Opens the data and generates, see `generate_for`.

  Returns:
    The summary, as in `generated.json`; None on all processes but the first.
  """
  if jax.process_index():
    return None
  if 'augment' not in config:
    raise ValueError('--mode=generate needs --config=configs/augment.py')
  check.check(config, 'generate')
  records = None
  if config.augment.manifest:
    manifest = splits.read_manifest(config.augment.manifest)
    records = manifest['record_ids']
  folder = generate_for(
    config, run_data.open_data(config.data, records), workdir
  )
  return extra.read_summary(folder)


def generate_for(config, data, out_dir) -> pathlib.Path:
  """Generates ECGs from the labelled training records of an opened data set.

  Args:
    config: from `configs/augment.py`.
    data: `data.batches.run_data.RunData`; its labelled training records are
      the parents.
    out_dir: work folder; `generated_ecgs/`, `gallery.html` and `generated.json`
      are written there. A finished one is left as it is.

  Returns:
    `out_dir`, for `config.data.extra`.

  Raises:
    ValueError: if config, data and checkpoints do not fit, or nothing can be
      made.
  """
  started = time.monotonic()
  folder = pathlib.Path(out_dir)
  workdir_lib.check(config, folder)
  options, contract = config.augment, InputContract.from_data(config.data)
  check_options(options)
  models = inputs.restore_models(options, contract, data)
  if (folder / extra.SUMMARY).is_file():
    _check_finished(folder, data, models)
    logger.info('%s is finished; see %s', folder, folder / extra.SUMMARY)
    return folder
  context, task, excluded = inputs.make_context(
    options, contract, config.data.task, data, models
  )
  parents.check_parents(
    context.pool.ids,
    {
      split: read_table(data.builder, split) for split in ('validation', 'test')
    },
    read_table(data.builder, 'train'),
  )
  propose = operators.make_maker(options.operator, context)
  teacher = inputs.make_teacher(models['teacher'])
  made, classes, rejected = fill_classes(
    context, data.labelled['train'], task, propose, teacher, config.seed
  )
  if not made:
    raise ValueError(
      'generate: nothing was made; '
      + json.dumps({'classes': classes, 'excluded': excluded})
    )
  hashes = {'split': data.split_hash, 'manifest': data.manifest_hash}
  hashes |= {name: model.digest for name, model in models.items() if model}
  facts = {
    'operator': options.operator,
    'source': data.builder.info.full_name,
    'seed': config.seed,
    'rate': context.rate,
    'hashes': hashes,
    'classes': classes,
    'rejected': rejected,
    'excluded': excluded,
    'keep_rate': (keep_rate(rejected, len(made)) if teacher else None),
    'measures': measure(context, made),
  }
  workdir_lib.create(config, folder)
  dataset = write_dataset(folder, context, made, facts)
  rows = gallery_rows(context, made, options.gallery, data)
  write_gallery(folder / 'gallery.html', facts, rows)
  summary = facts | {
    'synthetic': True,
    'generated': True,
    'dataset': dataset.relative_to(folder.resolve()).as_posix(),
    'num_examples': len(made),
    'config': without_places(identity(config)),
    'seconds': time.monotonic() - started,
  }
  results.write_text(
    folder / extra.SUMMARY, json.dumps(summary, indent=1) + '\n'
  )
  logger.info('%s', describe(summary))
  return folder


def without_places(fields: dict) -> dict:
  """A config as JSON with names for paths; digests say what lay there."""
  name = lambda path: pathlib.PurePath(path).name
  places = {
    field: name(fields['augment'][field])
    for field in (*inputs.METHODS, 'manifest')
  }
  return fields | {'augment': fields['augment'] | places}


def check_options(options) -> None:
  """Refuses fields of `config.augment` that contradict each other."""
  operator = options.operator
  for field, needed in (
    ('codec', operator in operators.WITH_CODEC),
    ('prior', operator in operators.WITH_PRIOR),
    ('teacher', operator == 'G' or options.law == 'beyond'),
  ):
    if needed and not options[field]:
      raise ValueError(
        f'config.augment.{field} is empty; operator {operator} needs the work '
        f'folder of a {inputs.METHODS[field]} run'
        + (', as lambda leaves [0, 1]' if field == 'teacher' else '')
      )
  parents.number_wanted(1, options.ratio, options.target)


def fill_classes(context, labelled, task, propose, teacher, seed: int):
  """Makes ECGs class by class, the rarest first.

  An ECG counts for every class that it has.

  Returns:
    [`operators.Made`], class -> {'real', 'wanted', 'made'}, reason -> number of
    proposals that were refused.
  """
  options = context.options
  label = labelled.columns['label'] * labelled.columns['label_mask']
  real = dict(zip(task.classes, (label > 0).sum(axis=0).tolist()))
  pool_label, mask = labels.apply(
    task, context.pool.labels, context.pool.label_mask
  )
  positive = (pool_label * mask) > 0  # [N, K]
  made, classes, rejected = [], {}, collections.Counter()
  counts = np.zeros(len(task.classes), int)
  chosen = [n for n in task.classes if n in (options.classes or task.classes)]
  for name in sorted(chosen, key=lambda name: real[name]):
    column = task.classes.index(name)
    wanted = parents.number_wanted(real[name], options.ratio, options.target)
    classes[name] = {'real': real[name], 'wanted': wanted}
    missing = wanted - counts[column]
    rows = np.flatnonzero(positive[:, column] & context.usable)
    refusal = refuse_class(name, context, positive[:, column], rows)
    if refusal and name in options.classes and missing > 0:
      raise ValueError(f'config.augment.classes: {refusal}')
    if refusal:
      logger.info('%s', refusal)
      classes[name]['refused'] = refusal
    elif missing > 0:
      rng = np.random.Generator(np.random.Philox([seed, column]))
      new = _fill(rng, name, missing, rows, propose, teacher, rejected)
      for x in new:
        found, known = labels.apply(task, x.labels, x.label_mask)
        counts += (found * known > 0).astype(int)
      made += new
      if len(new) < missing:
        logger.warning(
          'class %s: %d of %d ECGs could be made', name, len(new), missing
        )
  for name, row in classes.items():
    row['made'] = int(counts[task.classes.index(name)])
  return made, classes, dict(rejected)


def refuse_class(name: str, context, positive, rows) -> str:
  """Why an operator cannot make a class; '' where it can."""
  operator = context.options.operator
  if operator == 'simulator' and (
    name not in operators.SIMULATED or name not in context.names
  ):
    known = [x for x in context.names if x in operators.SIMULATED]
    return (
      f'the simulator has no class for {name!r}; it has some for '
      + ', '.join(known)
    )
  if len(rows):
    return ''
  rhythm = parents.has_rhythm(context.pool.labels[positive], context.names)
  if operator in operators.INTERPOLATING and len(rhythm) and rhythm.all():
    return (
      f'{name} is a class of rhythm and is not interpolated; use the operator '
      'prior, resample or simulator'
    )
  return f'{name} has no labelled training record that may be a parent'


def _fill(
  rng, name, missing, rows, propose, teacher, rejected
) -> list[operators.Made]:
  """Proposes until a class has what it misses, or tries have run out."""
  kept, tries = [], 0
  batches = parents.cycle(rng, rows, operators.BATCH)
  with tqdm.tqdm(
    total=missing, desc=f'generate {name}', unit='ECG', disable=None
  ) as bar:
    while (
      len(kept) < missing and tries < _MAX_TRIES * missing + operators.BATCH
    ):
      found = propose(rng, next(batches), name)
      reason = found.reason.copy()
      if teacher is not None:
        low = teacher(found.ecg, name) <= parents.PROBABLE
        reason[low & (reason == '')] = 'implausible'
      for i in range(operators.BATCH):
        if len(kept) == missing:
          break
        tries += 1
        if reason[i]:
          rejected[reason[i]] += 1
          continue
        kept.append(
          operators.Made(
            found.ecg[i],
            int(found.first[i]),
            int(found.second[i]),
            float(found.weight[i]),
            float(found.changed[i]),
            found.labels[i],
            found.label_mask[i],
            name,
          )  # fmt: skip
        )
        bar.update()
  return kept


def write_dataset(folder, context, made, facts) -> pathlib.Path:
  """Writes the ECGs; returns the TFDS folder."""
  from ecgjax.data.store import generated

  name = lambda row: str(context.pool.ids[row]) if row >= 0 else ''
  operator, seed = facts['operator'], facts['seed']
  children = [
    generated.Child(
      record_id=f'generated-{operator}-{seed}-{number:06d}',
      ecg=x.ecg,
      labels=x.labels,
      label_mask=x.label_mask,
      parents=(name(x.first), name(x.second)),
      weight=x.weight,
      changed=x.changed,
      made_for=x.made_for,
    )
    for number, x in enumerate(made)
  ]
  return generated.write(
    folder.resolve(),
    children,
    context.rate,
    context.names,
    facts | {'split_sha256': facts['hashes']['split']},
  )


def gallery_rows(context, made, count: int, data) -> list[dict]:
  """At most `count` children and their parents, spread over what was made."""
  count = min(count, len(made))
  rows = []
  for place in np.linspace(0, len(made) - 1, count).astype(int):
    x = made[place]
    names = [n for n, on in zip(context.names, x.labels) if on]
    older = [
      {
        'name': f'{data.builder.info.name} {context.pool.ids[row]}',
        'ecg': leads.from_independent(np, context.ecg[row]),
      }
      for row in (x.first, x.second)
      if row >= 0
    ]
    rows.append({
      'ecg': x.ecg,
      'rate': context.rate,
      'labels': names,
      'made_for': x.made_for,
      'weight': x.weight,
      'parents': older,
      'parents_synthetic': data.synthetic,
    })  # fmt: skip
  return rows


def _check_finished(folder, data, models) -> None:
  """Refuses a finished folder that was made of something else."""
  hashes = extra.read_summary(folder)['hashes']
  now = {'split': data.split_hash, 'manifest': data.manifest_hash}
  now |= {name: model.digest for name, model in models.items() if model}
  for name in sorted(hashes.keys() | now.keys()):
    if hashes.get(name) != now.get(name):
      raise ValueError(
        f'{folder} was generated with another {name}; choose another --workdir'
      )
