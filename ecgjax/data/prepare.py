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
import contextlib
import fcntl
import importlib
import importlib.util
import os
import pathlib
import pkgutil
import re
import shutil
import signal
import sys
import time

from ecgjax.data import tally


def builder_class(name: str):
  """The TFDS builder of a data set: the class of module `ecgjax.data.<name>`.

  Raises:
    ValueError: naming the data sets there are.
  """
  names = [
    module.name
    for module in pkgutil.iter_modules(
      importlib.import_module('ecgjax.data').__path__
    )
    if _is_builder(module.name)
  ]
  if name not in names:
    raise ValueError(f'no data set {name!r}; choose one of {", ".join(names)}')
  return getattr(importlib.import_module(f'ecgjax.data.{name}'), _class(name))


def _class(name: str) -> str:
  return ''.join(part.capitalize() for part in name.split('_'))


def _is_builder(name: str) -> bool:
  # By its text: importing every module would import everything.
  source = importlib.util.find_spec(f'ecgjax.data.{name}').loader
  text = source.get_source(f'ecgjax.data.{name}')
  return re.search(rf'^class {_class(name)}\(.*Builder', text, re.M) is not None


def make_builder(name: str, data_dir: str = '', rate: float = 100, **options):
  """The builder of a data set, prepared or not.

  Args:
    name: of the data set.
    data_dir: '' means the default folder of tensorflow-datasets.
    rate: Hz.
    **options: fields of the builder's config, see `base.EcgConfig`.

  Raises:
    ValueError: if a choice does not apply.
  """
  cls = builder_class(name)
  config = cls.make_config(rate, **options)
  folder = os.path.abspath(os.path.expanduser(data_dir)) if data_dir else None
  with _quiet():
    return cls(config=config, data_dir=folder)


def _is_prepared(builder) -> bool:
  return (builder.data_path / 'dataset_info.json').exists()


def build(
  name: str, data_dir: str = '', rate: float = 100, raw_dir: str = '', **options
):
  """Builds a data set if it is not there yet.

  Only one process builds; others that ask meanwhile wait for it.

  Args:
    name: of the data set.
    data_dir: '' means the default folder of tensorflow-datasets.
    rate: Hz.
    raw_dir: folder of the recordings; '' downloads them.
    **options: see `make_builder`.

  Returns:
    The prepared builder, and whether it was built now.

  Raises:
    ValueError: for anything the user has to correct.
  """
  raw_dir = _existing_folder(raw_dir)
  builder = make_builder(name, data_dir, rate, **options)
  if not _is_prepared(builder):
    with _lock(builder):
      # Another process may have been faster.
      builder = make_builder(name, data_dir, rate, **options)
      if not _is_prepared(builder):
        if raw_dir and hasattr(builder, 'plan'):
          builder.checked_plan(raw_dir)  # fail before TensorFlow is loaded
        _prepare(builder, raw_dir)
        return builder, True
  if raw_dir and hasattr(builder, 'plan'):
    _check_same(builder, raw_dir)
  return builder, False


def write(builder) -> None:
  """Writes the data set of a builder that needs no recordings.

  It appears when it is complete, or not at all.
  """
  with _lock(builder):
    _prepare(builder, '')


def open_builder(data):
  """The data set that `config.data` names, built on first use.

  Args:
    data: has name, dir, raw_dir, rate, and where they apply size, sources,
      labels_csv, ptbxl_csv.

  Raises:
    ValueError: for anything the user has to correct.
  """
  options = {
    key: data[key]
    for key in ('size', 'sources', 'labels_csv', 'ptbxl_csv')
    if data.get(key)
  }
  builder, _ = build(data.name, data.dir, data.rate, data.raw_dir, **options)
  return builder


def _existing_folder(raw_dir: str) -> str:
  if not raw_dir:
    return ''
  path = os.path.abspath(os.path.expanduser(raw_dir))
  if not os.path.isdir(path):
    raise ValueError(f'raw_dir {raw_dir}: no such folder')
  return path


def _check_same(builder, raw_dir: str):
  """Refuses to pass off one raw folder's data set as another's."""
  if builder.plan(raw_dir).sha256() != builder.info.metadata['plan_sha256']:
    raise ValueError(
      f'{builder.data_dir} was prepared from other recordings or tables than '
      f'{raw_dir}; remove it or choose another data_dir'
    )


