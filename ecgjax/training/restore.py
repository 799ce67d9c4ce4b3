"""Pretrained encoders into new models: converts or refuses, never guesses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import config as config_lib
from ecgjax.inputs import InputContract
from ecgjax.models import lead_encoder
from ecgjax.training import checkpoints


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


def make_initialise(config) -> Callable:
  """Returns `state -> state` with the encoder of `config.init_from`.

  Only the encoder (parameters and batch statistics) is taken; heads stay as
  they are. Every array must fit: nothing is skipped.

  Raises:
    ValueError: if there is no valid checkpoint there or its input contract or
      encoder differs.
  """
  arrays, metadata = checkpoints.load(config.init_from)
  branches = config.supervised.branches
  check_contract(
    InputContract.from_json(metadata['contract']),
    InputContract.from_config(config),
    single_lead=branches != 'joint',
  )
  old, new = metadata['config']['model'], config_lib.to_json(config.model)
  if old != new:
    raise ValueError(
      f'config.init_from: the encoder there is {old}, this config has {new}'
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
    flat = lambda tree: {
      jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    expected = {
      'params': state.params['encoder'],
      'state': state.model_state['encoder'],
    }
    checkpoints.compare(
      flat(expected), flat(encoder), where=str(config.init_from)
    )
    return state.replace(
      params=state.params
      | {'encoder': jax.tree.map(jnp.asarray, encoder['params'])},
      model_state=state.model_state
      | {'encoder': jax.tree.map(jnp.asarray, encoder['state'])},
    )

  return initialise
