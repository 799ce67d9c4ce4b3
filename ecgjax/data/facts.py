"""What the recordings of a folder really hold, whatever their headers say.

  python -m ecgjax.data.facts --dataset=wfdb_folder --raw_dir=FOLDER
  python -m ecgjax.data.facts --dataset=ptbxl,ludb --raw_dir=PTBXL,LUDB \\
    --out=facts.json

Reads every recording once and prints, per source: amplitude step and
interpolation, held ends, limb-lead relations, mains, bandwidth, offsets, leads
without signal, stretches that occur twice (in any of the folders, at any
shift), statements, and measured heart rates against rhythm statements. With
`--out` the same as JSON, of which the tables in docs/data.md are made, and with
`--records` the numbers of every recording as CSV. Nothing is written to the
folders. Data sets: ptbxl, cinc2021, ludb, cpsc2018, code15
(the publisher's or the example files) and wfdb_folder.

Memory grows by some kilobytes per recording. Exit codes: 0; 2 for bad
input, in one line.
"""

import argparse
import collections
import csv
import functools
import importlib.metadata
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import tqdm

from ecgjax.data import fact_records
from ecgjax.data.raw import (
  ludb_waves,
  record_facts,
  repeats,
  two_versions,
)
from ecgjax.data.store import convert, corpus_facts, statement_facts
from ecgjax.ecg import leads
from ecgjax.ecg.recording import BadRecord
from ecgjax.report import facts_tables

_CHUNK = 32  # recordings of one task of a worker
_LOW, _HIGH = 'records100', 'records500'


class _Task(NamedTuple):
  """One recording for a worker."""

  dataset: str
  raw_dir: str
  item: fact_records.Item

  @property
  def name(self) -> str:
    return f'{self.dataset} {self.item.name}'

  def read(self):
    return self.item.read(self.item.path, self.raw_dir)


def _examine(tasks: Sequence[_Task]) -> list[dict]:
  """Facts of recordings; of unreadable ones the reason."""
  return [_facts(task) for task in tasks]


def _facts(task: _Task) -> dict:
  found = {'name': task.item.name, 'source': task.item.source}
  try:
    recording = task.read()
  except BadRecord as error:
    return found | {'unreadable': error.reason}
  facts = record_facts.measure(
    recording.samples, recording.gain, recording.baseline, recording.rate
  )
  found |= facts | {
    'verdict': fact_records.verdict(recording),
    'statements': fact_records.statements(task.item, recording),
    'landmarks': repeats.landmarks(recording.samples, recording.rate),
  }
  if task.item.source == 'ludb':
    found['header'] = fact_records.header_gain(
      recording, task.item.path, task.raw_dir
    )
    base = os.path.join(task.raw_dir, task.item.path)
    found['waves'] = [ludb_waves.read_events(base, x) for x in leads.LEADS]
    found['waves'] = [
      collections.Counter(e[0] for e in w) for w in found['waves']
    ]
  if task.item.source == _HIGH:
    found['versions'] = _versions(task, recording)
  return found


def _versions(task: _Task, fast) -> dict | None:
  """The 500 Hz file of a PTB-XL recording against its 100 Hz file."""
  path = task.item.path.replace(_HIGH, _LOW).replace('_hr', '_lr')
  try:
    slow = task.item.read(path, task.raw_dir)
  except BadRecord:
    return None  # not published here
  ours, _ = convert.shorten(fast, slow.rate)
  microvolts = (1e3 * r.millivolts().astype(float) for r in (slow, fast, ours))
  return two_versions.compare(*microvolts, slow.rate)


def collect(
  folders: Sequence[tuple[str, str]], workers: int = 1
) -> Iterator[tuple[str, dict]]:
  """Yields (data set, facts of a recording), in the order of the tables.

  Args:
    folders: (data set, raw folder) pairs.
    workers: processes.

  Raises:
    ValueError: see `fact_records.find`.
  """
  tasks = [
    _Task(dataset, raw_dir, item)
    for dataset, raw_dir in folders
    for item in fact_records.find(dataset, raw_dir)
  ]
  chunks = [tasks[k : k + _CHUNK] for k in range(0, len(tasks), _CHUNK)]
  names = iter(task.dataset for task in tasks)
  with convert.pool(min(workers, len(chunks))) as executor:
    work = executor.map if executor else map
    with tqdm.tqdm(
      total=len(tasks), desc='facts', unit='ECG', disable=None
    ) as bar:
      for part in work(_examine, chunks):
        bar.update(len(part))
        for facts in part:
          yield next(names), facts


def facts_of(folders: Sequence[tuple[str, str]], workers: int = 1) -> dict:
  """All facts about some raw folders, as stored by `--out`.

  Args:
    folders: (data set, raw folder) pairs; a data set occurs once.
    workers: processes.

  Raises:
    ValueError: see `fact_records.find`.
  """
  return _assemble(folders, list(collect(folders, workers)))


