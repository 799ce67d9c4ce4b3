"""A model judged once: at the end of its training, or by `--mode=eval`.

Named evaluators (files of `ecgjax.evaluators`) look at the model; what they
find is put together and published here. A training run names those of its
method and those of `config.evaluators`, `--mode=eval` the latter and those of
`config.evaluation`, on any prepared data set: it is read as the model's input
contract says, so that `config.data` leaves rate, length, leads and
normalisation open (0 or empty) or repeats them. A data set stored at another
rate is built, or asked for, at the model's rate.
"""

import logging
import pathlib
import time

import jax
import numpy as np

from ecgjax.config import check as config_check
from ecgjax.config import identity, to_json
from ecgjax.data.batches import extra, run_data
from ecgjax.data.raw import ptbxl_signals
from ecgjax.data.store import leakage, prepared
from ecgjax.ecg.contract import InputContract
from ecgjax.ecg.leads import canonical
from ecgjax.evaluators import arms, named
from ecgjax.evaluators.run import Run
from ecgjax.metrics.compare_arms import BASELINE
from ecgjax.model import Model, load, untrained
from ecgjax.report import results as results_lib
from ecgjax.report.ending import Ending, publish
from ecgjax.report.finding import Finding
from ecgjax.report.page import Section
from ecgjax.runtime.resolve import choose
from ecgjax.training import metric_writers
from ecgjax.training.workdir import first_difference

logger = logging.getLogger(__name__)
# What results hold where there are no labels.
_NO_ARMS = {'metrics': {}, 'per_class': {}, 'arms': {}, 'differences': {}}


def conclude(run: Run, found: Finding) -> tuple[dict, Ending]:
  """Compares all arms on the labels, once.

  Returns:
    The parts of `compare_arms.evaluate_arms` and all fields that were found;
    and the ending, whose results are still to be assembled.
  """
  evaluation, predictions = dict(_NO_ARMS), None
  sections = [*found.sections]
  if found.arms:
    arm = arms.under_test(run)
    evaluation, predictions = arms.compare(
      found.arms, run.data.labelled, arm, run.draws, found.comparisons
    )
    sections.append(arms.errors_section(run.data, predictions, arm))
  evaluation['metrics'] = {**evaluation['metrics'], **found.metrics}
  ending = Ending({}, predictions, sections, found.tables)
  return {**evaluation, **found.fields}, ending


def evaluate_run(config, trained, data, workdir) -> dict:
  """Judges a trained run on the test split, once.

  Args:
    config: of the run.
    trained: from `train.train`.
    data: `data.batches.run_data.RunData` of the run.
    workdir: `predictions.npz`, `report.html` and, last, `results.json` are
      written here.

  Returns:
    The results.
  """
  started = time.monotonic()
  model = choose_model(config, trained)
  models = {'model': model, 'untrained': trained.initial}
  probed = {BASELINE: 'untrained'}
  if not model.class_names:
    probed['probe'] = 'model'
  if config.init_from:  # is going on worth anything?
    models['pretrained'] = trained.start
    probed['probe' if model.class_names else 'start_probe'] = 'pretrained'
  names, options = named.of_config(config, model, model.method.evaluators)
  run = Run(
    models,
    data,
    probed,
    options,
    config.probe.recipe,
    config.bootstrap_draws,
  )
  found = named.find(names, run)
  evaluation, ending = conclude(run, found)
  results = results_lib.assemble(
    evaluation,
    **facts(config, run, 'test' if config.data.task else 'validation'),
    protocol=config.probe.recipe if config.data.task else 'no labels',
    examples_per_second=trained.examples_per_second,
    wall_seconds=trained.wall_seconds + time.monotonic() - started,
    num_parameters=sum(x.size for x in jax.tree.leaves(model.params)),
    **(
      {'generated': extra.describe(config.data.extra)}
      if config.data.extra
      else {}
    ),
  )
  workdir = pathlib.Path(workdir)
  history = metric_writers.read_metrics(workdir / 'metrics.jsonl')
  return publish(
    workdir / 'results.json', ending._replace(results=results, history=history)
  )


def facts(config, run: Run, split: str) -> dict:
  """Fields of the results that no evaluator has to find out."""
  evaluated, trained = run.data.labelled[split], run.model.config
  return {
    'method': trained.method,
    'dataset': config.data.name,
    'split': split,
    'seed': trained.seed,
    'step': run.model.step,
    'num_examples': len(evaluated),
    'num_patients': len(np.unique(evaluated.columns['patient'])),
    'hashes': {
      'split': run.data.split_hash,
      'manifest': run.data.manifest_hash,
      'checkpoint': run.model.digest,
    },
    'device': results_lib.describe_device(),
    'synthetic': run.data.synthetic,
    'leak_allowed': bool(config.data.allow_leak),
    'config': identity(config),
  }


