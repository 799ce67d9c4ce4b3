"""Features or class probabilities of a user's own recordings.

  python -m ecgjax.predict --checkpoint=RUN RECORD [RECORD ...]

RECORD is a WFDB record, with or without suffix, or a folder that is searched
with all its sub-folders. Every record gets one row of the output, in the order
given: `status` is `ok` or `refused`, with a `reason` from the closed list of
`data.raw.validate` and one line of detail, which an `ok` row has where the
file was not taken as it is. Recordings are checked as when a
data set is prepared; leads are found by name, and the signal is brought to the
checkpoint's sampling rate (polyphase). Of a longer recording the first window
of the checkpoint's length is used, a shorter one is padded as in training;
`seconds` and `used_seconds` say so.

A checkpoint with a classifier gives probabilities, unless --features is given;
any other gives features. A record without all leads of the checkpoint is
refused: probabilities, and features over all leads, cannot be had from some of
them. Where the features are those of single leads, --leads names a subset and
the output is the features of those leads, which are then normalised together.

Exit codes: 0 all rows ok, 3 some refused, 2 nothing could be done (one line
says why).
"""

import argparse
import csv
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from ecgjax.data.batches import from_recording
from ecgjax.data.raw import validate
from ecgjax.ecg.contract import InputContract
from ecgjax.ecg.leads import LEADS, indices
from ecgjax.ecg.recording import BadRecord
from ecgjax.formats import cells, wfdb, wfdb_folder
from ecgjax.model import Model, load, outputs
from ecgjax.runtime import console

BATCH_SIZE = 32
EXIT_UNUSABLE, EXIT_REFUSED = 2, 3
_SUFFIXES = ('.hea', '.dat', '.mat')
_FIELDS = (
  'record', 'status', 'reason', 'detail', 'rate', 'seconds', 'used_seconds',
)  # fmt: skip


class Source(NamedTuple):
  """Where a record is.

  Attributes:
    name: what the output calls it.
    path: without suffix, absolute.
    root: folder that its files may not leave.
  """

  name: str
  path: str
  root: str


class Predictor(NamedTuple):
  """A model ready for files: its function and the names of its outputs.

  Attributes:
    model: the checkpoint.
    contract: of one row; its leads are those used.
    given: lead names of --leads, as typed; () without.
    names: names of the D outputs.
    kind: 'features' or 'probabilities'.
    hint: what to do where leads are missing.
  """

  model: Model
  contract: InputContract
  given: tuple[str, ...]
  names: tuple[str, ...]
  kind: str
  hint: str

  def run(self, batch):
    """Outputs [B, D] of a batch, see `data.batches.from_recording`."""
    return outputs(self.model, batch, self.contract.leads)[self.kind]


def find_sources(arguments: Iterable[str]) -> list[Source]:
  """Records of the command line, each once.

  Raises:
    ValueError: if a folder holds no record.
  """
  found = {}
  for argument in map(os.path.expanduser, arguments):
    if os.path.isdir(argument):
      records = wfdb_folder.find_records(argument)
      if not records:
        raise ValueError(f'{argument} has no WFDB records (.hea files)')
      root = os.path.abspath(argument)
      paths = [(os.path.join(argument, r), root) for r in records]
    else:
      stem, suffix = os.path.splitext(argument)
      path = stem if suffix in _SUFFIXES else argument
      # The user named the file itself, so links may lead anywhere.
      paths = [(path, os.path.abspath(os.sep))]
    for path, root in paths:
      key = os.path.abspath(path)
      found.setdefault(key, Source(path, key, root))
  return list(found.values())


