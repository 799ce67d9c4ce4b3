"""The state with which a run goes on: a new one, or that of its last save."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax import checkpoints
from ecgjax.runtime import processes
from ecgjax.training import train_state
from ecgjax.training.workdir import first_difference

logger = logging.getLogger(__name__)


class Beginning(NamedTuple):
  """States of a run that is about to train.

  Attributes:
    initial: with random weights.
    start: of step 0, after `initialise`.
    state: to go on with; its memory is nobody else's.
    losses: of the steps since the last evaluation.
  """

  initial: train_state.TrainState
  start: train_state.TrainState
  state: train_state.TrainState
  losses: list[float]


def create_or_resume(
  fresh: tuple,
  initialise: Callable | None,
  checkpointer: checkpoints.Checkpointer,
  metadata: dict,
  workdir,
) -> Beginning:
  """Makes the states of a run, the last one as its newest checkpoint has it.

  Args:
    fresh: arguments of `train_state.create_train_state`.
    initialise: state -> state with pretrained weights, or None.
    checkpointer: of the run.
    metadata: of the run's checkpoints; `config` and `fingerprint` must be those
      of the newest one.
    workdir: of the run, for its log and errors.

  Raises:
    ValueError: if it is of another run, or other data.
  """
  initial = jax.jit(lambda: train_state.create_train_state(*fresh))()
  start = initialise(initial) if initialise is not None else initial
  latest = processes.from_first(checkpointer.latest_step)
  if latest is None:
    return Beginning(initial, start, jax.tree.map(jnp.copy, start), [])

  def restore():
    saved = checkpointer.metadata(latest)
    difference = first_difference(saved['config'], metadata['config'])
    if difference:
      raise ValueError(
        f'{checkpointer.directory / str(latest)} is of another run '
        f'({difference}); remove it or choose another --workdir'
      )
    there, here = saved['fingerprint'], metadata['fingerprint']
    if there != here:
      raise ValueError(
        f'{workdir} was trained on other data (fingerprint {there[:12]}, now '
        f'{here[:12]}); choose another --workdir'
      )
    return checkpointer.restore(initial, latest), saved['loss_history']

  state, losses = processes.on_all(restore)
  last = metadata['config']['num_steps']
  logger.info('Resumed %s at step %d of %d', workdir, latest, last)
  return Beginning(initial, start, state, losses)
