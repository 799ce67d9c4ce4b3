"""The one train step, for every method, and several of them at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.methods.method import Method
from ecgjax.runtime import collectives, parallel


def make_train_step(
  method: Method, optimizer, contract: InputContract
) -> Callable:
  """Returns the pure step `(state, batch, axis_name) -> (state, metrics)`.

  The batch is what the input pipeline yields. An update that would bring a
  non-finite number into the state is not made: the state then changes in
  nothing but the step, and the metric `nonfinite` is 1.
  """

  def train_step(state, batch, axis_name=None):
    key = jax.random.fold_in(state.rng, state.step)
    batch = to_model_input(batch, contract)
    (loss, aux), gradients = jax.value_and_grad(method.loss, has_aux=True)(
      state.params, state.model_state, state.target, key, batch, axis_name
    )
    gradients = collectives.pmean(gradients, axis_name)
    updates, opt_state = optimizer.update(
      gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    target = state.target
    if target is not None:
      weight = method.tau(state.step)
      ema = lambda old, new: weight * old + (1 - weight) * new
      online = {name: params[name] for name in target['params']}
      target = {
        'params': jax.tree.map(ema, target['params'], online),
        'state': aux.target_state,
      }
    new = (params, aux.model_state, opt_state, target)
    old = (state.params, state.model_state, state.opt_state, state.target)
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    params, model_state, opt_state, target = new
    metrics = aux.metrics | {
      'loss': loss,
      'gradient_norm': norm,
      'nonfinite': 1 - finite.astype(jnp.float32),
    }
    state = state.replace(
      step=state.step + 1,
      params=params,
      model_state=model_state,
      opt_state=opt_state,
      target=target,
    )
    return state, metrics

  return train_step


def make_train_steps(step: Callable) -> Callable:
  """Several steps as one program, for accelerators that outrun their host.

  Args:
    step: `(state, batch, axis_name) -> (state, metrics)`.

  Returns:
    `(state, batches, axis_name) -> (state, metrics)`: one step for each of the
    k batches of the tuple; every metric is [k].
  """

  def steps(state, batches, axis_name=None):
    if len(batches) == 1:  # XLA computes less well inside a loop on CPU
      state, metrics = step(state, batches[0], axis_name)
      return state, jax.tree.map(lambda x: x[None], metrics)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    return jax.lax.scan(lambda s, b: step(s, b, axis_name), state, stacked)

  return steps


def make_update(
  method: Method,
  optimizer,
  contract: InputContract,
  mode: str,
  whole_below: int = 0,
) -> Callable:
  """Returns `(state, batches) -> (state, metrics)`, on all devices.

  The batches are a tuple; every metric has one value for each of them. `mode`
  and `whole_below`: see `parallel.data_parallel`.
  """
  step = make_train_step(method, optimizer, contract)
  return parallel.data_parallel(
    make_train_steps(step), mode, whole_below=whole_below
  )