def evaluate_checkpoint(config, workdir) -> dict | None:
  """Judges `config.init_from` on `config.data`, once.

  Args:
    config: from `configs/evaluate.py`.
    workdir: folder for `eval_<dataset>.json`, `.html` and `.npz`.

  Returns:
    The results; None on all processes but the first.

  Raises:
    ValueError: if the model and the data set do not fit, or the file is that
      of another evaluation; nothing is written.
  """
  started = time.monotonic()
  if jax.process_index():
    return None
  config_check.check(config, 'eval')
  run_data.require_task(config.data.task)
  if not config.init_from:
    raise ValueError('--config.init_from names no run to evaluate')
  model = load(config.init_from)
  config = complete(config, model.contract)
  path = pathlib.Path(workdir) / f'eval_{config.data.name}.json'
  finished = read_finished(path, config, model.digest)
  if finished:
    logger.info('This evaluation is finished; see %s', path)
    return finished
  names, options = named.of_config(config, model)
  data = run_data.open_data(config.data)
  audit = audit_training_data(config, model, data.builder)
  run = Run(
    {'untrained': untrained(model), 'model': model},
    data,
    {BASELINE: 'untrained', 'probe': 'model'},
    options,
    config.probe.recipe,
    config.bootstrap_draws,
  )
  found = named.find(names, run)
  evaluation, ending = conclude(run, found)
  warning = warn_of_signal(config, model)
  if warning:
    evaluation['signal_warning'] = warning
    ending.sections.append(Section('Another signal of PTB-XL', [warning]))
  results = results_lib.assemble(
    evaluation,
    **facts(config, run, 'test'),
    protocol=config.probe.recipe,
    examples_per_second=run.examples_per_second,
    wall_seconds=time.monotonic() - started,
    leakage_audit=audit,
    contract=model.contract.to_json(),
    trained_on={
      'dataset': model.config.data.name,
      'task': model.config.data.task,
      'class_names': list(model.class_names),
    },
    dropped={name: split.dropped for name, split in data.labelled.items()},
  )
  title = (
    f'{results["method"]} on {results["dataset"]}, as trained on '
    f'{results["trained_on"]["dataset"]}'
  )
  return publish(path, ending._replace(results=results, title=title))


def complete(config, contract: InputContract):
  """The config with the input contract's values where it leaves them open.

  Raises:
    ValueError: if it asks for another value; names the field.
  """
  completed = config.copy_and_resolve_references()
  for field in ('rate', 'length', 'leads', 'normalisation'):
    wanted, trained = config.data[field], getattr(contract, field)
    if field == 'leads':
      wanted = tuple(canonical(name) for name in wanted)
    if wanted and wanted != trained:
      raise ValueError(
        f'config.data.{field} is {wanted}; the model was trained with {trained}'
        ' and cannot be judged on anything else; leave the field out'
      )
    completed.data[field] = trained
  return completed.lock()


def read_finished(path: pathlib.Path, config, digest: str) -> dict | None:
  """Results of this evaluation if there are any.

  Raises:
    ValueError: if they are those of another config or checkpoint.
  """
  if not path.is_file():
    return None
  results = results_lib.read(path)
  difference = first_difference(results['config'], to_json(config))
  if not difference and results['hashes']['checkpoint'] != digest:
    difference = f'step {results["step"]} of the run was evaluated there'
  if difference:
    raise ValueError(
      f'{path} belongs to another evaluation ({difference}); choose another '
      '--workdir'
    )
  return results


def audit_training_data(config, model, builder) -> str:
  """Looks for test patients in the data that the model was trained on.

  Returns:
    What was compared, for the results.

  Raises:
    leakage.Leak: unless `config.data.allow_leak`.
  """
  data = model.config.data
  trained_on = prepared.builder_of(data)
  if not prepared.is_prepared(trained_on):
    logger.warning(
      'The training data of the model (%s) are not on this machine; whether '
      'it has seen test patients is not checked',
      data.name,
    )
    return f'not done: training data {data.name} not on this machine'
  if trained_on.data_path == builder.data_path:
    return f'splits of {builder.info.full_name}, also the training data'
  leakage.audit(trained_on, builder, allow=config.data.allow_leak)
  return f'{trained_on.info.full_name} against {builder.info.full_name}'


def warn_of_signal(config, model) -> str:
  """Logs and returns why figures may suffer from PTB-XL's two signals."""
  trained, judged = (
    ptbxl_signals.signal_of(data.name, data.rate, data.get('sources', ()))
    for data in (model.config.data, config.data)
  )
  warning = ptbxl_signals.signal_warning(trained, judged)
  if warning:
    logger.warning('%s', warning)
  return warning


def choose_model(config, trained) -> Model:
  """The model that is evaluated: of the last step or of the best one."""
  which = choose(
    'config.evaluate_checkpoint',
    config.evaluate_checkpoint,
    {'last': False, 'best': True},
  )
  figures = lambda step: trained.checkpointer.metadata(step)['metrics']
  if not which:
    model = trained.model
    return model._replace(figures=figures(model.step))
  best = trained.checkpointer.best_step()
  if best is None:
    raise ValueError(
      f'{trained.checkpointer.directory} holds no step with a finite '
      f'{config.best_metric}, so that none is the best; set '
      '--config.evaluate_checkpoint=last in another --workdir'
    )
  state = trained.checkpointer.restore(trained.state, best)
  return trained.model.of(state)._replace(figures=figures(best))