@contextlib.contextmanager
def _lock(builder):
  """Holds the right to build this data set in this data_dir."""
  root = pathlib.Path(builder.data_dir_root)
  path = root / f'.{builder.name}-{builder.builder_config.name}.lock'
  made, file = not root.exists(), None
  try:
    while file is None:
      root.mkdir(parents=True, exist_ok=True)
      file = _locked(path)
  except OSError as error:
    raise ValueError(f'data_dir {root}: {error.strerror}') from None
  with file:
    try:
      yield
    finally:
      path.unlink()
      if made:  # by us: an unlucky build leaves nothing behind
        with contextlib.suppress(OSError):
          root.rmdir()


def _locked(path: pathlib.Path):
  """The open, locked file; None if who held it before has removed it."""
  with contextlib.ExitStack() as stack:
    with contextlib.suppress(FileNotFoundError):
      file = stack.enter_context(open(path, 'w'))
      fcntl.flock(file, fcntl.LOCK_EX)
      if os.path.samestat(os.fstat(file.fileno()), path.stat()):
        stack.pop_all()
        return file
  return None


@contextlib.contextmanager
def _quiet():
  """Keeps what TensorFlow says about its doings off the terminal."""
  from absl import logging

  # Read when TensorFlow is imported. It announces oneDNN at any log level, and
  # nothing here computes with it.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  level = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    with open(os.devnull, 'w') as null, contextlib.redirect_stdout(null):
      yield
  finally:
    logging.set_verbosity(level)


def _prepare(builder, raw_dir: str):
  import tensorflow_datasets as tfds

  downloads = pathlib.Path(builder.data_dir_root, 'downloads')
  config = tfds.download.DownloadConfig(
    manual_dir=raw_dir or None, try_download_gcs=False
  )
  _clean(builder)  # what a killed build left
  try:
    with _quiet():
      builder.download_and_prepare(
        download_dir=downloads, download_config=config
      )
  finally:
    _clean(builder)


def _clean(builder):
  """Removes unfinished data and the empty folders that tfds makes."""
  root = pathlib.Path(builder.data_dir_root)
  folder = pathlib.Path(builder.data_dir).parent  # <root>/<name>/<config>
  for left_over in folder.glob('incomplete.*'):
    shutil.rmtree(left_over)
  for empty in (root / 'downloads' / 'extracted', root / 'downloads', folder):
    with contextlib.suppress(OSError):
      empty.rmdir()
  if [path.name for path in folder.parent.glob('*')] == ['.config']:
    shutil.rmtree(folder.parent)


def verify(builder) -> dict:
  """Reads a prepared data set back.

  Returns:
    split -> number of records.

  Raises:
    ValueError: if a shard is damaged, a count is wrong, or a patient is in
      two splits.
  """
  from ecgjax.data import table

  home, counts = {}, {}
  for split in builder.info.splits:
    records = table.read_table(builder, split)
    counts[split] = len(records['record_id'])
    for patient in set(records['patient_id']):
      if home.setdefault(patient, split) != split:
        raise ValueError(
          f'{builder.data_dir}: patient {patient} is in {home[patient]} and '
          f'in {split}'
        )
  return counts


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
  add('--sources', default='', help='of cinc2021; signal of ptbxl')
  add('--size', default='', help='of synthetic: tiny, small or medium')
  add('--labels_csv', default='', help='labels for wfdb_folder')
  add('--ptbxl_csv', default='', help="cinc2021: PTB-XL's ptbxl_database.csv")
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
  sources = tuple(name for name in flags.sources.split(',') if name)
  options = {
    'sources': sources,
    'size': flags.size,
    'labels_csv': flags.labels_csv,
    'ptbxl_csv': flags.ptbxl_csv,
    'max_rejected': flags.max_rejected,
    'workers': flags.workers,
  }
  options = {k: v for k, v in options.items() if v or k == 'max_rejected'}
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
    print(tally.summary(report, metadata['split_level']))
  if not built or not report:
    return 0
  if os.path.getsize(builder.rejections_path()) > len(tally.HEADER):
    print(f'not used   {builder.rejections_path()}')
  return 3 if report['rejected'] else 0


def _check(flags, builder) -> int:
  name = f'{builder.name}/{builder.builder_config.name}'
  if flags.raw_dir:
    counts, plan = builder.examine(_existing_folder(flags.raw_dir))
    report = counts.report()
    print(f'{name} checked, nothing written: {flags.raw_dir}')
    print(tally.summary(report, plan.split_level))
    for row in sorted(counts.rejections):
      if row.reason in report['rejected']:
        print(f'  {row.record}: {row.reason}: {row.detail}')
    return 3 if report['rejected'] else 0
  if not _is_prepared(builder):
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
