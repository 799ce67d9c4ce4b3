"""Restored or just trained encoders, judged once on the test split."""

import functools
import logging
import pathlib
import time

import jax
import numpy as np

from ecgjax.config import identity
from ecgjax.data.batches import extra, run_data
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.evaluators import codec, unlabelled
from ecgjax.evaluators import identity as identity_lib
from ecgjax.evaluators.arms import compare_arms, probe_scores
from ecgjax.methods import supervised
from ecgjax.metrics import metrics
from ecgjax.metrics.compare_arms import BASELINE
from ecgjax.model import Model, outputs, over_split
from ecgjax.report import page, tables
from ecgjax.report.results import (
  assemble,
  describe_device,
  write,
  write_predictions,
)
from ecgjax.runtime.resolve import choose
from ecgjax.training import metric_writers

logger = logging.getLogger(__name__)


def validation_metrics(method) -> tuple[str, ...]:
  """Names of what `make_validate` computes."""
  if method.logits_loss is None:
    return ('validation_loss',)
  return ('validation_loss', 'validation_macro_auroc')


def make_validate(method, contract: InputContract, split, batches):
  """Returns `state -> {'validation_...': figure}` for the training loop.

  A classifier reports its loss and the macro AUROC over all labelled validation
  records, in inference mode; any other method its loss on the validation
  batches with one fixed key.

  Args:
    method: of the run.
    contract: its input contract.
    split: the validation `Split`.
    batches: () -> full validation batches, see `sources.Batches`.
  """
  if method.logits_loss is not None:
    labels = split.columns['label']
    mask = split.columns['label_mask']
    model = Model(method, contract, {}, {})

    def validate(state):
      said = over_split(model.of(state), split, 'validate')
      auroc = metrics.auroc(labels, said.probabilities, mask)
      return {
        'validation_loss': float(method.logits_loss(said.logits, labels, mask)),
        'validation_macro_auroc': metrics.macro(auroc),
      }

    return validate

  key = jax.random.key(0, impl='threefry2x32')

  @jax.jit
  def loss_of(params, model_state, target, batch):
    batch = to_model_input(batch, contract)
    return method.loss(params, model_state, target, key, batch, None)[0]

  def validate(state):
    values = [
      float(loss_of(state.params, state.model_state, state.target, batch))
      for batch in batches()
    ]
    return {'validation_loss': float(np.mean(values))}

  return validate


def evaluate_run(config, trained, data, workdir) -> dict:
  """Probes or scores a trained run on the test split, once.

  Args:
    config: of the run.
    trained: from `train.train`.
    data: `data.batches.run_data.Data` of the run.
    workdir: `predictions.npz`, `report.html` and, last, `results.json` are
      written here.

  Returns:
    The results.
  """
  started = time.monotonic()
  model = choose_model(config, trained)
  if not config.data.task:
    known = facts(config, trained, data, 'validation', model)
    return unlabelled.evaluate_unlabelled(
      trained.checkpointer.metadata(model.step)['metrics']['validation_loss'],
      known | {'wall_seconds': trained.wall_seconds},
      pathlib.Path(workdir),
    )
  splits = data.labelled
  models = {'random': trained.initial, 'trained': model}
  if config.init_from:
    models['pretrained'] = trained.start
  said = {
    name: {split: over_split(m, d, name) for split, d in splits.items()}
    for name, m in models.items()
  }
  probe = lambda name: probe_scores(
    config.probe.recipe,
    *(said[name][split].features for split in run_data.SPLITS),
    splits,
  )
  scores = {BASELINE: probe('random')}
  arm = 'probe'
  if said['trained']['test'].probabilities is None:
    scores['probe'] = probe('trained')
    if config.init_from:  # is going on worth anything?
      scores['start_probe'] = probe('pretrained')
  else:
    arm = supervised.arm(config)
    if config.init_from:
      scores['probe'] = probe('pretrained')
    last = said['trained']
    scores[arm] = last['validation'].probabilities, last['test'].probabilities
  coded = codec.NOTHING
  if 'vqvae' in config:
    coded = codec.evaluate_codec(
      config,
      model.contract,
      functools.partial(outputs, model),
      codec.make_decode(config, model),
      data,
    )
  evaluation, predictions = compare_arms(
    config, scores | coded.arms, splits, arm, coded.comparisons
  )
  evaluation['metrics'] |= coded.metrics
  if 'longitudinal' in config:
    evaluation['identity'] = identity_lib.evaluate_identity(
      {
        arm: {split: said[name][split].features for split in splits}
        for arm, name in (
          (identity_lib.BASELINE, 'random'),
          (identity_lib.METHOD, 'trained'),
        )
      },
      data,
      gap_edges=config.longitudinal.gap_edges,
      draws=config.bootstrap_draws,
    )
    evaluation['metrics'] |= identity_lib.headline(evaluation['identity'])
  results = assemble(
    evaluation,
    **coded.fields,
    protocol=config.probe.recipe,
    **facts(config, trained, data, 'test', model),
    wall_seconds=trained.wall_seconds + time.monotonic() - started,
  )
  if config.data.extra:
    results['generated'] = extra.describe(config)
  publish(workdir, results, predictions, data, arm, coded.sections)
  return results


