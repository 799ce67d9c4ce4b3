"""The one training loop, for every method and every source of batches."""

import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from ecgjax import __version__, checkpoints
from ecgjax.checkpoints import best_mode
from ecgjax.config import check, to_json
from ecgjax.methods.method import Method
from ecgjax.model import Model, initialise_from, make_method, spec_of
from ecgjax.runtime import parallel, preemption, processes
from ecgjax.runtime.resolve import resolve
from ecgjax.training import (
  metric_writers,
  optimizers,
  progress,
  train_state,
  train_step,
)
from ecgjax.training import workdir as workdir_lib

logger = logging.getLogger(__name__)


class Interrupted(Exception):
  """SIGTERM or Ctrl-C: the state is saved, the same command resumes."""


class NonFiniteLoss(Exception):
  """The loss or its gradient is not finite; no state after it is saved."""


def train_and_evaluate(config, workdir) -> dict | None:
  """One run: data, training, the test split once, results and report.

  The same command again resumes an interrupted run and leaves a finished one
  as it is.

  Args:
    config: see `ecgjax.config.common`.
    workdir: folder of this run.

  Returns:
    The results, on every process.

  Raises:
    ValueError: if config, data or work folder are off; nothing is written.
    Interrupted, NonFiniteLoss: see `train`.
  """
  from ecgjax import evaluate
  from ecgjax.data.batches import run_data

  check.check(config, 'train')
  workdir = pathlib.Path(workdir)

  def read_finished():
    workdir_lib.check(config, workdir)
    return workdir_lib.read_results(workdir)

  finished = processes.from_first(read_finished)
  if finished:
    logger.info('%s is finished; see %s', workdir, workdir / 'results.json')
    return finished
  method = fitting_method(config)  # mistakes come before the work of a data set
  contract = spec_of(config).contract
  evaluate.choose_evaluators(
    config, Model(method, contract, {}, {}, config=config), method.evaluators
  )
  data = processes.on_all(lambda: run_data.open_data(config.data))
  trained = train_on(config, workdir, data)
  # The others wait: JAX ends all of them if one leaves long before another.
  return processes.from_first(
    lambda: evaluate.evaluate_run(config, trained, data, workdir)
  )


def fitting_method(config) -> Method:
  """The method of a config, which must fit what it learns from.

  Raises:
    ValueError: if it needs labels and none are named, has none and is to use
      them, or never computes `config.best_metric`.
  """
  from ecgjax import evaluate
  from ecgjax.data.batches import run_data

  method = make_method(config)
  for field in ('extra', 'oversample'):
    if config.data[field] and not method.labels:
      raise ValueError(
        f'config.data.{field} needs a supervised config, this is one of '
        f'{config.method}'
      )
  if method.labels:
    run_data.require_task(config.data.task)
  computed = ('train_loss', *evaluate.validation_metrics(method))
  if config.best_metric not in computed:
    raise ValueError(
      f'config.best_metric is {config.best_metric!r}; a run of {config.method} '
      f'computes {", ".join(computed)}'
    )
  return method


def train_on(config, workdir, data, description: str = '') -> 'Trained':
  """Trains on an opened data set (`data.batches.run_data.RunData`), or resumes.

  A method that learns from labels sees the labelled training records, a pretext
  task all of them.

  Raises:
    ValueError, Interrupted, NonFiniteLoss: see `train`.
  """
  resolved, options = processes.on_all(lambda: _set_up(config, workdir, data))
  return train(resolved, workdir, **options, description=description)


