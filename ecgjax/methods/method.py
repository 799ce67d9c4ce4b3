"""The interface of every pretext or supervised task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.runtime import collectives


class Variables(NamedTuple):
  """What `Method.init` returns: trees of arrays.

  Attributes:
    params: trained by the optimizer; top-level keys name the modules.
    model_state: BatchNorm statistics, codebooks, queues, ...
    target: None, or `{'params': ..., 'state': ...}` of the EMA target
      network; the keys of its params are a subset of those of `params`.
  """

  params: Any
  model_state: Any
  target: Any = None


class Aux(NamedTuple):
  """What `Method.loss` returns beside the loss."""

  model_state: Any  # after the step
  target_state: Any  # `target['state']` after the step, or None
  metrics: dict[str, jax.Array]  # scalars, equal on every device


class Method(NamedTuple):
  """A task as pure functions; all state goes in and comes out.

  Attributes:
    init: (key, batch) -> Variables
    loss: (params, model_state, target, key, batch, axis_name) -> (loss, Aux).
      The loss is that of the global batch and equal on every device.
    predict: (params, model_state, batch) -> {'features': [B, D],
      'logits'?: [B, K]}, in inference mode.
    tau: step -> weight that the EMA target keeps; None without a target.
    per_lead: whether `features` are those of each lead, one lead after the
      other, and depend on no other lead.
    labels: learns from labels: trains on the labelled records of the task;
      checkpoints carry class names.
    logits_loss: (logits [N, K], label [N, K], mask [N, K]) -> scalar: the loss
      of a classifier, given what `predict` says of any number of records;
      None where `predict` gives no logits.
    evaluators: modules of `ecgjax.evaluators` that judge such a model beside
      its probes.
  """

  init: Callable
  loss: Callable
  predict: Callable
  tau: Callable | None = None
  per_lead: bool = False
  labels: bool = False
  logits_loss: Callable | None = None
  evaluators: tuple[str, ...] = ()


def row_keys(key, num_rows: int, axis_name: str | None):
  """One key per row of the global batch, whatever the number of devices.

  Keys depend on the position in the batch and never on a record id, so that
  two copies of one record are augmented differently.
  """
  rows = collectives.global_row(num_rows, axis_name)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def cosine_tau(start: float, num_steps: int) -> Callable:
  """EMA weight from `start` to 1 (BYOL, Grill et al. 2020, section 3.2)."""

  def tau(step):
    progress = jnp.minimum(step / num_steps, 1.0)
    return 1 - (1 - start) * (jnp.cos(jnp.pi * progress) + 1) / 2

  return tau
