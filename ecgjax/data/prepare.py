"""Prepares a data set: raw recordings in, checked TFRecords out.

  python -m ecgjax.data.prepare --dataset=ptbxl --raw_dir=RAW --data_dir=DIR

Without `--raw_dir` PTB-XL and CinC 2021 are downloaded from PhysioNet. The data
set appears in DIR when it is complete, or not at all; what is not used is
listed in `DIR/<dataset>-<config>-rejected.csv`. The same command again finds
the data set finished.

`--check` writes nothing: with `--raw_dir` it reads and checks every recording
there, without it verifies the prepared data set in DIR (every TFRecord
checksum, the counts, no patient in two splits).

Exit codes: 0 done, or already done; 2 bad input, in one line; 3 prepared, with
rejections; 75 stopped by SIGTERM; 1 anything else. Records named by a table and
not there, and records left out on purpose, are no rejections.
"""

import argparse
import os
import signal
import sys
import time

from ecgjax.config import datasets
from ecgjax.data.store import build_report
from ecgjax.data.store.prepared import (
  build,
  existing_folder,
  is_prepared,
  make_builder,
  verify,
)


class _Parser(argparse.ArgumentParser):
  """One line for a wrong flag, not the whole usage."""

  def error(self, message):
    raise ValueError(f'{message}; --help lists the flags')


def share(text: str) -> float:
  """'0.05' or '5%'."""
  if text.endswith('%'):
    return float(text[:-1]) / 100
  return float(text)


def _parse(argv) -> argparse.Namespace:
  parser = _Parser('python -m ecgjax.data.prepare', allow_abbrev=False)
  add = parser.add_argument
  add('--dataset', required=True, help='module of ecgjax.data, e.g. ptbxl')
  add('--raw_dir', default='', help='recordings; without it: download')
  add('--data_dir', default='', help="default: tensorflow-datasets' own")
  add('--rate', default='100', help='Hz, default 100')
  for name, (_, text) in datasets.options().items():
    add(f'--{name}', default='', help=text.replace('%', '%%'))
  add('--max_rejected', default=0.05, type=share, help='share; default 5%%')
  add('--workers', default=os.cpu_count(), type=int, help='processes')
  add('--check', action='store_true', help='check only, write nothing')
  return parser.parse_args(argv)


def run(argv: list[str] | None = None) -> int:
  """Does what the flags say; returns the exit code 0 or 3.

  Raises:
    ValueError: for anything the user has to correct.
  """
  flags = _parse(argv)
  options = {'max_rejected': flags.max_rejected, 'workers': flags.workers or 1}
  for name, (none, _) in datasets.options().items():
    value = getattr(flags, name)
    if value:
      many = isinstance(none, tuple)
      options[name] = tuple(filter(None, value.split(','))) if many else value
  where = (flags.dataset, flags.data_dir, flags.rate)
  if flags.check:
    return _check(flags, make_builder(*where, **options))
  start = time.monotonic()
  builder, built = build(*where, raw_dir=flags.raw_dir, **options)
  seconds = time.monotonic() - start
  name = f'{builder.name}/{builder.builder_config.name}'
  metadata = dict(builder.info.metadata.items())
  if built:
    print(f'{name} prepared in {seconds:.1f} s: {builder.data_dir}')
  else:
    print(f'{name} is already prepared: {builder.data_dir}')
  report = metadata.get('report')
  if report:
    print(build_report.summary(report, metadata['split_level']))
  if not built or not report:
    return 0
  if os.path.getsize(builder.rejections_path()) > len(build_report.HEADER):
    print(f'not used   {builder.rejections_path()}')
  return 3 if report['rejected'] else 0


def _check(flags, builder) -> int:
  name = f'{builder.name}/{builder.builder_config.name}'
  if flags.raw_dir:
    counts, plan = builder.examine(existing_folder(flags.raw_dir))
    report = counts.report()
    print(f'{name} checked, nothing written: {flags.raw_dir}')
    print(build_report.summary(report, plan.split_level))
    for row in sorted(counts.rejections):
      if row.reason in report['rejected']:
        print(f'  {row.record}: {row.reason}: {row.detail}')
    return 3 if report['rejected'] else 0
  if not is_prepared(builder):
    raise ValueError(f'{name} is not prepared in {builder.data_dir_root}')
  counts = ', '.join(f'{k} {v}' for k, v in verify(builder).items())
  print(f'{name} verified: {builder.data_dir}\nsplits     {counts}')
  return 0


def _stop(signum, frame):
  del signum, frame
  print('prepare: stopped; nothing is left behind', file=sys.stderr)
  raise SystemExit(75)


def main(argv: list[str] | None = None) -> int:
  """The command; returns its exit code."""
  signal.signal(signal.SIGTERM, _stop)  # unwinds, so that cleaning up happens
  try:
    return run(argv)
  except (ValueError, OSError) as error:
    print(f'prepare: {" ".join(str(error).split())}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('prepare: interrupted; nothing is left behind', file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main())