def _set_up(config, workdir, data) -> tuple:
  """Resolved config and arguments of `train`; creates the work folder."""
  from ecgjax import evaluate
  from ecgjax.data.batches import extra, run_data, shuffle, split
  from ecgjax.data.batches.patient_index import PatientOptions

  check.check(config, 'train')
  workdir_lib.check(config, workdir)
  method = fitting_method(config)
  labels = method.labels
  splits = data.labelled if labels else data.splits
  training = extra.join(splits['train'], extra.open_extra(config.data, data))
  order = shuffle.Order(
    config.batch_size,
    config.seed,
    jax.process_index(),
    jax.process_count(),
    keep_remainder=config.keep_remainder,
  )
  of_patients = None
  if method.rows == 'patients':
    group = config.method
    of_patients = PatientOptions.from_group(config[group], group)
  batches = run_data.make_batches(
    training,
    splits['validation'],
    order,
    of_patients=of_patients,
    oversample=config.data.oversample,
    on_device=config.data.resident and jax.device_count() == 1,
    real=splits['train'],
  )
  resolved = config.copy_and_resolve_references()
  resolved.num_steps = config.num_steps or (
    config.num_epochs * batches.steps_per_epoch
  )
  module = resolve('methods', config.method)
  if hasattr(module, 'from_data'):
    options = resolved[config.method]
    options.update(module.from_data(options, training.columns))
  optimizers.make_optimizer(resolved.optimizer, resolved.num_steps)
  method = make_method(resolved)
  contract = spec_of(config).contract
  validate = evaluate.make_validate(
    method, contract, splits['validation'], batches.validate
  )
  start = config.init_from
  initialise = initialise_from(start, config, method) if start else None
  workdir_lib.create(config, workdir)
  return resolved, {
    'batches': batches.train,
    'validate': validate,
    'initialise': initialise,
    'fingerprint': split.fingerprint(training)['sha256'],
    'class_names': splits['train'].class_names if labels else (),
  }


class Trained(NamedTuple):
  """What `train` returns.

  Attributes:
    model: after the last step.
    initial: with random weights.
    start: before the first step, after `initialise`.
    state: TrainState after the last step.
    checkpointer: of the run.
    examples_per_second: ECGs of all devices, compilation and evaluation aside.
    wall_seconds: of this process.
  """

  model: Model
  initial: Model
  start: Model
  state: train_state.TrainState
  checkpointer: checkpoints.Checkpointer
  examples_per_second: float
  wall_seconds: float


