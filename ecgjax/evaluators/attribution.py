"""Where a classifier looks, on recordings whose waves are known.

Those are LUDB's, delineated by cardiologists lead by lead, and simulated ones
of the classes that the simulator shares with the classifier by name.
"""

import collections
import functools
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from scipy import ndimage

from ecgjax.data.batches import from_recording, run_data, stream
from ecgjax.data.raw import ludb_waves, validate
from ecgjax.ecg import delineation, leads, plot
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.ecg.recording import BadRecord
from ecgjax.formats import wfdb
from ecgjax.metrics import attribution
from ecgjax.model import Model, load
from ecgjax.report import attribution as attribution_report
from ecgjax.report import page
from ecgjax.report.finding import Finding
from ecgjax.simulator import simulator

logger = logging.getLogger(__name__)
OPTIONS = {
  'ludb_dir': '',  # LUDB's folder, to measure it on delineated waves
  'compare_with': '',  # a run of the same task, e.g. from scratch
}
TITLES = {
  'simulator': 'Simulated ECGs',
  'ludb': 'LUDB, delineated by cardiologists',
}
_PER_CLASS = 16  # simulated recordings
_SEED = 7_240_563  # of their population, which no data set uses
_MAX_PICTURES = 4
_SMOOTHING = 0.04  # seconds, in the plots only


def check(options, model: Model) -> None:
  """Refuses what cannot be done, before any work.

  Args:
    options: see `OPTIONS`.
    model: under test; one that is still to be trained has no classes yet.

  Raises:
    ValueError: names the field.
  """
  if model.method.logits_loss is None:
    raise ValueError(
      'config.evaluation.attribution: the checkpoint has no classifier; '
      'fine-tune it first (configs/supervised.py)'
    )
  if options['ludb_dir']:
    ludb_waves.read_diagnoses(options['ludb_dir'])
  if options['compare_with']:
    _load_other(options['compare_with'], model)


def _load_other(folder, model: Model) -> Model:
  other = load(folder)
  for field in ('contract', 'class_names'):
    mine, theirs = getattr(model, field), getattr(other, field)
    if mine and mine != theirs:
      raise ValueError(
        f'config.evaluation.compare_with: its {field} is {theirs}, that of '
        f'the model {mine}; only models of one task can be compared'
      )
  return other


def evaluate(run) -> Finding:
  """Attributions of the classifier: shares inside the waves, and pictures."""
  model, folder = run.model, run.options['compare_with']
  models = {'model': model}
  if folder:
    models['other'] = _load_other(folder, model)
  part = {
    name: attribution.measure([found], tuple(models), run.draws)
    for name, found in measure_shares(models, run.options['ludb_dir']).items()
  }
  said = run.outputs('model', 'test').probabilities
  pictures = draw(model, attributor(model), run.data, said)
  return Finding(
    fields={'attribution': part},
    sections=[attribution_report.section(part, TITLES, pictures)],
  )


def measure_shares(models: Mapping[str, Model], ludb_dir) -> dict:
  """`attribution.shares` of models of one task on all examples there are.

  Args:
    models: name -> restored, of one contract and one list of classes.
    ludb_dir: folder of LUDB, or ''.

  Returns:
    Name of the examples -> shares.
  """
  first = next(iter(models.values()))
  contract, class_names = first.contract, first.class_names
  attributors = {name: attributor(model) for name, model in models.items()}
  return {
    some.name: attribution.shares(attributors, some, contract, class_names)
    for some in _examples(contract, class_names, ludb_dir)
    if len(some.ecg)
  }


@functools.lru_cache(maxsize=1)  # a study asks once per cell
def _examples(contract, class_names, ludb_dir) -> list[attribution.Examples]:
  examples = [simulated_examples(contract, class_names)]
  if ludb_dir:
    examples.append(ludb_examples(contract, class_names, ludb_dir))
  return examples


def attributor(model: Model):
  """(ecg [B, L, C], classes [B]) -> attributions and change of the logit."""
  return functools.partial(
    _integrated_gradients(model.method), (model.params, model.model_state)
  )


@functools.lru_cache(maxsize=4)
def _integrated_gradients(method):
  """Compiled once per method, whatever the weights."""

  def logits(variables, ecg):
    return method.predict(*variables, {'ecg': ecg})['logits']

  return attribution.make_integrated_gradients(logits)


