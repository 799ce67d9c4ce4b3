"""The one type of a model, from a checkpoint or just made, and what it says.

What a checkpoint expects and what it can say are part of it, so that nothing
has to be configured again: see `checkpoints` for what is stored.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from ecgjax import __version__, checkpoints
from ecgjax.config import from_json, method_options, to_json
from ecgjax.data.batches import from_recording, stream
from ecgjax.ecg.contract import InputContract, check_input, to_model_input
from ecgjax.methods.method import Method, Spec
from ecgjax.models import lead_encoder
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
    config: ConfigDict of the run that made it; None if none did.
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
  config: Any = None
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

  def metadata(self) -> dict[str, Any]:
    """What `load` reads of a checkpoint beside its arrays, as JSON."""
    return {
      'config': to_json(self.config),
      'contract': self.contract.to_json(),
      'fingerprint': self.fingerprint,
      'class_names': list(self.class_names),
      'num_labels': self.num_labels,
      'version': __version__,
    }


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
    theirs = trained[name].config
    found = theirs.method if theirs else ''
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


def load(path) -> Model:
  """Loads a model from the checkpoint of a run.

  Args:
    path: a work folder or its `checkpoints` folder, for the step that the run's
      own `config.evaluate_checkpoint` means; or the folder of one step.

  Raises:
    ValueError: if there is no valid checkpoint, its arrays are not those of
      the model that its config describes or not finite, or this version has
      no such model.
  """
  return _read(path)[0]


def _read(path) -> tuple[Model, dict]:
  """A model, and all arrays of its checkpoint."""
  arrays, metadata = checkpoints.load(path)
  config = from_json(metadata['config'])
  method = make_method(config)
  contract = InputContract.from_json(metadata['contract'])
  class_names = tuple(metadata.get('class_names', ()))
  num_labels = metadata.get('num_labels', len(class_names))
  if method.logits_loss is None:  # a prior has classes and no classifier
    class_names = ()
  expected = jax.eval_shape(
    lambda: _initial(method, config, contract, num_labels)
  )
  parts = ('params', 'model_state')
  found = {part: arrays[part] for part in parts}
  fitted = checkpoints.fit(
    {p: getattr(expected, p) for p in parts}, found, path
  )
  for name, leaf in jax.tree_util.tree_leaves_with_path(fitted):
    if not jnp.isfinite(leaf).all():
      name = jax.tree_util.keystr(name, simple=True, separator='/')
      raise ValueError(
        f'{path}: {name} holds numbers that are not finite; take an '
        'earlier step of the run'
      )
  model = Model(
    method, contract, fitted['params'], fitted['model_state'], class_names,
    None, config, int(arrays['step']), metadata.get('fingerprint', ''),
    num_labels, metadata['metrics'],
  )  # fmt: skip
  return model, arrays


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


def initialise_from(path, config, method: Method) -> Callable:
  """Returns `state -> state` that starts from a trained model.

  A classifier takes the encoder (parameters and batch statistics); its head
  stays as it is. Any other method goes on with all that a run of its own has
  learnt: parameters, statistics, codebooks and the target network, with a new
  optimizer. Every array must fit: nothing is skipped.

  Args:
    path: see `load`.
    config: of the new run.
    method: of the new run.

  Raises:
    ValueError: if there is no valid checkpoint or its input contract, method or
      encoder differs.
  """
  model, arrays = _read(path)
  old, new = to_json(model.config.model), to_json(config.model)
  if old != new:
    raise ValueError(
      f'config.init_from: the encoder there is {old}, this config has {new}'
    )
  if method.logits_loss is None:
    _check_same_method(path, model, config.method)
  check_input(model.contract, spec_of(config).contract, method.per_lead)
  if method.logits_loss is None:
    parts = ('params', 'model_state', 'target')
    return functools.partial(_go_on, {p: arrays.get(p) for p in parts}, path)
  return functools.partial(_take_encoder, _encoder(path, model, config), path)


def _check_same_method(path, model: Model, method: str) -> None:
  """Refuses to go on from another method, or where there is nothing to."""
  theirs = model.config.method
  if theirs != method:
    raise ValueError(
      f'config.init_from: {path} holds a run of {theirs}; one of {method} goes '
      'on from a run of its own method only'
    )
  module = resolve('methods', method)
  for name in getattr(module, 'PRETRAINED', {}):  # that run's would replace it
    raise ValueError(
      f'config.init_from: a {method} starts from config.{method}.{name} alone; '
      'leave init_from out'
    )


def _encoder(path, model: Model, config) -> dict:
  """`params` and `state` of a trained encoder, one per lead if asked for."""
  if 'encoder' not in model.params:
    raise ValueError(
      f'config.init_from: no encoder in {path}; it has '
      + ', '.join(model.params)
    )
  state = model.model_state.get('encoder', {})
  encoder = {'params': model.params['encoder'], 'state': state}
  branches = method_options(config).get('branches', 'joint')
  if model.config.get(config.method, {}).get('branches') != branches:
    leads = len(config.data.leads)
    encoder = lead_encoder.replicate(encoder, branches, leads)
  return encoder


def _take_encoder(encoder: dict, path, state):
  """A classifier's state with another encoder."""
  expected = {
    'params': state.params['encoder'],
    'state': state.model_state['encoder'],
  }
  fitted = checkpoints.fit(expected, encoder, path)
  return state.replace(
    params=state.params | {'encoder': fitted['params']},
    model_state=state.model_state | {'encoder': fitted['state']},
  )


def _go_on(found: dict, path, state):
  """A state with all that a run of the same method has learnt."""
  fitted = checkpoints.fit(
    {part: getattr(state, part) for part in found}, found, path
  )
  if 'queue' in fitted['model_state']:
    # Its embeddings are those of patients of the other run's data, who have
    # other numbers here.
    fresh = {'queue': state.model_state['queue']}
    fitted['model_state'] = fitted['model_state'] | fresh
  return state.replace(**fitted)


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


def features(model: Model, ecg, rate: float, leads) -> np.ndarray:
  """Features [N, D] of ECGs in memory.

  Args:
    model: any.
    ecg: [N, T, C] millivolts, every sample recorded.
    rate: Hz.
    leads: names of the C leads; see `from_recording.make_batch`.

  Raises:
    ValueError: see `from_recording.make_batch`.
  """
  batch = from_recording.make_batch(ecg, rate, leads, model.contract)
  found = []
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