def facts(config, trained, data, split: str, model: Model) -> dict:
  """Fields of the results of a run that no evaluation has to find out."""
  evaluated = data.labelled[split]
  return {
    'method': config.method,
    'dataset': config.data.name,
    'split': split,
    'seed': config.seed,
    'step': model.step,
    'num_examples': len(evaluated),
    'num_patients': len(np.unique(evaluated.columns['patient'])),
    'hashes': {
      'split': data.split_hash,
      'manifest': data.manifest_hash,
      'checkpoint': model.digest,
    },
    'device': describe_device(),
    'examples_per_second': trained.examples_per_second,
    'synthetic': data.synthetic,
    'leak_allowed': bool(config.data.allow_leak),
    'config': identity(config),
    'num_parameters': sum(x.size for x in jax.tree.leaves(model.params)),
  }


def publish(workdir, results, predictions, data, arm: str, sections=()) -> None:
  """Writes predictions, report and, last, the results; prints the result."""
  workdir = pathlib.Path(workdir)
  test = data.labelled['test']
  mistakes = page.confident_errors(
    predictions['labels'],
    predictions['arms'][arm],
    predictions['thresholds'][arm],
    label_mask=predictions['label_mask'],
  )
  load = lambda row: run_data.load_recording(data, 'test', test.record_ids[row])
  errors = page.errors_section(mistakes, test.class_names, load)
  write_predictions(workdir / 'predictions.npz', **predictions)
  page.write_report(
    workdir / 'report.html',
    results,
    predictions=predictions,
    history=metric_writers.read_metrics(workdir / 'metrics.jsonl'),
    sections=[*sections, errors],
  )
  write(workdir / 'results.json', results)
  logger.info('%s', summary(results))
  logger.info('Results: %s', workdir / 'results.json')
  logger.info('Report:  %s', workdir / 'report.html')


def summary(results: dict) -> str:
  """The headline of a result: arms and differences with intervals."""
  kind = 'SYNTHETIC ECGs' if results['synthetic'] else 'ECGs'
  headline = 'macro_auroc'
  if results['metrics'][headline]['value'] is None:
    headline = 'macro_auroc_all'
  lines = [
    f'Test {headline} of {results["num_examples"]} {kind} of '
    f'{results["num_patients"]} patients, 95 % intervals over '
    f'{tables.resampled(results["bootstrap"])}:'
  ]
  for name, arm in results['arms'].items():
    lines.append(f'  {name:24} {tables.cell(arm["metrics"][headline])}')
  for name, row in results['differences'].items():
    lines.append(f'  {name:24} {tables.difference_cell(row[headline])}')
  lines += [
    f'  {name:24} {tables.cell(entry)}'
    for name, entry in results['metrics'].items()
    if not name.startswith('macro_')
  ]
  if 'identity' in results:
    lines += [t.markdown() for t in tables.identity_tables(results['identity'])]
  return '\n'.join(lines)


def choose_model(config, trained) -> Model:
  """The model that is evaluated: of the last step or of the best one."""
  which = choose(
    'config.evaluate_checkpoint',
    config.evaluate_checkpoint,
    {'last': False, 'best': True},
  )
  if not which:
    return trained.model
  best = trained.checkpointer.best_step()
  if best is None:
    raise ValueError(
      f'{trained.checkpointer.directory} holds no step with a finite '
      f'{config.best_metric}, so that none is the best; set '
      '--config.evaluate_checkpoint=last in another --workdir'
    )
  return trained.model.of(trained.checkpointer.restore(trained.state, best))