def simulated_examples(
  contract: InputContract, class_names: Sequence[str]
) -> attribution.Examples:
  """Simulated recordings of every class that the simulator has, too."""
  names = [
    name
    for name in class_names
    if name in simulator.ALL_CLASSES and name in delineation.DEFINING
  ]
  if contract.rate < 100:
    logger.warning('The simulator does not go below 100 Hz: left out')
    names = []
  if not names:
    empty = np.zeros((0, contract.length, len(contract.leads)), np.float32)
    return attribution.Examples('simulator', empty, np.zeros(0), (), ())
  each = [name for name in names for _ in range(_PER_CLASS)]
  ids = np.arange(len(each))
  config = simulator.Config(rate=contract.rate, length=contract.length)
  ecg, truth = simulator.batch(
    _SEED, ids, np.zeros_like(ids),
    [simulator.factors(name) for name in each], config,
  )  # fmt: skip
  truth = jax.device_get(truth)
  ecg = np.asarray(ecg)[..., list(leads.indices(contract.leads))]
  return attribution.Examples(
    'simulator',
    _normalise({'ecg': ecg}, contract),
    ids,
    tuple(frozenset([name]) for name in each),
    tuple(delineation.from_truth(truth, k, config.duration) for k in ids),
  )


def ludb_examples(
  contract: InputContract, class_names: Sequence[str], folder
) -> attribution.Examples:
  """LUDB's recordings with a diagnosis that the classifier knows."""
  labels, known, batch, patients = [], [], [], []
  remarks = collections.Counter()
  for name, diagnoses in ludb_waves.read_diagnoses(folder).items():
    diagnoses &= set(class_names)
    if not diagnoses:
      continue
    path = os.path.join('data', name)
    try:
      recording = wfdb.read_wfdb(
        path, os.fspath(folder), required=contract.leads
      )
      accepted = validate.check(recording, ludb_waves.RULES)
    except BadRecord as error:
      logger.warning('LUDB: %s', error)
      continue
    remarks.update(accepted.remarks)
    batch.append(from_recording.make_row(recording, accepted, contract))
    labels.append(diagnoses)
    known.append(
      delineation.from_events({
        lead: ludb_waves.read_events(pathlib.Path(folder) / path, lead)
        for lead in contract.leads
      })
    )  # fmt: skip
    patients.append(int(name))
  for remark, count in remarks.items():
    logger.info('LUDB: %d recordings: %s', count, validate.REMARKS[remark])
  if batch:
    batch = {k: np.stack([row[k] for row in batch]) for k in batch[0]}
  else:
    batch = from_recording.empty_batch(contract, 0)
  ecg = _normalise(batch, contract)
  return attribution.Examples(
    'ludb', ecg, np.array(patients), tuple(labels), tuple(known)
  )


@functools.partial(jax.jit, static_argnames='contract')
def _model_input(batch, contract: InputContract):
  return to_model_input(batch, contract)['ecg']


def _normalise(batch, contract: InputContract) -> np.ndarray:
  """[N, L, C] as the model sees a batch."""
  return np.asarray(_model_input(batch, contract))


def draw(model, attribute, data, probabilities) -> list[page.Picture]:
  """The surest right call of each class, the evidence drawn under it."""
  test = data.labelled['test']
  chosen = []  # (class name, its position in the classifier, test row)
  for k, name in enumerate(model.class_names):
    if name in test.class_names:
      column = test.class_names.index(name)
      positive = test.columns['label'][:, column] > 0
      if positive.any():
        sure = np.where(positive, probabilities[:, k], -1)
        chosen.append((name, k, int(np.argmax(sure))))
  chosen = chosen[:_MAX_PICTURES]
  if not chosen:
    return []
  _, classes, places = zip(*chosen)
  one = [np.array([[row]]) for row in places]
  parts = [next(stream.batches(test, [chunk])) for chunk in one]
  batch = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
  ecg = _normalise(batch, model.contract)
  size = attribution.BATCH_SIZE  # that of the compiled function
  values, _ = attribute(
    np.resize(ecg, (size, *ecg.shape[1:])), np.resize(classes, size)
  )
  width = max(1, round(_SMOOTHING * model.contract.rate))
  smooth = ndimage.uniform_filter1d(np.abs(values), width, axis=1)
  pictures = []
  for (name, k, row), evidence in zip(chosen, smooth):
    drawn = run_data.load_recording(data, 'test', test.record_ids[row])
    shown = np.zeros(drawn['ecg'].shape)
    columns = list(leads.indices(model.contract.leads))
    shown[: len(evidence), columns] = evidence
    pictures.append(
      page.Picture(
        plot.plot_ecg(**drawn, attribution=shown),
        f'{name}: probability {probabilities[row, k]:.3f}, the highest of its '
        'test ECGs. Blue: |integrated gradients| of its logit, mean over '
        f'{1000 * _SMOOTHING:g} ms.',
        png=True,
      )
    )
  return pictures
