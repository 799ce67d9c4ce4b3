"""Generated ECGs beside the training records of a supervised run.

`config.data.extra` names work folders of `--mode=generate`. Their ECGs are
joined to the training split and to nothing else, and only where they were made
of records that the run itself trains on.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from ecgjax.data.batches.split import Split, arguments, open_split
from ecgjax.data.store import records

SUMMARY = 'generated.json'


def read_summary(folder) -> dict:
  """`generated.json` of a finished generate run.

  Raises:
    ValueError: if there is none.
  """
  path = pathlib.Path(folder) / SUMMARY
  if not path.is_file():
    raise ValueError(
      f'config.data.extra: {folder} holds no generated ECGs (no {SUMMARY}); '
      'give the work folder of a finished run of --mode=generate'
    )
  return json.loads(path.read_text())


def describe(folders: Sequence) -> list[dict]:
  """What generated ECGs a run trained on, for its results."""
  fields = ('operator', 'source', 'seed', 'num_examples', 'classes', 'hashes')
  summaries = [read_summary(folder) for folder in folders]
  return [{name: summary[name] for name in fields} for summary in summaries]


def open_extra(options, data) -> list[Split]:
  """Opens the generated ECGs that a supervised run names.

  Args:
    options: `config.data` of the run; `extra` names the folders.
    data: `run_data.RunData` of the run.

  Raises:
    ValueError: if generated ECGs do not fit the run, or were made of records
      that it does not train on; names the folder and the remedy.
  """
  return [_open(folder, options, data) for folder in options.extra]


def read_table(folder) -> dict[str, np.ndarray]:
  """Record table of generated ECGs: `parent_a`, `parent_b`, ... beside labels.

  Raises:
    ValueError: if there are none.
  """
  return records.read_table(_builder(folder), 'train')


def _builder(folder):
  return records.open_folder(
    pathlib.Path(folder) / read_summary(folder)['dataset']
  )


def _open(folder, options, data) -> Split:
  where = f'config.data.extra: {folder}'
  builder = _builder(folder)
  metadata = builder.info.metadata
  if metadata['split_sha256'] != data.split_hash:
    raise ValueError(
      f'{where} was generated from another data set or other splits (split '
      f'{metadata["split_sha256"][:12]}, here {data.split_hash[:12]}); '
      'generate from the data set of this run'
    )
  for field, stored in (
    ('rate', metadata['rate']),
    ('length', builder.info.features[records.SIGNAL].shape[0]),
  ):
    wanted = options[field]
    if stored < wanted or (field == 'rate' and stored != wanted):
      raise ValueError(
        f'{where} has {field} {stored:g}, config.data.{field} is {wanted:g}; '
        'generate with a codec of that one'
      )
  split = open_split(builder, 'train', **arguments(options))
  train = data.labelled['train']
  if split.class_names != train.class_names:
    raise ValueError(
      f'{where} has the classes {", ".join(split.class_names)}, this run '
      f'{", ".join(train.class_names)}'
    )
  table = records.read_table(builder, 'train')
  parents = np.concatenate([table['parent_a'], table['parent_b']])
  foreign = np.setdiff1d(parents[parents != ''], train.record_ids)
  if len(foreign):
    raise ValueError(
      f'{where} was made of {len(foreign)} records that this run does not '
      f'train on, the first is {str(foreign[0])!r}; generate from the labelled '
      'training records of this run'
    )
  return split


def join(split: Split, extra: Sequence[Split]) -> Split:
  """The training split followed by generated ECGs.

  Numbers of records and patients go on where those of the split end.
  """
  for part in extra:
    before, last = sum(split.shards[1]), split.window[-1] + 1
    columns = dict(part.columns)
    for name in ('record', 'patient'):
      columns[name] = columns[name] + split.columns[name].max() + 1
    both = lambda a, b: np.concatenate([a, b])
    split = dataclasses.replace(
      split,
      shards=tuple(a + b for a, b in zip(split.shards, part.shards)),
      columns={k: both(v, columns[k]) for k, v in split.columns.items()},
      times=both(split.times, part.times),
      record_ids=both(split.record_ids, part.record_ids),
      content_hashes=both(split.content_hashes, part.content_hashes),
      position=both(split.position, part.position + before),
      window=both(split.window, part.window + last),
      kept=split.kept and part.kept,
    )
  return split
