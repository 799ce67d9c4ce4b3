"""A trained model from its checkpoint alone: method, weights, input contract.

What a checkpoint expects and what it can say are part of it, so that nothing
has to be configured again: see `checkpoints` for what is stored.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from ecgjax import checkpoints
from ecgjax.config import from_json
from ecgjax.ecg.contract import InputContract
from ecgjax.methods.method import Method
from ecgjax.runtime.resolve import resolve
from ecgjax.training import train_state


class Restored(NamedTuple):
  """A trained model.

  Attributes:
    method: of the run.
    contract: its input contract.
    params: as trained.
    model_state: as trained.
    step: of the checkpoint.
    class_names: of the classifier; () without one.
    config: of the run.
    digest: sha256 of `params` and `model_state`.
    fingerprint: sha256 of its training data.
    num_labels: width of the labels that it was trained with; other than
      classes of a classifier, those of a prior have no names here.
  """

  method: Method
  contract: InputContract
  params: Any
  model_state: Any
  step: int
  class_names: tuple[str, ...]
  config: ml_collections.ConfigDict
  digest: str
  fingerprint: str = ''
  num_labels: int = 0


def restore_model(directory) -> Restored:
  """Restores a whole model for evaluation.

  Args:
    directory: a work folder or its `checkpoints` folder, for the step that the
      run's own `config.evaluate_checkpoint` means; or the folder of one step.

  Raises:
    ValueError: if there is no valid checkpoint, its arrays are not those of
      the model that its config describes or not finite, or its config lacks a
      field.
  """
  arrays, metadata = checkpoints.load(directory)
  config = from_json(metadata['config'])
  try:
    method = resolve('methods', config.method).make(config)
  except AttributeError as error:  # of ConfigDict, naming the field
    raise ValueError(
      f'{directory} was trained with another version of ecgjax '
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
    where=str(directory),
  )
  for name, leaf in _flat({part: arrays[part] for part in parts}).items():
    if not jnp.isfinite(leaf).all():
      raise ValueError(
        f'{directory}: {name} holds numbers that are not finite; take an '
        'earlier step of the run'
      )
  params, model_state = (jax.tree.map(jnp.asarray, arrays[p]) for p in parts)
  return Restored(
    method, contract, params, model_state, int(arrays['step']), class_names,
    config, checkpoints.digest([params, model_state]),
    metadata.get('fingerprint', ''), num_labels,
  )  # fmt: skip


def untrained(model: Restored) -> Restored:
  """The model before its first step, with the weights of its seed."""
  return make_untrained(model.config, model.class_names)


def make_untrained(config, class_names: tuple[str, ...] = ()) -> Restored:
  """The model of a config before its first step."""
  method = resolve('methods', config.method).make(config)
  contract = InputContract.from_config(config)
  state = jax.jit(
    lambda: _initial(method, config, contract, len(class_names))
  )()
  return Restored(
    method, contract, state.params, state.model_state, 0, class_names, config,
    checkpoints.digest([state.params, state.model_state]),
  )  # fmt: skip


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