def make_predictor(
  model: Model, given: tuple[str, ...] = (), features: bool = False
) -> Predictor:
  """Decides what a checkpoint can say about some of its leads.

  Args:
    model: the restored checkpoint.
    given: lead names asked for; () for those of the checkpoint.
    features: whether features are wanted where there are probabilities.

  Raises:
    ValueError: if it can say nothing about these leads.
  """
  contract, method = model.contract, model.method
  given = tuple(LEADS[k] for k in indices(given))
  leads = tuple(x for x in contract.leads if not given or x in given)
  kind = 'probabilities' if model.class_names and not features else 'features'
  needs = f'the checkpoint needs {", ".join(contract.leads)}'
  by_lead = method.per_lead and kind == 'features'
  if leads != contract.leads and not (by_lead and leads):
    remedy = ', or ask for --features' if method.per_lead and leads else ''
    raise ValueError(
      f'--leads={",".join(given)} is not enough: {needs} for its {kind}{remedy}'
    )
  used = dataclasses.replace(contract, leads=leads)
  names = model.class_names
  if kind == 'features':
    example = from_recording.empty_batch(used, 1)
    said = lambda batch: outputs(model, batch, leads)['features']
    width = jax.eval_shape(said, example).shape[1]
    names = tuple(f'feature_{k}' for k in range(width))
    if by_lead:
      each = range(width // len(leads))
      names = tuple(f'{lead}_{k}' for lead in leads for k in each)
  hint = needs if leads == contract.leads else f'--leads={",".join(given)}'
  if method.per_lead and leads == contract.leads:
    hint += '; for features of some leads name them with --leads'
    hint += ' and add --features' if kind == 'probabilities' else ''
  return Predictor(model, used, given, names, kind, hint)


def read_row(source: Source, predictor: Predictor) -> tuple[dict, dict]:
  """Reads, checks and converts one record.

  Returns:
    Its row for the model, and what the output says about it.

  Raises:
    BadRecord: if it is refused.
  """
  contract, given = predictor.contract, predictor.given
  try:
    recording = wfdb.read_wfdb(
      source.path, source.root, required=contract.leads, names=given
    )
  except BadRecord as error:
    detail = error.detail
    if error.reason == 'missing_lead':
      detail += f'; {predictor.hint}'
    elif error.reason in ('duplicate_lead', 'unknown_lead') and not given:
      detail += '; where the header has no lead names, give them with --leads'
    raise BadRecord(error.reason, detail, source.path) from None
  if given:
    kept = [name for name in recording.leads if name in given]
    recording = from_recording.select(recording, kept)
  accepted = validate.check(recording)
  row = from_recording.make_row(recording, accepted, contract)
  return row, {
    'detail': '; '.join(validate.REMARKS[r] for r in accepted.remarks) or None,
    'rate': recording.rate,
    'seconds': len(recording.samples) / recording.rate,
    'used_seconds': float(row['valid_len']) / contract.rate,
  }


def predict(
  sources: Iterable[Source], predictor: Predictor
) -> Iterator[tuple[dict, np.ndarray | None]]:
  """Yields what is known about each record and its outputs [D], in order."""
  sources = iter(sources)
  take = lambda: list(itertools.islice(sources, BATCH_SIZE))
  for chunk in iter(take, []):
    known, accepted = [], []
    for source in chunk:
      about = dict.fromkeys(_FIELDS) | {'record': source.name, 'status': 'ok'}
      try:
        row, facts = read_row(source, predictor)
      except BadRecord as error:
        about |= {'status': 'refused', 'reason': error.reason}
        about |= {'detail': error.detail}
      else:
        about |= facts
        accepted.append(row)
      known.append(about)
    outputs = iter(())
    if accepted:
      filled = accepted + accepted[:1] * (BATCH_SIZE - len(accepted))
      batch = {name: np.stack([r[name] for r in filled]) for name in filled[0]}
      outputs = iter(np.asarray(predictor.run(batch), np.float32))
    for about in known:
      yield about, next(outputs) if about['status'] == 'ok' else None


def write(results, predictor: Predictor, file, form: str) -> int:
  """Writes all rows as CSV or JSON; returns how many were refused.

  Args:
    results: what `predict` returned.
    predictor: names the outputs.
    file: open for writing text.
    form: 'csv' or 'json'.
  """
  refused = 0
  if form == 'json':
    records = []
    for about, outputs in results:
      refused += outputs is None
      values = None if outputs is None else [float(v) for v in outputs]
      records.append(about | {'values': values})
    document = {
      'outputs': predictor.kind,
      'names': list(predictor.names),
      'contract': predictor.contract.to_json(),
      'records': records,
    }
    file.write(json.dumps(document, indent=1, allow_nan=False) + '\n')
    return refused
  writer = csv.writer(file, lineterminator='\n')
  writer.writerow(map(cells.to_csv, [*_FIELDS, *predictor.names]))
  blank = [''] * len(predictor.names)
  for about, outputs in results:
    refused += outputs is None
    values = blank if outputs is None else [str(v) for v in outputs]
    fields = ['' if about[k] is None else about[k] for k in _FIELDS]
    fields = [cells.to_csv(x) if isinstance(x, str) else x for x in fields]
    writer.writerow([*fields, *values])
  return refused


class _Parser(argparse.ArgumentParser):
  """One line for a wrong flag, not the whole usage."""

  def error(self, message):
    raise ValueError(f'{message}; --help lists the flags')


def _parse(argv) -> argparse.Namespace:
  parser = _Parser(
    'python -m ecgjax.predict',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add('--checkpoint', required=True, help='work folder or checkpoint of a run')
  add(
    '--leads',
    default='',
    help='the leads to use; for records whose header names none: the names of '
    'their signals in order. E.g. I,II,V1',
  )
  add('--features', action='store_true', help='not the probabilities')
  add('--output', default='', help='file; default: standard output')
  add('--format', choices=('csv', 'json'), help='default: by --output, or csv')
  add('records', nargs='+', metavar='RECORD', help='WFDB record or folder')
  return parser.parse_args(argv)


def run(argv: list[str] | None = None) -> int:
  """Does what the flags say; returns the exit code 0 or 3.

  Raises:
    ValueError: for anything the user has to correct.
  """
  flags = _parse(argv)
  flags.output = os.path.expanduser(flags.output)
  form = flags.format
  if form is None:
    form = 'json' if flags.output.endswith('.json') else 'csv'
  folder = os.path.dirname(os.path.abspath(flags.output))
  if not os.path.isdir(folder):
    raise ValueError(f'--output={flags.output}: there is no folder {folder}')
  sources = find_sources(flags.records)
  model = load(flags.checkpoint)
  given = tuple(name for name in flags.leads.split(',') if name)
  predictor = make_predictor(model, given, flags.features)
  bar = tqdm.tqdm(sources, desc='predict', unit='ECG', disable=None)
  results = predict(bar, predictor)
  if flags.output:
    temporary = f'{flags.output}.{os.getpid()}'
    try:
      with open(temporary, 'w', encoding='utf-8') as file:
        refused = write(results, predictor, file, form)
      os.replace(temporary, flags.output)
    finally:
      if os.path.exists(temporary):
        os.remove(temporary)
  else:
    refused = write(results, predictor, sys.stdout, form)
  print(
    f'{len(sources)} records: {len(sources) - refused} ok, {refused} refused',
    file=sys.stderr,
  )
  return EXIT_REFUSED if refused else 0


def main(argv: list[str] | None = None) -> int:
  """The command; returns its exit code."""
  console.set_up_logging()
  try:
    return run(argv)
  except (ValueError, OSError) as error:
    if not console.raised_by_us(error):
      raise
    console.fail(error, EXIT_UNUSABLE)


if __name__ == '__main__':
  sys.exit(main())
