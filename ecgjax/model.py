"""The one type of a model, from a checkpoint or just made, and what it says.

What a checkpoint expects and what it can say are part of it, so that nothing
has to be configured again: see `checkpoints` for what is stored.
"""

import dataclasses
import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import tqdm

from ecgjax import checkpoints
from ecgjax.config import from_json, method_options
from ecgjax.data.batches import stream
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.ecg.leads import canonical
from ecgjax.ecg.resample import resample_signal
from ecgjax.methods.method import Method, Spec
from ecgjax.runtime.resolve import resolve
from ecgjax.training import train_state

BATCH_SIZE = 256  # of `over_split`


class Model(NamedTuple):
  """A method with weights, what it expects and what it can say.

  Attributes:
    method: its functions.
    contract: the input that it was made for.
    params: weights, a tree of arrays.
    model_state: batch statistics, codebooks, ...
    class_names: of the classifier; () without one.
    thresholds: [K] of the classifier, chosen on validation; None if unknown.
    config: of the run that made it; None if nothing was configured.
    step: updates of `params` so far.
    fingerprint: sha256 of its training data, '' if unknown.
    num_labels: number of classes in the labels that it was trained with. A
      prior has some, too, but no `class_names`.
    figures: name -> figure on validation that training kept with it.
  """

  method: Method
  contract: InputContract
  params: Any
  model_state: Any
  class_names: tuple[str, ...] = ()
  thresholds: np.ndarray | None = None
  config: ml_collections.ConfigDict | None = None
  step: int = 0
  fingerprint: str = ''
  num_labels: int = 0
  figures: Mapping[str, float] = types.MappingProxyType({})

  @property
  def digest(self) -> str:
    """sha256 of `params` and `model_state`."""
    return checkpoints.digest([self.params, self.model_state])

  def of(self, state) -> 'Model':
    """The model with the weights, statistics and step of a `TrainState`."""
    return self._replace(
      params=state.params, model_state=state.model_state, step=int(state.step)
    )


class Outputs(NamedTuple):
  """What a model says of every record of a split, in stored order.

  Attributes:
    features: [N, D].
    probabilities: [N, K], or None where the method has no classifier.
    logits: [N, K], or None as well.
  """

  features: np.ndarray
  probabilities: np.ndarray | None
  logits: np.ndarray | None = None


def load(path) -> Model:
  """Loads a model from the checkpoint of a run.

  Args:
    path: a work folder or its `checkpoints` folder, for the step that the run's
      own `config.evaluate_checkpoint` means; or the folder of one step.

  Raises:
    ValueError: if there is no valid checkpoint, its arrays are not those of
      the model that its config describes or not finite, or its config lacks a
      field.
  """
  arrays, metadata = checkpoints.load(path)
  config = from_json(metadata['config'])
  try:
    method = make_method(config)
  except AttributeError as error:  # of ConfigDict, naming the field
    raise ValueError(
      f'{path} was trained with another version of ecgjax '
      f'({metadata.get("version")}): its config has no field {error}'
    ) from None
  contract = InputContract.from_json(metadata['contract'])
  class_names = tuple(metadata.get('class_names', ()))
  num_labels = metadata.get('num_labels', len(class_names))
  if method.logits_loss is None:  # a prior has classes and no classifier
    class_names = ()
  expected = jax.eval_shape(
    lambda: _initial(method, config, contract, num_labels)
  )
  parts = ('params', 'model_state')
  checkpoints.compare(
    _flat({part: getattr(expected, part) for part in parts}),
    _flat({part: arrays[part] for part in parts}),
    where=str(path),
  )
  for name, leaf in _flat({part: arrays[part] for part in parts}).items():
    if not jnp.isfinite(leaf).all():
      raise ValueError(
        f'{path}: {name} holds numbers that are not finite; take an '
        'earlier step of the run'
      )
  params, model_state = (jax.tree.map(jnp.asarray, arrays[p]) for p in parts)
  return Model(
    method, contract, params, model_state, class_names, None, config,
    int(arrays['step']), metadata.get('fingerprint', ''), num_labels,
    metadata['metrics'],
  )  # fmt: skip