def _assemble(folders, found) -> dict:
  grouped = collections.defaultdict(list)
  unreadable = collections.defaultdict(collections.Counter)
  for dataset, facts in found:
    if 'unreadable' in facts:
      unreadable[dataset][facts['unreadable']] += 1
    else:
      grouped[dataset, facts['source']].append(facts)
  corpora: dict = {dataset: {'sources': {}} for dataset, _ in folders}
  for (dataset, source), records in grouped.items():
    corpora[dataset]['sources'][source] = _source(records)
  for dataset, reasons in unreadable.items():
    corpora[dataset]['unreadable'] = dict(sorted(reasons.items()))
  return corpus_facts.rounded(
    {
      'software': {
        name: importlib.metadata.version(name) for name in ('numpy', 'scipy')
      },
      'corpora': corpora,
      'repeats': _repeats(folders, grouped),
    }
  )


def _write_records(path: pathlib.Path, found) -> None:
  """One row per recording: its name, where it is from, numbers and texts."""
  rows = [
    {'record': facts['name'], 'dataset': dataset}
    | {k: v for k, v in facts.items() if isinstance(v, (str, float, int))}
    | {'means': corpus_facts.mean_class(facts)}
    for dataset, facts in found
  ]
  columns = dict.fromkeys(name for row in rows for name in row)
  columns.pop('name', None)
  with open(path, 'w', newline='') as file:
    writer = csv.DictWriter(file, list(columns), extrasaction='ignore')
    writer.writeheader()
    writer.writerows(rows)


def _source(records: Sequence[Mapping]) -> dict:
  said = [r['statements'] for r in records]
  facts = corpus_facts.summarise(records)
  if any(said):
    facts['statements'] = statement_facts.conventions(said)
    facts['rate_against_rhythm'] = statement_facts.rates(
      [(r['statements'], r.get('bpm')) for r in records]
    )
  headers = [r['header'] for r in records if 'header' in r]
  if headers:
    facts['header_gains'] = corpus_facts.gains(headers)
    waves = [lead for r in records for lead in r['waves']]
    facts['waves'] = {
      'leads': len(waves),
      'leads_without': sum(not lead for lead in waves),
      **sum(waves, collections.Counter()),
    }
  versions = [r['versions'] for r in records if r.get('versions')]
  if versions:
    facts['versions'] = corpus_facts.pairs(versions)
  return facts


def _repeats(folders, grouped) -> list:
  """Stretches of two seconds and more that occur twice."""
  tasks = {
    task.name: task
    for dataset, raw_dir in folders
    for item in fact_records.find(dataset, raw_dir)
    for task in [_Task(dataset, raw_dir, item)]
  }
  marks = {
    f'{dataset} {r["name"]}': r['landmarks']
    for (dataset, _), records in grouped.items()
    for r in records
  }
  read = functools.lru_cache(maxsize=8)(lambda name: tasks[name].read())
  return repeats.repeated(
    repeats.candidates(marks),
    lambda name: read(name).samples,
    lambda name: read(name).rate,
  )


class _Parser(argparse.ArgumentParser):
  """One line for a wrong flag, not the whole usage."""

  def error(self, message):
    raise ValueError(f'{message}; --help lists the flags')


def _parse(argv) -> argparse.Namespace:
  parser = _Parser('python -m ecgjax.data.facts', allow_abbrev=False)
  add = parser.add_argument
  add('--dataset', required=True, help='names, separated by commas')
  add('--raw_dir', required=True, help='one folder for each')
  add('--out', default='', help='JSON file to write')
  add('--records', default='', help='CSV file to write, a row per recording')
  add('--workers', default=os.cpu_count(), type=int, help='processes')
  return parser.parse_args(argv)


def run(argv: list[str] | None = None) -> dict:
  """Does what the flags say; prints the tables and returns the facts.

  Raises:
    ValueError: for anything the user has to correct.
  """
  flags = _parse(argv)
  names, folders = flags.dataset.split(','), flags.raw_dir.split(',')
  if len(names) != len(folders) or len(set(names)) < len(names):
    raise ValueError(
      f'{len(names)} data sets and {len(folders)} folders: --raw_dir names one '
      'folder for each, and --dataset none twice'
    )
  paths = [os.path.abspath(os.path.expanduser(folder)) for folder in folders]
  flags.out = os.path.expanduser(flags.out)
  flags.records = os.path.expanduser(flags.records)
  places = [pathlib.Path(name) for name in (flags.out, flags.records) if name]
  for place in places:
    if not place.parent.is_dir():
      raise ValueError(f'{place}: there is no folder {place.parent}')
  pairs = list(zip(names, paths))
  found = list(collect(pairs, flags.workers))
  facts = _assemble(pairs, found)
  print(facts_tables.text(facts))
  if flags.out:
    pathlib.Path(flags.out).write_text(json.dumps(facts, indent=1) + '\n')
  if flags.records:
    _write_records(pathlib.Path(flags.records), found)
  for place in places:
    print(f'written    {place}')
  return facts


def main(argv: list[str] | None = None) -> int:
  """The command; returns its exit code."""
  try:
    run(argv)
  except (ValueError, OSError) as error:
    print(f'facts: {" ".join(str(error).split())}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
