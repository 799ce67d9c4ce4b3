"""Prepared data sets: found, or built once, whole or not at all."""

import contextlib
import fcntl
import importlib
import os
import pathlib
import shutil

from ecgjax.config import datasets


def builder_class(name: str):
  """The TFDS builder of a data set: the class of module `ecgjax.data.<name>`.

  Raises:
    ValueError: naming the data sets there are.
  """
  names = datasets.datasets()
  if name not in names:
    raise ValueError(f'no data set {name!r}; choose one of {", ".join(names)}')
  module = importlib.import_module(f'ecgjax.data.{name}')
  return getattr(module, datasets.class_name(name))


def make_builder(name: str, data_dir: str = '', rate: float = 100, **options):
  """The builder of a data set, prepared or not.

  Args:
    name: of the data set.
    data_dir: '' means the default folder of tensorflow-datasets.
    rate: Hz.
    **options: fields of the builder's config, see `builder.EcgConfig`.

  Raises:
    ValueError: if a choice does not apply.
  """
  cls = builder_class(name)
  config = cls.make_config(rate, **options)
  folder = os.path.abspath(os.path.expanduser(data_dir)) if data_dir else None
  with _quiet():
    return cls(config=config, data_dir=folder)


def is_prepared(builder) -> bool:
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
  raw_dir = existing_folder(raw_dir)
  builder = make_builder(name, data_dir, rate, **options)
  if not is_prepared(builder):
    with _lock(builder):
      # Another process may have been faster.
      builder = make_builder(name, data_dir, rate, **options)
      if not is_prepared(builder):
        if raw_dir and hasattr(builder, 'plan'):
          builder.checked_plan(raw_dir)  # fail before TensorFlow is loaded
        _prepare(builder, raw_dir)
        return builder, True
  if hasattr(builder, 'plan'):
    if raw_dir:
      _check_same(builder, raw_dir)
    else:
      _check_tables(builder)
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
    data: `config.data`: name, dir, raw_dir, rate, and options of the data set.

  Raises:
    ValueError: for anything the user has to correct.
  """
  return build(*_where(data), data.raw_dir, **_options(data))[0]


def builder_of(data):
  """The builder of the data set that `config.data` names, prepared or not."""
  return make_builder(*_where(data), **_options(data))


def _where(data) -> tuple[str, str, float]:
  return data.name, data.dir, data.rate


def _options(data) -> dict:
  """Options of data sets that are given."""
  return {key: data[key] for key in datasets.options() if data.get(key)}


def existing_folder(raw_dir: str) -> str:
  if not raw_dir:
    return ''
  path = os.path.abspath(os.path.expanduser(raw_dir))
  if not os.path.isdir(path):
    raise ValueError(f'raw_dir {raw_dir}: no such folder')
  return path


def _check_tables(builder):
  """Refuses tables that are not those of which the data set was made."""
  from ecgjax.data.store.joins import table_hashes

  stored = dict(builder.info.metadata.items()).get('tables')
  for option, sha256 in table_hashes(builder.builder_config.options).items():
    path = builder.option(option)
    if stored is None:  # made before hashes of tables were kept
      raise ValueError(
        f'{builder.data_dir} does not say of which {option} it was made; give '
        f'raw_dir too, so that {path} can be compared, or leave {option} out'
      )
    if stored.get(option) != sha256:
      made = f'from another {option}' if option in stored else 'without a table'
      raise ValueError(
        f'{builder.data_dir} was prepared {made}, not from {path}; remove it, '
        f'choose another data_dir, or leave {option} out to use it as it is'
      )


def _check_same(builder, raw_dir: str):
  """Refuses to pass off one raw folder's data set as another's."""
  if builder.plan(raw_dir).sha256() != builder.info.metadata['plan_sha256']:
    raise ValueError(
      f'{builder.data_dir} was prepared from other recordings or tables than '
      f'{raw_dir}; remove it or choose another data_dir'
    )


@contextlib.contextmanager
def _lock(builder):
  """Lock by which one process at a time builds a data set in a data_dir."""
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
  """Silences TensorFlow's log messages on the terminal."""
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
  from ecgjax.data.store.records import read_table

  home, counts = {}, {}
  for split in builder.info.splits:
    records = read_table(builder, split)
    counts[split] = len(records['record_id'])
    for patient in set(records['patient_id']):
      if home.setdefault(patient, split) != split:
        raise ValueError(
          f'{builder.data_dir}: patient {patient} is in {home[patient]} and '
          f'in {split}'
        )
  return counts