def untrained(model: Model) -> Model:
  """The model before its first step, with the weights of its seed."""
  return make_untrained(model.config, model.class_names)


def make_untrained(config, class_names: tuple[str, ...] = ()) -> Model:
  """The model of a config before its first step."""
  method, contract = make_method(config), spec_of(config).contract
  state = jax.jit(
    lambda: _initial(method, config, contract, len(class_names))
  )()
  return Model(
    method, contract, state.params, state.model_state, class_names,
    config=config, num_labels=len(class_names),
  )  # fmt: skip


def outputs(model: Model, batch, leads: Sequence[str] = ()) -> dict:
  """What `Method.predict` says of a batch; compiled once per method.

  Args:
    model: any.
    batch: `ecg` [B, L, C] and, of stored records, how to read it; see
      `ecg.contract.to_model_input`.
    leads: of the batch, as the contract calls and orders them; () for all that
      the contract names. Some of them will do where features are those of
      single leads: they are normalised together, and `features`, which is all
      that is said then, are theirs.

  Raises:
    ValueError: if some leads will not do.
  """
  leads = tuple(leads) or model.contract.leads
  predict = _compiled(model.method, model.contract, leads)
  return predict(model.params, model.model_state, batch)


@functools.lru_cache(maxsize=8)
def _compiled(method, contract: InputContract, leads: tuple[str, ...]):
  used = dataclasses.replace(contract, leads=leads)
  all_leads = leads == contract.leads
  if not all_leads and not method.per_lead:
    raise ValueError(
      f'the model needs {", ".join(contract.leads)}; {", ".join(leads)} will '
      'not do'
    )

  @jax.jit
  def predict(params, model_state, batch):
    batch = to_model_input(batch, used)
    if all_leads:
      return method.predict(params, model_state, batch)
    # The weights of a lead have their place; the other leads stay flat.
    columns = np.array([contract.leads.index(name) for name in leads])
    ecg = batch['ecg']
    flat = jnp.zeros((*ecg.shape[:2], len(contract.leads)))
    batch = batch | {'ecg': flat.at[..., columns].set(ecg)}
    features = method.predict(params, model_state, batch)['features']
    each = features.reshape(len(ecg), len(contract.leads), -1)  # [B, C, D]
    return {'features': each[:, columns].reshape(len(ecg), -1)}

  return predict


def as_batch(contract: InputContract, ecg, rate: float, leads) -> dict:
  """ECGs in memory as the input contract asks for them.

  Args:
    contract: what a model expects.
    ecg: [N, T, C] millivolts, every sample recorded.
    rate: Hz; another one is resampled, polyphase.
    leads: names of the C leads, in any order and spelling; others than those
      of the contract are left out.

  Returns:
    `ecg` float32 [N, length, leads of the contract], of which a longer one
    gives its first samples; where it is shorter, it ends with zeros, and
    `valid_start` and `valid_len` [N] say what was recorded.

  Raises:
    ValueError: if a lead of the contract is missing, a sample is not finite or
      the shape is another.
  """
  ecg, names = np.asarray(ecg, np.float32), [canonical(name) for name in leads]
  if ecg.ndim != 3 or ecg.shape[2] != len(names):
    raise ValueError(
      f'ecg has shape {ecg.shape}; expected (ECGs, samples, leads) with the '
      f'{len(names)} leads {", ".join(names)}'
    )
  missing = [name for name in contract.leads if name not in names]
  if missing:
    raise ValueError(
      f'ecg has no lead {missing[0]}; the model needs '
      f'{", ".join(contract.leads)}'
    )
  if not np.isfinite(ecg).all():
    raise ValueError('ecg holds samples that are not finite; leave them out')
  ecg = ecg[..., [names.index(name) for name in contract.leads]]
  ecg = resample_signal(ecg, rate, contract.rate, axis=1)[:, : contract.length]
  recorded = ecg.shape[1]
  if recorded == contract.length:
    return {'ecg': ecg}
  rest = contract.length - recorded
  return {
    'ecg': np.pad(ecg, ((0, 0), (0, rest), (0, 0))),
    'valid_start': np.zeros(len(ecg), np.int32),
    'valid_len': np.full(len(ecg), recorded, np.int32),
  }


