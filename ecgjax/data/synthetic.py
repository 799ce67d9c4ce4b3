"""TFDS builder `synthetic`: simulated 12-lead ECGs, the default data set.

  import ecgjax.data.synthetic
  tfds.load('synthetic/tiny', data_dir=DIR)     # or small, medium
  tfds.builder('synthetic/small+500hz', data_dir=DIR)

Nothing is downloaded: records are simulated when the data set is first used.
They are schematic, were never fitted to recordings, and say nothing about
patients; metadata, results and figures say "synthetic". Age and sex are not
modelled and stored as unknown.

Sizes: tiny, small, medium = 64, 2,000, 10,000 patients with 1-4 ECGs each;
every size begins with the patients of the smaller one, in the same splits.
Classes occur in any legal combination at the prevalences of `simulator.cohort`.
A size may carry a variant:

  small+single     one of the eleven classes per ECG, equally often
  small+incident   rhythm too begins at an ECG and stays: patients develop
                   fibrillation or flutter
  small+frequent   a harder population for patient contrast: its five tasks (AF,
                   AFL, premature beats, 1AVB, MI) on 8 % or more of the ECGs
                   each, conditions (but ST shifts) stay once they have begun,
                   three times the noise, twice the variation within a patient

Any other choice (prevalence, within-patient variability, noise, seed) makes a
config: `tfds.builder('synthetic', config=synthetic_config(intra=1.0))`.

What is known about the records (R times, intervals, on- and offsets) is not
stored but computed again::

  config = builder.builder_config
  people = config.cohort()
  truth = simulator.ground_truth(config.seed, people.patient[:9],
    people.record[:9], people.factors[:9], config.recording())
"""

import dataclasses
import hashlib
import re

import jax
import numpy as np
import tensorflow_datasets as tfds

from ecgjax.data.store import builder, convert, splits
from ecgjax.simulator import cohort, simulator

SIZES = {'tiny': 64, 'small': 2_000, 'medium': 10_000}  # patients
_BATCH = 256  # records that are simulated at a time
_VARIANTS = {
  'single': {'labels': 'single'},
  'incident': {'incident': ('rhythm', *cohort.INCIDENT)},
  'frequent': {
    'prevalence': cohort.PREVALENCE
    | {'AF': 0.12, 'AFL': 0.10, '1AVB': 0.12, 'MI': 0.12},
    'incident': ('rhythm', 'ectopy', 'avb', *cohort.INCIDENT),
    'noise': 3.0,
    'intra': 1.0,
  },
}
_NAME = re.compile(r'(\w+(?:\+[a-z]+)*?)(?:\+(\d+(?:\.\d+)?)hz)?')


@dataclasses.dataclass(eq=False)
class SyntheticConfig(builder.EcgConfig):
  """What to simulate; see `synthetic_config`.

  Attributes:
    patients: their number.
    seed: of the population.
    labels: 'multi' or 'single', see `cohort.draw`.
    prevalence: class -> share of the ECGs, see `cohort.draw`.
    incident: factors that begin and stay, see `cohort.draw`.
    intra: variation within a patient, see `simulator.Config`.
    noise: factor of the noise, see `simulator.Config`.
  """

  patients: int = 0
  seed: int = 0
  labels: str = 'multi'
  prevalence: dict[str, float] = dataclasses.field(
    default_factory=lambda: dict(cohort.PREVALENCE)
  )
  incident: tuple[str, ...] = cohort.INCIDENT
  intra: float = 0.5
  noise: float = 1.0

  def cohort(self) -> cohort.Cohort:
    """Who has which ECGs."""
    return cohort.draw(
      self.seed,
      self.patients,
      labels=self.labels,
      prevalence=self.prevalence,
      incident=self.incident,
    )

  def recording(self) -> simulator.Config:
    """How the ECGs are recorded."""
    length = convert.stored_length(self.rate)
    return simulator.Config(
      self.rate, length, noise=self.noise, intra=self.intra
    )


