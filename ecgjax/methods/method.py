"""The interface of every pretext or supervised task."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ecgjax.ecg.contract import InputContract
from ecgjax.runtime import collectives
from ecgjax.runtime.resolve import resolve


@dataclasses.dataclass(frozen=True)
class Spec:
  """What a method is made for, beside its own options.

  Attributes:
    contract: what a row of `batch['ecg']` is; lead names are canonical.
    encoder: name of a module of `ecgjax.models`.
    encoder_kwargs: arguments of its `make`.
    bfloat16: whether the encoder computes in bfloat16, else in float32.
    batch_size: rows of the global batch.
    num_steps: updates of the whole run.
  """

  contract: InputContract
  encoder: str
  encoder_kwargs: Mapping[str, Any]
  bfloat16: bool = False
  batch_size: int = 1
  num_steps: int = 0

  def make_encoder(self):
    """The encoder, a linen module [B, L, C] -> [B, T, D].

    Raises:
      ValueError: if there is none of that name, or an argument is refused.
    """
    dtype = jnp.bfloat16 if self.bfloat16 else None
    make = resolve('models', self.encoder).make
    return make(**self.encoder_kwargs, dtype=dtype)


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


class InitFn(Protocol):
  """Draws the variables of a model."""

  def __call__(self, key, batch: dict) -> Variables:
    """Variables before the first step.

    Args:
      key: random key of the run's seed.
      batch: one or more rows as `loss` gets them; only shapes count.
    """


class LossFn(Protocol):
  """What training makes small."""

  def __call__(
    self, params, model_state, target, key, batch: dict, axis_name: str | None
  ) -> tuple[jax.Array, Aux]:
    """Loss of the global batch, equal on every device, and what goes with it.

    Args:
      params, model_state, target: as in `Variables`.
      key: of the step, the same on every device.
      batch: rows of this device: `ecg` [B, L, C] as the contract says, `record`
        and `patient` [B], `mask` [B] (0: padding), `label` and `label_mask`
        [B, K] where there are labels.
      axis_name: mapped axis over which the batch is split, or None.
    """


class PredictFn(Protocol):
  """What a trained model says of ECGs, each alone."""

  def __call__(self, params, model_state, batch: dict) -> dict[str, jax.Array]:
    """`features` [B, D] and, of a classifier, `logits` [B, K]."""


class ScheduleFn(Protocol):
  """A number for every step."""

  def __call__(self, step) -> Any:
    """Value at a step, which may be traced."""


class Method(NamedTuple):
  """A task as pure functions; all state goes in and comes out.

  Attributes:
    init, loss, predict: see their types.
    tau: weight that the EMA target keeps; None without a target.
    per_lead: whether `features` are those of each lead, one lead after the
      other, and depend on no other lead.
    labels: learns from labels: trains on the labelled records of the task;
      checkpoints carry class names.
    logits_loss: (logits [N, K], label [N, K], mask [N, K]) -> scalar: the loss
      of a classifier, given what `predict` says of any number of records;
      None where `predict` gives no logits.
    rows: what a training batch is made of: 'records', or 'patients' with
      several ECGs each.
    evaluators: modules of `ecgjax.evaluators` that judge such a model beside
      its probes.
    codec: the `models.codec.Codec` that it trains or works on, or None.
  """

  init: InitFn
  loss: LossFn
  predict: PredictFn
  tau: ScheduleFn | None = None
  per_lead: bool = False
  labels: bool = False
  logits_loss: Callable | None = None
  rows: str = 'records'
  evaluators: tuple[str, ...] = ()
  codec: Any = None


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
