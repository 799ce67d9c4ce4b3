"""What every TFDS builder of the project shares: options, plan, writing.

A builder's `plan` says which records there are, in which split; this module
reads, checks, converts, writes them and keeps the list of rejections.

Records that are not stored are of three kinds, all listed in
`<data_dir>/<dataset>-<config>-rejected.csv` (record, file, reason, detail):

* rejected: a reason of `recording.REASONS`; more than `max_rejected` of the
  records that are there fail the build, after the list is written;
* `missing_file`: a table names a record that is not there; counted apart;
* left out on purpose, a reason of `build_report.LEFT_OUT`; counted apart.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from tensorflow_datasets.core import writer

from ecgjax.data.raw import validate
from ecgjax.data.store import build_report, convert, joins
from ecgjax.data.store.schema import positions, record_features
from ecgjax.formats import wfdb

# A worker needs a second to start, in which one process converts a thousand.
RECORDS_PER_WORKER = 2048
SPLITS = ('train', 'validation', 'test')
_COMMON = ('max_rejected', 'workers')  # options that every data set has
_CONFIG_NAME = re.compile(r'(\d+(?:\.\d+)?)hz((?:\+[\w-]+)*)')


@dataclasses.dataclass(eq=False)
class EcgConfig(tfds.core.BuilderConfig):
  """What to build; see `ecg_config`. Only rate and sources are in the name.

  Attributes:
    rate: sampling rate of the stored ECGs, Hz.
    sources: of a corpus with several, or its published signals; () means all.
    options: given values of the data set's own `OPTIONS`.
    max_rejected: largest share of rejected records, in [0, 1].
    workers: processes that read and convert.
  """

  rate: float = 100.0
  sources: tuple[str, ...] = ()
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  max_rejected: float = 0.05
  workers: int = 1


def ecg_config(
  rate: float | str, sources: Iterable[str] = (), **options
) -> EcgConfig:
  """Config for a rate and sources, named e.g. '100hz' or '250hz+georgia'.

  Raises:
    ValueError: if rate or `max_rejected` is out of range.
  """
  rate = float(convert.parse_rate(rate))
  sources = tuple(sources)
  name = '+'.join([f'{rate:.10g}hz', *sources])
  config = EcgConfig(name=name, rate=rate, sources=sources, **options)
  if not 0 <= config.max_rejected <= 1:
    raise ValueError(
      f'max_rejected is {config.max_rejected}; it is a share, like 0.05 or 5%'
    )
  return config


class Entry(NamedTuple):
  """One record as the tables of its corpus know it, before it is read.

  Attributes:
    record_id: unique in the corpus.
    path: relative to the raw folder, as `READ` expects it.
    split: one of `SPLITS`.
    source: corpus, or the part of it.
    patient_id: '' where the corpus has none: every record is its own patient.
    rules: what the record has to fulfil.
    fold: official fold, -1 if none.
    time: days since the patient's first ECG, -1 unknown.
    age: years, nan unknown.
    sex: 0 male, 1 female, -1 unknown.
    labels: ([A] labels, [A] mask) uint8; None if only the header knows them.
    unread: what tables and header say of it and was not understood.
  """

  record_id: str
  path: str
  split: str
  source: str
  patient_id: str = ''
  rules: validate.Rules = validate.Rules()
  fold: int = -1
  time: float = -1.0
  age: float = float('nan')
  sex: int = -1
  labels: tuple[np.ndarray, np.ndarray] | None = None
  unread: tuple[str, ...] = ()

  @property
  def patient(self) -> str:
    return self.patient_id or self.record_id


class Plan(NamedTuple):
  """All records of a raw folder.

  Attributes:
    entries: to be read.
    left_out: (entry, reason of `LEFT_OUT`) of those that are not used.
    split_level: 'patient', or 'record' where patients are not known.
    label_names: the A stored statements.
    joined: the tables that were joined to records.
    notes: further counts for the report, fact -> number.
  """

  entries: list[Entry]
  left_out: list[tuple[Entry, str]]
  split_level: str
  label_names: list[str]
  joined: tuple[joins.Join, ...] = ()
  notes: dict[str, int] = {}

  def everything(self) -> list[Entry]:
    return self.entries + [entry for entry, _ in self.left_out]

  def sha256(self) -> str:
    """Identifies the plan; two raw folders with the same tables agree."""
    digest = hashlib.sha256(f'{self.split_level}{self.label_names}'.encode())
    rows = [(entry, '') for entry in self.entries] + self.left_out
    for entry, reason in sorted(rows, key=lambda row: row[0].record_id):
      # What was not understood is none of the identity.
      fields = tuple(entry._replace(labels=None, rules=None))[:-1]
      digest.update(repr((fields, reason)).encode())
      for bits in entry.labels or ():
        digest.update(bits.tobytes())
    return digest.hexdigest()


class DeterministicWriter(writer.ExampleWriter):
  """Writes TFRecords that have the same bytes whenever they are written.

  A record is a protocol buffer map, whose order changes from run to run.
  """

  def write(self, path, examples):
    from tensorflow.train import Example

    def sorted_maps():
      for key, data in examples:
        example = Example.FromString(data)
        yield key, example.SerializeToString(deterministic=True)

    return super().write(path, sorted_maps())


class EcgBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of the builders that read recordings from a raw folder.

  A subclass sets MANUAL_DOWNLOAD_INSTRUCTIONS, DESCRIPTION, CITATION, LICENSE
  and HOMEPAGE, may say DEFAULTS and OPTIONS (see `config.datasets`), and
  implements `plan`, `label_names` and, where needed, `annotate`, `fetch`.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILDER_CONFIGS = [ecg_config(100), ecg_config(500)]
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Give the folder of the recordings.'
  DESCRIPTION = CITATION = LICENSE = HOMEPAGE = ''
  DEFAULTS: dict[str, Any] = {}
  OPTIONS: dict[str, tuple[Any, str]] = {}
  READ = staticmethod(wfdb.read_wfdb)  # (path, raw folder) -> Recording

  def plan(self, raw_dir: str) -> Plan:
    """Which records there are; reads tables, no signals."""
    raise NotImplementedError

  def checked_plan(self, raw_dir: str) -> Plan:
    """`plan`, refusing tables that contradict themselves.

    Raises:
      ValueError: if a record occurs twice, or a patient in two splits.
    """
    plan = self.plan(raw_dir)
    ids = collections.Counter(entry.record_id for entry in plan.everything())
    if len(ids) < len(plan.everything()):
      raise ValueError(
        f'{raw_dir}: two records have the id {ids.most_common(1)[0][0]!r}'
      )
    home = {}
    for entry in plan.entries:
      if home.setdefault(entry.patient, entry.split) != entry.split:
        raise ValueError(
          f'{raw_dir}: patient {entry.patient!r} is in two splits, '
          f'{home[entry.patient]} and {entry.split}'
        )
    return plan

  def label_names(self) -> list[str]:
    """Names of the stored statements."""
    raise NotImplementedError

  def annotate(self, entry: Entry, comments: tuple[str, ...]) -> Entry:
    """Completes an entry from the comments of its header."""
    return entry

  def fetch(self, download_dir: str) -> str:
    """Downloads the corpus and returns the raw folder."""
    raise ValueError(f'{self.name} needs a folder of recordings: give raw_dir')

  @classmethod
  def make_config(cls, rate: float | str, **options) -> EcgConfig:
    """The builder config for these choices.

    Args:
      rate: Hz.
      **options: max_rejected, workers and those of `OPTIONS`; empty ones are
        not given.

    Raises:
      ValueError: if a choice does not apply to this data set.
    """
    common = {k: options.pop(k) for k in _COMMON if k in options}
    own = joins.expand_home(cls.given(options))
    return ecg_config(rate, own.get('sources', ()), options=own, **common)

  @classmethod
  def given(cls, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not empty; refuses those of other data sets."""
    given = {name: value for name, value in options.items() if value}
    strange = sorted(given.keys() - {*_COMMON, *cls.OPTIONS})
    if strange:
      raise ValueError(f'{cls.name} has no option {strange[0]}')
    return given

  def option(self, name: str) -> Any:
    """Value of one of `OPTIONS`."""
    return self.builder_config.options.get(name, self.OPTIONS[name][0])

  def _create_builder_config(self, builder_config, version):
    # Any rate is a config, not only those in BUILDER_CONFIGS.
    if not isinstance(builder_config, str):
      return builder_config or self.BUILDER_CONFIGS[0]
    match = _CONFIG_NAME.fullmatch(builder_config)
    if not match:
      raise ValueError(
        f'{self.name} has no config {builder_config!r}; configs are named like '
        '100hz, 250hz or 204.8hz'
      )
    sources = tuple(match[2].split('+')[1:])
    return self.make_config(match[1], sources=sources)

  def _info(self) -> tfds.core.DatasetInfo:
    names = self.label_names()
    length = convert.stored_length(self.builder_config.rate)
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      features=record_features(length, max(1, len(names))),
      homepage=self.HOMEPAGE,
      citation=self.CITATION,
      license=self.LICENSE,
      metadata=tfds.core.MetadataDict(label_names=names, synthetic=False),
    )

  def rejections_path(self) -> str:
    name = f'{self.name}-{self.builder_config.name}-rejected.csv'
    return os.path.join(self.data_dir_root, name)

  @contextlib.contextmanager
  def _working(self):
    """Holds progress bar and workers of one pass over the recordings."""
    with contextlib.ExitStack() as self._resources:
      yield

  def _start(self, raw_dir: str, plan: Plan):
    self._raw_dir = raw_dir
    self._tally = build_report.Tally(
      plan.label_names, [j.counts() for j in plan.joined], plan.notes
    )
    self._records = positions(e.record_id for e in plan.everything())
    self._patients = positions(e.patient for e in plan.everything())
    enter, count = self._resources.enter_context, len(plan.entries)
    workers = min(self.builder_config.workers, 1 + count // RECORDS_PER_WORKER)
    self._executor = enter(convert.pool(workers))
    title = f'{self.name}/{self.builder_config.name}'
    self._progress = enter(tqdm.tqdm(total=count, desc=title, unit='ECG'))
    for entry, reason in plan.left_out:
      self._tally.reject(
        entry.record_id, entry.path, reason, build_report.LEFT_OUT[reason]
      )

  def _accepted(self, entries):
    """Reads records; yields (entry, converted) of those that are used."""
    read = self.READ
    jobs = ((convert.Job(e.path, e.rules, read), e.record_id) for e in entries)
    rate = self.builder_config.rate
    results = convert.convert_all(jobs, self._raw_dir, rate, self._executor)
    for entry, result in zip(entries, results):
      self._progress.update()
      if isinstance(result, build_report.Rejection):
        self._tally.reject(*result)
        continue
      entry = self.annotate(entry, result.comments)
      self._tally.add(entry, result)
      yield entry, result

  def examine(self, raw_dir: str) -> tuple[build_report.Tally, Plan]:
    """Reads and checks everything in a raw folder, writes nothing."""
    plan = self.checked_plan(raw_dir)
    with self._working():
      self._start(raw_dir, plan)
      collections.deque(self._accepted(plan.entries), maxlen=0)
    return self._tally, plan

  def _example_writer(self):
    return DeterministicWriter(self.info.file_format)

  def _download_and_prepare(self, dl_manager, download_config):
    try:
      with self._working():
        super()._download_and_prepare(dl_manager, download_config)
    finally:
      tfds.enable_progress_bar()
    self._finish()

  def _finish(self):
    """Lists the rejections; raises before the data set becomes visible."""
    path = self.rejections_path()
    self._tally.write_csv(path)
    self._tally.check(self.builder_config.max_rejected, self.name, path)
    self.info.metadata.update(report=self._tally.report())

  def _split_generators(self, dl_manager):
    try:
      raw_dir = os.fspath(dl_manager.manual_dir)
    except AssertionError:  # there is no such folder
      raw_dir = self.fetch(os.fspath(dl_manager.download_dir))
    plan = self.checked_plan(raw_dir)
    import tensorflow  # noqa: F401  # some seconds; not while the bar runs

    tfds.disable_progress_bar()  # its bars for each split would hide ours
    self._start(raw_dir, plan)
    self.info.metadata.update(
      split_level=plan.split_level,
      plan_sha256=plan.sha256(),
      tables=joins.table_hashes(self.builder_config.options),
    )
    generators = {}
    for split in SPLITS:
      part = [entry for entry in plan.entries if entry.split == split]
      examples = self._generate_examples(part)
      # tfds fails on a split without examples, so we look before it writes.
      first = next(examples, None)
      if first is not None:
        generators[split] = itertools.chain([first], examples)
    if not generators:
      self._finish()
    return generators

  def _generate_examples(self, entries) -> Iterator[tuple[str, dict]]:
    for entry, result in self._accepted(entries):
      yield entry.record_id, self._example(entry, result)

  def _example(self, entry: Entry, result: convert.Converted) -> dict[str, Any]:
    labels, label_mask = entry.labels
    return {
      'ecg': result.ecg,
      'gain': result.gain,
      'baseline': result.baseline,
      'fs': np.float32(self.builder_config.rate),
      'lead_mask': result.lead_mask,
      'valid_start': result.valid_start,
      'valid_len': result.valid_len,
      'record': self._records[entry.record_id],
      'record_id': entry.record_id,
      'patient': self._patients[entry.patient],
      'patient_id': entry.patient,
      'time': np.float32(entry.time),
      'age': np.float32(entry.age),
      'sex': entry.sex,
      'labels': labels,
      'label_mask': label_mask,
      'fold': entry.fold,
      'limb_residual': np.float32(result.residual),
      'content_hash': result.content_hash,
      'source': entry.source,
    }
