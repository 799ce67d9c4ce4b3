"""TFDS builder `cinc2021`: training set of the PhysioNet/CinC Challenge 2021.

  import ecgjax.data.cinc2021
  tfds.builder('cinc2021/100hz+georgia+ningbo', data_dir=DIR)

Any subset of its sources, one rate for all. SNOMED CT codes are stored as they
are (merging them is the label task's business, `data.store.labels`); codes
that never occur in a source have label mask 0 there. Two codes mean something
else in one source and are stored under names of their own: Ningbo's flutter,
and 426783006 in `ptb-xl`, which stands for NORM or SR.

Splits. The `ptb-xl` source repeats PTB-XL 1.0.1: with PTB-XL's own table
(`ptbxl_csv`) its records inherit patient and fold by record number, and folds 9
and 10 are left out, so that a model trained here can be tested on PTB-XL;
without the table the whole source is left out. `ptb` (several records of one
patient) and `st_petersburg_incart` (of one Holter tape) come without patient
ids and are training data only. All others have one record per patient, as far
as is known, and are split by the hash of the record id.

Of 1.0.3 (docs/data.md): sources differ in amplitude step, filter and offset, so
that the source can be read from the signal; `cpsc_2018` mixes two signal
chains; `ptb-xl` holds the 500 Hz signal of PTB-XL with its held end; in
`chapman_shaoxing` and `ningbo` aVR, aVL and aVF have a constant bias of 1.2 uV.
"""

import os

import tensorflow_datasets as tfds

from ecgjax.data import ptbxl
from ecgjax.data.raw import download, validate
from ecgjax.data.store import builder, joins, labels, splits
from ecgjax.formats import cells, wfdb_folder

_RATES = {
  'cpsc_2018': 500,
  'cpsc_2018_extra': 500,
  'st_petersburg_incart': 257,
  'ptb': 1000,
  'ptb-xl': 500,
  'georgia': 500,
  'chapman_shaoxing': 500,
  'ningbo': 500,
}
SOURCES = tuple(_RATES)
_PATIENTS_UNKNOWN = ('ptb', 'st_petersburg_incart')
_DEFECTS = ('I0002', 'I0069')


class Cinc2021(builder.EcgBuilder):
  """The challenge's training set, see the module."""

  DESCRIPTION = (
    'PhysioNet/CinC Challenge 2021 1.0.3, training set: 88,253 12-lead ECGs of '
    'eight sources with SNOMED CT codes.'
  )
  HOMEPAGE = 'https://physionet.org/content/challenge-2021/1.0.3/'
  LICENSE = 'CC BY 4.0'
  CITATION = """@inproceedings{reyna2021cinc,
  title={Will two do? Varying dimensions in electrocardiography: the
    {PhysioNet/Computing in Cardiology} Challenge 2021},
  author={Reyna, Matthew A and others}, booktitle={Computing in Cardiology},
  year={2021}, doi={10.23919/CinC53138.2021.9662687}}"""
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Give the folder of challenge-2021 1.0.3 that holds training/, or nothing '
    'to download it from PhysioNet.'
  )

  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES = {
    '1.0.0': 'First version.',
    '1.1.0': 'NORM or SR of ptb-xl has a name of its own; set labels set masks',
  }
  DEFAULTS = {'task': 'scored'}
  OPTIONS = {
    'sources': ((), 'separated by commas, default all'),
    'ptbxl_csv': ('', "PTB-XL's ptbxl_database.csv"),
  }

  @classmethod
  def make_config(cls, rate, sources=(), **options):
    unknown = [name for name in sources if name not in SOURCES]
    if unknown:
      raise ValueError(
        f'cinc2021 has no source {unknown[0]!r}; its sources are '
        + ', '.join(SOURCES)
      )
    chosen = tuple(name for name in SOURCES if name in sources)
    # All of them is what an empty choice means; one name for one thing.
    chosen = () if chosen == SOURCES else chosen
    return super().make_config(rate, sources=chosen, **options)

  def fetch(self, download_dir):
    folders = [
      f'training/{source}/' for source in self.builder_config.sources or SOURCES
    ]
    return download.fetch(download.CINC2021, download_dir, folders)

  def label_names(self):
    return labels.snomed_names()

  def plan(self, raw_dir):
    training = 'training'
    if not os.path.isdir(os.path.join(raw_dir, training)):
      training = ''
    folders = {
      source: os.path.join(training, source)
      for source in SOURCES
      if os.path.isdir(os.path.join(raw_dir, training, source))
    }
    wanted = self.builder_config.sources or tuple(folders)
    absent = [source for source in wanted if source not in folders]
    if absent or not wanted:
      raise ValueError(
        f'{raw_dir} has no folder training/{(absent or SOURCES)[0]}; raw_dir '
        'is the folder of the challenge that holds training/'
      )
    paths = {
      source: wfdb_folder.find_records(raw_dir, folders[source])
      for source in wanted
    }
    table, joined = {}, []
    if self.option('ptbxl_csv'):
      table, joined = self._joined(paths.get('ptb-xl', ()))
    entries, left_out = [], []
    for source in wanted:
      for path in paths[source]:
        entry, reason = _entry(source, path, table)
        if reason:
          left_out.append((entry, reason))
        else:
          entries.append(entry)
    level = 'patient' if set(wanted) == {'ptb-xl'} else 'record'
    return builder.Plan(
      entries, left_out, level, self.label_names(), tuple(joined)
    )

  def _joined(self, paths):
    """PTB-XL's rows by the number of the record, and how many there are."""
    path = self.option('ptbxl_csv')
    rows = {row['record_id']: row for row in ptbxl.read_table(path)}
    numbers = [os.path.basename(name).removeprefix('HR') for name in paths]
    joined = [joins.join(path, rows, numbers)] if numbers else []
    return {int(number): row for number, row in rows.items()}, joined

  def annotate(self, entry, comments):
    fields = wfdb_folder.header_fields(comments)
    age, sex = fields.get('age', ''), fields.get('sex', '')
    codes, everything = labels.read_snomed(wfdb_folder.every(comments, 'dx'))
    unknown = set(codes).difference(labels.snomed_names())
    return entry._replace(
      age=cells.age(age),
      sex=cells.sex(sex),
      labels=labels.encode_snomed(codes, entry.source, everything),
      unread=cells.not_understood(age, sex)
      + tuple(f'code {code}' for code in sorted(unknown)),
    )


def _entry(source, path, table) -> tuple[builder.Entry, str]:
  """The entry of one record, and why it is left out ('' if it is not)."""
  record = os.path.basename(path)
  entry = builder.Entry(
    record_id=record,
    path=path,
    split='train',
    source=source,
    # The gain was wrong in archives before August 2020.
    rules=validate.Rules(rate=_RATES[source], gain=1000, limb_limit=20),
  )
  if record in _DEFECTS:
    return entry, 'known_defect'
  if source == 'ptb-xl':
    number = record.removeprefix('HR')
    row = table.get(int(number)) if number.isdecimal() else None
    if row is None:
      return entry, 'leakage_unknown_fold'
    entry = entry._replace(
      patient_id=row['patient_id'], fold=row['fold'], time=row['time']
    )
    if ptbxl.fold_split(row['fold']) != 'train':
      return entry, 'leakage_test_fold'
    return entry, ''
  if source not in _PATIENTS_UNKNOWN:
    entry = entry._replace(split=splits.hash_split(source, record))
  return entry, ''