def train(
  config,
  workdir,
  batches: Callable[[int], Iterator[dict]],
  *,
  validate: Callable | None = None,
  initialise: Callable | None = None,
  fingerprint: str = '',
  class_names: Sequence[str] = (),
  description: str = '',
) -> Trained:
  """Trains `config.method` for `config.num_steps` updates, or resumes it.

  Args:
    config: see `ecgjax.config.common`; `num_steps` must be set.
    workdir: `checkpoints/` and `metrics.jsonl` are written here.
    batches: start step -> iterator of NumPy batches from that step on; each
      holds this process's rows of the global batch.
    validate: state -> dict of `validation_*` figures, called with every
      checkpoint; None trains without.
    initialise: state -> state, applied to the fresh state (pretrained
      encoders).
    fingerprint: of the data; a run cannot be resumed with other data.
    class_names: of the classifier, kept with the checkpoint.
    description: before the progress bar.

  Raises:
    Interrupted: after SIGTERM or Ctrl-C; the state is saved.
    NonFiniteLoss: the newest checkpoint, if there is one, is finite.
    ValueError: if something in the config is off.
  """
  started = time.monotonic()
  check.check(config, 'train')
  workdir = pathlib.Path(workdir)
  method = make_method(config)
  contract = spec_of(config).contract
  optimizer = optimizers.make_optimizer(config.optimizer, config.num_steps)
  checkpointer = checkpoints.Checkpointer(
    workdir / 'checkpoints',
    best_metric=config.best_metric,
    best_mode=best_mode(config.best_metric),
  )
  workdir.mkdir(parents=True, exist_ok=True)
  first = next(batches(0))
  example = {k: v[:1] for k, v in first.items()}
  example = train_step.to_model_input(example, contract)
  create = lambda: train_state.create_train_state(
    method, optimizer, config.seed, example
  )
  initial = jax.jit(create)()
  metadata = {
    'config': to_json(config),
    'contract': contract.to_json(),
    'fingerprint': fingerprint,
    'class_names': list(class_names),
    'num_labels': example['label'].shape[-1] if 'label' in example else 0,
    'version': __version__,
  }
  model = Model(
    method, contract, initial.params, initial.model_state,
    tuple(class_names) if method.logits_loss else (), config=config,
    fingerprint=fingerprint, num_labels=metadata['num_labels'],
  )  # fmt: skip
  start = initialise(initial) if initialise is not None else initial
  state, loss_history = jax.tree.map(jnp.copy, start), []
  latest = processes.from_first(checkpointer.latest_step)

  def resume():
    saved = checkpointer.metadata(latest)
    difference = workdir_lib.first_difference(
      saved['config'], metadata['config']
    )
    if difference:
      raise ValueError(
        f'{checkpointer.directory / str(latest)} is of another run '
        f'({difference}); remove it or choose another --workdir'
      )
    if saved['fingerprint'] != fingerprint:
      raise ValueError(
        f'{workdir} was trained on other data (fingerprint '
        f'{saved["fingerprint"][:12]}, now {fingerprint[:12]}); choose '
        'another --workdir'
      )
    return checkpointer.restore(initial, latest), saved['loss_history']

  if latest is not None:
    state, loss_history = processes.on_all(resume)
    logger.info(
      'Resumed %s at step %d of %d', workdir, latest, config.num_steps
    )
  one_step = train_step.make_train_step(method, optimizer, contract)
  step_fn = parallel.data_parallel(
    train_step.make_train_steps(one_step),
    config.parallel,
    whole_below=config.batch_size if config.keep_remainder else 0,
  )
  writer = processes.on_all(
    lambda: metric_writers.MetricWriter(workdir, int(state.step))
  )
  most = config.steps_per_dispatch
  share = most * math.ceil(config.num_steps / (config.evaluations * most))
  evaluate_every = config.eval_every or share
  speed = progress.Speed(config.batch_size)
  windows = metric_writers.Windows()

  def save(metrics):
    saved = metadata | {'loss_history': loss_history}
    checkpointer.save(parallel.local(state), saved, metrics)

  def exhausted():
    return processes.from_first(
      lambda: metric_writers.exhausted(config, workdir, step)
    )

  step = int(state.step)
  stopped_early = exhausted()
  bar = tqdm.tqdm(
    total=config.num_steps,
    initial=step,
    desc=description or config.method,
    unit='step',
    disable=None if jax.process_index() == 0 else True,
  )
  iterator = batches(step) if step < config.num_steps else iter(())
  with preemption.Preemption() as signal, writer, bar:
    while step < config.num_steps and not stopped_early:
      count = train_step.dispatch_size(
        step, most, config.num_steps, evaluate_every, config.log_every
      )
      state, metrics = step_fn(
        state, tuple([next(iterator) for _ in range(count)])
      )
      step += count
      bar.update(count)
      windows.add(metrics)
      evaluating = step % evaluate_every == 0 or step == config.num_steps
      logging_now = evaluating or step % config.log_every == 0
      interrupted = signal.requested()
      saving = evaluating or interrupted
      if logging_now or interrupted:
        windows.close(step)
      for at, fetched in windows.fetch(keep=0 if saving else 1):
        if fetched.pop('nonfinite').any():
          newest = checkpointer.latest_step()
          raise NonFiniteLoss(
            f'loss or gradient not finite at or before step {at}; '
            f'{workdir} holds '
            + (f'step {newest}' if newest is not None else 'no step yet')
            + '; lower config.optimizer.learning_rate or look at the data'
          )
        loss_history += fetched['loss'].tolist()
        row = {k: float(v[-1]) for k, v in fetched.items()}
        rate = (bar.format_dict['rate'] or 0) * config.batch_size
        bar.set_postfix_str(f'loss {row["loss"]:.4g}, {rate:.0f} ECG/s')
        speed.start(step)
        if at < step:
          writer.write(at, row)
      figures = {}
      if saving:
        speed.stop(step)
      if evaluating:
        figures = {'train_loss': float(np.mean(loss_history))}
        figures |= validate(parallel.local(state)) if validate else {}
        loss_history = []
        row |= figures
      if saving and logging_now:
        writer.write(step, row)  # first: a resumed run can only cut rows
      if saving:
        save(figures)
        speed.start(step)
      if evaluating:
        logger.info('%s', _line(step, config, row))
        stopped_early = exhausted()
      if interrupted and step < config.num_steps:
        raise Interrupted(
          f'stopped by a signal at step {step} of {config.num_steps}; state '
          'saved, the same command resumes'
        )
  state = parallel.local(state)
  return Trained(
    model.of(state), model.of(initial), model.of(start), state, checkpointer,
    speed.median(), time.monotonic() - started,
  )  # fmt: skip


def _line(step, config, row) -> str:
  figures = ', '.join(
    f'{k} {row[k]:.4g}'
    for k in row
    if k in ('train_loss', 'loss') or k.startswith('validation_')
  )
  return f'step {step}/{config.num_steps}: {figures}'
