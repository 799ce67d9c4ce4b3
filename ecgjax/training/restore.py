"""Pretrained encoders into new models: converts or refuses, never guesses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import checkpoints
from ecgjax.config import to_json
from ecgjax.ecg.contract import InputContract
from ecgjax.models import lead_encoder
from ecgjax.runtime.resolve import resolve


def check_contract(
  pretrained: InputContract, wanted: InputContract, single_lead: bool
) -> None:
  """Refuses an encoder whose input was something else.

  Args:
    pretrained: contract in the checkpoint.
    wanted: contract of the new model.
    single_lead: the encoder sees one lead at a time, so that any leads will do
      as long as they are normalised together as before.

  Raises:
    ValueError: names the field that differs and the remedy.
  """
  for field, flag in (
    ('rate', '--config.data.rate'),
    ('length', '--config.data.length'),
    ('normalisation', '--config.data.normalisation'),
    ('leads', '--config.data.leads'),
  ):
    if field == 'leads' and single_lead:
      continue
    old, new = getattr(pretrained, field), getattr(wanted, field)
    if old != new:
      raise ValueError(
        f'config.init_from: the encoder was trained with {field} {old}, this '
        f'config has {new}; set {flag} to match'
      )


def make_initialise(config, method) -> Callable:
  """Returns `state -> state` that starts from the run `config.init_from`.

  A classifier takes the encoder (parameters and batch statistics); its head
  stays as it is. Any other run goes on with all that a run of its own method
  has learnt: parameters, statistics, codebooks and the target network, with a
  new optimizer. Which step of the run counts: see `checkpoints.load`. Every
  array must fit: nothing is skipped.

  Args:
    config: of the new run.
    method: of the new run.

  Raises:
    ValueError: if there is no valid checkpoint there or its input contract,
      method or encoder differs.
  """
  arrays, metadata = checkpoints.load(config.init_from)
  old, new = metadata['config']['model'], to_json(config.model)
  if old != new:
    raise ValueError(
      f'config.init_from: the encoder there is {old}, this config has {new}'
    )
  start = _whole_of if method.logits_loss is None else _encoder_of
  return start(config, method, arrays, metadata)


def _encoder_of(config, method, arrays, metadata) -> Callable:
  """The encoder of any run, for a classifier."""
  branches = config.supervised.branches
  check_contract(
    InputContract.from_json(metadata['contract']),
    InputContract.from_config(config),
    single_lead=method.per_lead,
  )
  if 'encoder' not in arrays['params']:
    raise ValueError(
      f'config.init_from: no encoder in {config.init_from}; it has '
      + ', '.join(arrays['params'])
    )
  encoder = {
    'params': arrays['params']['encoder'],
    'state': arrays['model_state'].get('encoder', {}),
  }
  if metadata['config'].get('supervised', {}).get('branches') != branches:
    encoder = lead_encoder.replicate(encoder, branches, len(config.data.leads))

  def initialise(state):
    expected = {
      'params': state.params['encoder'],
      'state': state.model_state['encoder'],
    }
    fitted = _fit(expected, encoder, config.init_from)
    return state.replace(
      params=state.params | {'encoder': fitted['params']},
      model_state=state.model_state | {'encoder': fitted['state']},
    )

  return initialise


def _whole_of(config, method, arrays, metadata) -> Callable:
  """All that a run of the same method has learnt."""
  if metadata['config']['method'] != config.method:
    raise ValueError(
      f'config.init_from: {config.init_from} holds a run of '
      f'{metadata["config"]["method"]}; one of {config.method} goes on from a '
      'run of its own method only'
    )
  module = resolve('methods', config.method)
  for name in getattr(module, 'PRETRAINED', {}):  # that run's would replace it
    raise ValueError(
      f'config.init_from: a {config.method} starts from '
      f'config.{config.method}.{name} alone; leave init_from out'
    )
  check_contract(
    InputContract.from_json(metadata['contract']),
    InputContract.from_config(config),
    single_lead=method.per_lead,
  )
  parts = ('params', 'model_state', 'target')
  found = {part: arrays.get(part) for part in parts}

  def initialise(state):
    expected = {part: getattr(state, part) for part in parts}
    fitted = _fit(expected, found, config.init_from)
    if 'queue' in fitted['model_state']:
      # Its embeddings are those of patients of the other run's data, who have
      # other numbers here.
      fresh = {'queue': state.model_state['queue']}
      fitted['model_state'] = fitted['model_state'] | fresh
    return state.replace(**fitted)

  return initialise


def _fit(expected, found, directory):
  """Arrays of a checkpoint in the structure of those that a model has."""
  flat = lambda tree: {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  arrays = flat(found)
  checkpoints.compare(flat(expected), arrays, where=str(directory))
  values = [jnp.asarray(arrays[name]) for name in flat(expected)]
  return jax.tree.unflatten(jax.tree.structure(expected), values)
