"""The one training loop, for every method and every source of batches."""

import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from ecgjax import checkpoints
from ecgjax.checkpoints import best_mode
from ecgjax.config import check
from ecgjax.methods.method import Method
from ecgjax.model import Model, initialise_from, make_method, spec_of
from ecgjax.runtime import parallel, preemption, processes
from ecgjax.runtime.resolve import resolve
from ecgjax.training import (
  metric_writers,
  optimizers,
  progress,
  resume,
  train_state,
  train_step,
)
from ecgjax.training import workdir as workdir_lib
from ecgjax.training.progress import NonFiniteLoss  # noqa: F401, of `train`

logger = logging.getLogger(__name__)


class Interrupted(Exception):
  """SIGTERM or Ctrl-C: the state is saved, the same command resumes."""


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
  from ecgjax.evaluators import named

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
  model = Model(method, spec_of(config).contract, {}, {}, config=config)
  named.of_config(config, model, method.evaluators)
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
  from ecgjax.data.batches import run_data
  from ecgjax.evaluators import validation

  method = make_method(config)
  for field in ('extra', 'oversample'):
    if config.data[field] and not method.labels:
      raise ValueError(
        f'config.data.{field} needs a supervised config, this is one of '
        f'{config.method}'
      )
  if method.labels:
    run_data.require_task(config.data.task)
  computed = ('train_loss', *validation.validation_metrics(method))
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
  from ecgjax.data.batches import extra, run_data, shuffle, split
  from ecgjax.data.batches.patient_index import PatientOptions
  from ecgjax.evaluators import validation

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
  validate = validation.make_validate(
    method, contract, splits['validation'], batches.validate
  )
  model = Model(method, contract, {}, {}, config=resolved)
  validate = validation.watch(validate, model, data)
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
  validate: Callable = lambda state: {},
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
      checkpoint.
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
  metric = config.best_metric
  checkpointer = checkpoints.Checkpointer(
    workdir / 'checkpoints', best_metric=metric, best_mode=best_mode(metric)
  )
  workdir.mkdir(parents=True, exist_ok=True)
  first = {name: x[:1] for name, x in next(batches(0)).items()}
  example = train_step.to_model_input(first, contract)
  model = Model(
    method, contract, None, None,
    tuple(class_names) if method.logits_loss else (),
    config=config,
    fingerprint=fingerprint,
    num_labels=example['label'].shape[-1] if 'label' in example else 0,
  )  # fmt: skip
  metadata = model.metadata() | {'class_names': list(class_names)}
  begun = resume.create_or_resume(
    (method, optimizer, config.seed, example),
    initialise, checkpointer, metadata, workdir,
  )  # fmt: skip
  update = train_step.make_update(
    method, optimizer, contract, config.parallel,
    whole_below=config.batch_size if config.keep_remainder else 0,
  )  # fmt: skip
  clock = progress.Clock(*(config[name] for name in progress.Clock._fields))
  seen = progress.Progress(
    workdir, begun, clock, config.batch_size, description or config.method
  )

  def save(state, figures):
    losses = {'loss_history': seen.losses}
    checkpointer.save(state, metadata | losses, figures)

  def exhausted(step):
    return metric_writers.exhausted(workdir, step, metric, config.patience)

  state = _loop(
    begun.state, update, batches, clock, seen, validate, save, exhausted
  )
  return Trained(
    model.of(state), model.of(begun.initial), model.of(begun.start), state,
    checkpointer, seen.ecgs_per_second(), time.monotonic() - started,
  )  # fmt: skip


def _loop(state, update, batches, clock, seen, validate, save, exhausted):
  """The state after the last step, on the first device of this process.

  Args:
    state: to go on with; it is used up.
    update: (state, batches) -> (state, metrics), on all devices.
    batches: see `train`.
    clock: `progress.Clock`.
    seen: `progress.Progress`.
    validate: see `train`.
    save: (state, figures of validation) -> None.
    exhausted: step -> whether patience is at an end.
  """
  step = int(state.step)
  stopped_early = exhausted(step)
  iterator = batches(step) if step < clock.num_steps else iter(())
  with preemption.Preemption() as signal, seen:
    while step < clock.num_steps and not stopped_early:
      count, logs, evaluates = clock.next(step)
      batch = tuple([next(iterator) for _ in range(count)])
      state, metrics = update(state, batch)
      step += count
      seen.add(metrics, count)
      interrupted = signal.requested()
      saves = evaluates or interrupted
      if logs or interrupted:
        row = seen.close(step, wait=saves)
      if not saves:
        continue
      figures, here = {}, parallel.local(state)
      if evaluates:
        figures = {'train_loss': seen.mean_loss(), **validate(here)}
      if logs:
        seen.write(step, row | figures)  # first: resuming only cuts rows
      save(here, figures)
      seen.go_on(step)
      if evaluates:
        logger.info('%s', _line(step, clock.num_steps, row | figures))
        stopped_early = exhausted(step)
      if interrupted and step < clock.num_steps:
        raise Interrupted(
          f'stopped by a signal at step {step} of {clock.num_steps}; state '
          'saved, the same command resumes'
        )
  return parallel.local(state)


def _line(step: int, num_steps: int, row: dict[str, float]) -> str:
  figures = ', '.join(
    f'{k} {row[k]:.4g}'
    for k in row
    if k in ('train_loss', 'loss') or k.startswith('validation_')
  )
  return f'step {step}/{num_steps}: {figures}'