def synthetic_config(
  size: str = 'small', rate: float | str = 100, **options
) -> SyntheticConfig:
  """Config of a size, a rate and perhaps other choices.

  Args:
    size: one of `SIZES`, with variants: 'small', 'tiny+single', ...
    rate: Hz, 100-1000.
    **options: fields of `SyntheticConfig`.

  Raises:
    ValueError: if a choice is unknown or out of range.
  """
  base_size, *variants = size.split('+')
  strange = [name for name in variants if name not in _VARIANTS]
  if base_size not in SIZES or strange:
    raise ValueError(
      f'size is {size!r}; choose one of {", ".join(SIZES)}, perhaps with '
      + ' or '.join(f'+{name}' for name in _VARIANTS)
    )
  rate = float(convert.parse_rate(rate))
  names = [size] if rate == 100 else [size, f'{rate:.10g}hz']
  if options:
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    names.append('custom-' + digest.hexdigest()[:8])
  choices = {}
  for name in variants:
    choices |= _VARIANTS[name]
  config = SyntheticConfig(
    name='+'.join(names),
    rate=rate,
    **{'patients': SIZES[base_size], **choices, **options},
  )
  config.recording()  # refuses what is out of range
  return config


class Synthetic(builder.EcgBuilder):
  """Simulated ECGs, see the module."""

  # Of the bytes: simulator 1.1.0 changed SBRAD, which is none of the classes.
  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILDER_CONFIGS = [
    synthetic_config(size) for size in ('small', 'tiny', 'medium')
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Nothing is needed.'
  DESCRIPTION = (
    'SYNTHETIC 12-lead ECGs, 10 s, from the simulator of ecgjax: eleven '
    'classes, patients with several ECGs. Schematic; not recordings, and no '
    'statement about patients may rest on them.'
  )
  LICENSE = 'Made by the Apache-2.0 code of ecgjax'
  OPTIONS = {'size': ('small', 'tiny, small or medium')}

  @classmethod
  def make_config(cls, rate, **options):
    return synthetic_config(cls.given(options).get('size', 'small'), rate)

  def _create_builder_config(self, builder_config, version):
    if not isinstance(builder_config, str):
      return builder_config or self.BUILDER_CONFIGS[0]
    match = _NAME.fullmatch(builder_config)
    if not match:
      raise ValueError(
        f'synthetic has no config {builder_config!r}; configs are named like '
        'small, tiny+single or medium+500hz'
      )
    return synthetic_config(match[1], match[2] or 100)

  def _info(self):
    config = self.builder_config
    info = super()._info()
    info.metadata.update(
      synthetic=True,
      generator=f'ecgjax.simulator.simulator {simulator.VERSION}',
      jax=jax.__version__,
      threefry_partitionable=True,
      seed=config.seed,
      labels=config.labels,
      prevalence=config.prevalence if config.labels == 'multi' else {},
      incident=list(config.incident) if config.labels == 'multi' else [],
      intra=config.intra,
      noise=config.noise,
    )
    return info

  def label_names(self):
    return list(simulator.CLASSES)

  def fetch(self, download_dir):
    return ''  # there is nothing to download

  def plan(self, raw_dir):
    del raw_dir
    people = self.builder_config.cohort()
    labels = simulator.labels(people.factors)[:, : len(simulator.CLASSES)]
    mask = np.ones(len(simulator.CLASSES), np.uint8)
    entries, self._rows = [], {}
    for patient, record, time, factors, label in zip(*people, labels):
      patient_id = f'p{patient:05d}'
      record_id = f'{patient_id}-{record}'
      self._rows[record_id] = (patient, record, factors)
      entries.append(
        builder.Entry(
          record_id=record_id,
          path=f'simulator/{record_id}',
          split=splits.hash_split('synthetic', patient_id),
          source='synthetic',
          patient_id=patient_id,
          time=float(time),
          labels=(label, mask),
        )
      )
    return builder.Plan(entries, [], 'patient', self.label_names())

  def _accepted(self, entries):
    """Simulates records; yields (entry, converted)."""
    for first in range(0, len(entries), _BATCH):
      part = entries[first : first + _BATCH]
      rows = [self._rows[entry.record_id] for entry in part]
      # Always full batches: compiled once.
      rows += rows[:1] * (_BATCH - len(rows))
      for entry, ecg in zip(part, self._simulate(*zip(*rows))):
        result = convert.from_millivolts(ecg)
        self._progress.update()
        self._tally.add(entry, result)
        yield entry, result

  def _simulate(self, patients, records, factors):
    config = self.builder_config
    # The same bytes whether or not there is a GPU.
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
      ecg, _ = simulator.batch(
        config.seed, patients, records, factors, config.recording()
      )
    return np.asarray(ecg)