def features(model: Model, ecg, rate: float, leads) -> np.ndarray:
  """Features [N, D] of ECGs in memory.

  Args:
    model: any.
    ecg: [N, T, C] millivolts, every sample recorded.
    rate: Hz.
    leads: names of the C leads; see `as_batch`.

  Raises:
    ValueError: see `as_batch`.
  """
  batch, found = as_batch(model.contract, ecg, rate, leads), []
  for first in range(0, len(ecg), BATCH_SIZE):
    part = {k: v[first : first + BATCH_SIZE] for k, v in batch.items()}
    count = len(part['ecg'])
    part = {
      k: np.resize(v, (BATCH_SIZE, *v.shape[1:])) for k, v in part.items()
    }
    rows = outputs(model, part)['features'][:count]
    found.append(np.asarray(rows, np.float32))
  return np.concatenate(found)


def over_split(model: Model, split, name: str = '') -> Outputs:
  """Runs a model over one split.

  Args:
    model: any.
    split: `data.batches.stream.Split`, opened for the model's contract.
    name: before the progress bar.
  """
  said: dict[str, list] = {name: [] for name in Outputs._fields}
  total = -(-len(split) // BATCH_SIZE)
  batches = stream.eval_batches(split, BATCH_SIZE)
  for batch in tqdm.tqdm(
    batches, total=total, desc=f'{name} {split.name}', leave=False, disable=None
  ):
    rows = jax.device_get(outputs(model, batch))
    keep = batch['mask'] > 0
    for field, parts in said.items():
      if field in rows:
        parts.append(np.asarray(rows[field], np.float32)[keep])
  features, *others = said.values()
  join = lambda parts: np.concatenate(parts) if parts else None
  return Outputs(np.concatenate(features), *map(join, others))


def _initial(method, config, contract, num_labels: int):
  """State of a run before its first step; the optimizer aside."""
  example = {
    'ecg': jnp.zeros((1, contract.length, len(contract.leads))),
    'record': jnp.zeros(1, jnp.int32),
    'patient': jnp.zeros(1, jnp.int32),
    'mask': jnp.ones(1),
    'label': jnp.zeros((1, max(1, num_labels))),
  }
  return train_state.create_train_state(
    method, optax.identity(), config.seed, example
  )


def _flat(tree) -> dict:
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def make_method(config) -> Method:
  """The method of a config; every method is made here.

  Raises:
    ValueError: if an option or the data do not suit it, or a trained model that
      it builds on is not there.
  """
  module = resolve('methods', config.method)
  options = method_options(config)
  trained = {}
  for name, kind in getattr(module, 'PRETRAINED', {}).items():
    where = f'config.{config.method}.{name}'
    if not options[name]:
      raise ValueError(
        f'{where} is empty; give the work folder of a {kind} run'
      )
    trained[name] = load(options[name])
    found = trained[name].config.method
    if found != kind:
      raise ValueError(
        f'{where}: {options[name]} holds a {found} run; give one of {kind}'
      )
  return module.make(options, spec_of(config), **trained)


def spec_of(config) -> Spec:
  """What the method of a config is made for."""
  return Spec(
    contract=InputContract.from_config(config),
    encoder=config.model.name,
    encoder_kwargs=config.model.kwargs.to_dict(),
    bfloat16=config.bfloat16,
    batch_size=config.batch_size,
    num_steps=config.num_steps,
  )
