"""Restored or just trained encoders, judged once on the test split."""

import functools
import logging
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from ecgjax import checkpoints
from ecgjax.config import identity
from ecgjax.data.batches import extra, run_data, stream
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.evaluators import identity as identity_lib
from ecgjax.methods import supervised
from ecgjax.methods.method import Method
from ecgjax.metrics import metrics
from ecgjax.metrics.compare_arms import BASELINE, evaluate_arms
from ecgjax.metrics.probe import reference, standardised_lr
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
BATCH_SIZE = 256


class Model(NamedTuple):
  """A method and what it expects."""

  method: Method
  contract: InputContract


class Outputs(NamedTuple):
  """What a model says of every record of a split, in stored order.

  Attributes:
    features: [N, D].
    probabilities: [N, K], or None where the method has no classifier.
    logits: [N, K], or None as well.
  """

  features: np.ndarray
  probabilities: np.ndarray | None
  logits: np.ndarray | None = None


@functools.lru_cache(maxsize=8)
def compiled_predict(method, contract):
  """Returns (params, model_state, batch) -> outputs of `Method.predict`."""

  @jax.jit
  def predict(params, model_state, batch):
    return method.predict(params, model_state, to_model_input(batch, contract))

  return predict


def predict_split(model, state, split, name: str = '') -> Outputs:
  """Runs a model over one split.

  Args:
    model: has `method` and `contract`, e.g. `train.Trained`.
    state: has `params` and `model_state`.
    split: `data.batches.stream.Split`.
    name: before the progress bar.
  """

  predict = compiled_predict(model.method, model.contract)
  found = {name: [] for name in Outputs._fields}
  total = -(-len(split) // BATCH_SIZE)
  batches = stream.eval_batches(split, BATCH_SIZE)
  for batch in tqdm.tqdm(
    batches, total=total, desc=f'{name} {split.name}', leave=False, disable=None
  ):
    outputs = jax.device_get(predict(state.params, state.model_state, batch))
    keep = batch['mask'] > 0
    for field, rows in found.items():
      if field in outputs:
        rows.append(np.asarray(outputs[field], np.float32)[keep])
  joined = {k: np.concatenate(v) if v else None for k, v in found.items()}
  return Outputs(**joined)


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
    model = Model(method, contract)

    def validate(state):
      outputs = predict_split(model, state, split, 'validate')
      auroc = metrics.auroc(labels, outputs.probabilities, mask)
      return {
        'validation_loss': float(
          method.logits_loss(outputs.logits, labels, mask)
        ),
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


def fit_probe(recipe: str, train, validation, splits):
  """Fits a probe on frozen features.

  Args:
    recipe: 'standardised_lr' or 'reference'.
    train, validation: [N, D] features.
    splits: 'train' and 'validation' -> Split with labels.
  """
  fit = choose(
    'config.probe.recipe',
    recipe,
    {
      'standardised_lr': standardised_lr,
      'reference': reference,
    },
  )
  columns = {name: split.columns for name, split in splits.items()}
  return fit(
    train,
    columns['train']['label'],
    validation,
    columns['validation']['label'],
    train_label_mask=columns['train']['label_mask'],
    val_label_mask=columns['validation']['label_mask'],
  )


def probe_scores(recipe: str, train, validation, test, splits):
  """Validation and test probabilities of a probe on frozen features.

  Args:
    recipe: 'standardised_lr' or 'reference'.
    train, validation, test: [N, D] features.
    splits: 'train' and 'validation' -> Split with labels.
  """
  probe = fit_probe(recipe, train, validation, splits)
  return probe.predict(validation), probe.predict(test)


def compare_arms(config, scores: dict, splits: dict, arm: str, also=()):
  """Metrics, intervals and differences of all arms; the test labels' one use.

  Args:
    config: of the run.
    scores: arm -> (validation, test) probabilities, each [N, K] or [S, N, K].
    splits: 'validation' and 'test' -> Split with labels.
    arm: the one under test.
    also: further pairs of arms to compare.

  Returns:
    The parts of `arms.evaluate_arms`, and the test predictions.
  """
  validation, test = splits['validation'].columns, splits['test'].columns
  predictions = {
    'arms': {name: pair[1] for name, pair in scores.items()},
    'labels': test['label'],
    'patients': test['patient'],
    'class_names': splits['test'].class_names,
    'thresholds': {
      name: metrics.f1_thresholds(
        validation['label'], pair[0], validation['label_mask']
      )
      for name, pair in scores.items()
    },
    'label_mask': test['label_mask'],
  }
  pairs = (
    ('finetune', 'scratch'), ('finetune', 'probe'), ('probe', 'scratch'),
    ('linear', 'probe'), ('probe', 'start_probe'),
  )  # fmt: skip
  evaluation = evaluate_arms(
    **predictions,
    method=arm,
    comparisons=[p for p in (*pairs, *also) if set(p) <= set(scores)],
    draws=config.bootstrap_draws,
  )
  return evaluation, predictions


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
  from ecgjax.evaluators import codec

  started = time.monotonic()
  state, step = choose_state(config, trained)
  splits = data.labelled
  states = {'random': trained.initial, 'trained': state}
  if config.init_from:
    states['pretrained'] = trained.start
  outputs = {
    name: {
      split: predict_split(trained, s, d, name) for split, d in splits.items()
    }
    for name, s in states.items()
  }
  probe = lambda name: probe_scores(
    config.probe.recipe,
    *(outputs[name][split].features for split in run_data.SPLITS),
    splits,
  )
  scores = {BASELINE: probe('random')}
  arm = 'probe'
  if outputs['trained']['test'].probabilities is None:
    scores['probe'] = probe('trained')
    if config.init_from:  # is going on worth anything?
      scores['start_probe'] = probe('pretrained')
  else:
    arm = supervised.arm(config)
    if config.init_from:
      scores['probe'] = probe('pretrained')
    last = outputs['trained']
    scores[arm] = last['validation'].probabilities, last['test'].probabilities
  coded = codec.NOTHING
  if 'vqvae' in config:
    predict = compiled_predict(trained.method, trained.contract)
    coded = codec.evaluate_codec(
      config,
      trained.contract,
      functools.partial(predict, state.params, state.model_state),
      codec.make_decode(config, state),
      data,
    )
  evaluation, predictions = compare_arms(
    config, scores | coded.arms, splits, arm, coded.comparisons
  )
  evaluation['metrics'] |= coded.metrics
  if 'longitudinal' in config:
    evaluation['identity'] = identity_lib.evaluate_identity(
      {
        arm: {split: outputs[name][split].features for split in splits}
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
    **facts(config, trained, data, 'test', state, step),
    wall_seconds=trained.wall_seconds + time.monotonic() - started,
  )
  if config.data.extra:
    results['generated'] = extra.describe(config)
  publish(workdir, results, predictions, data, arm, coded.sections)
  return results


def facts(config, trained, data, split: str, state, step: int) -> dict:
  """Fields of the results of a run that no evaluation has to find out."""
  evaluated = data.labelled[split]
  return {
    'method': config.method,
    'dataset': config.data.name,
    'split': split,
    'seed': config.seed,
    'step': step,
    'num_examples': len(evaluated),
    'num_patients': len(np.unique(evaluated.columns['patient'])),
    'hashes': {
      'split': data.split_hash,
      'manifest': data.manifest_hash,
      'checkpoint': checkpoints.digest([state.params, state.model_state]),
    },
    'device': describe_device(),
    'examples_per_second': trained.examples_per_second,
    'synthetic': data.synthetic,
    'leak_allowed': bool(config.data.allow_leak),
    'config': identity(config),
    'num_parameters': sum(x.size for x in jax.tree.leaves(state.params)),
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


def choose_state(config, trained):
  """State that is evaluated, and its step: the last one or the best one."""
  which = choose(
    'config.evaluate_checkpoint',
    config.evaluate_checkpoint,
    {'last': False, 'best': True},
  )
  if not which:
    return trained.state, int(trained.state.step)
  best = trained.checkpointer.best_step()
  if best is None:
    raise ValueError(
      f'{trained.checkpointer.directory} holds no step with a finite '
      f'{config.best_metric}, so that none is the best; set '
      '--config.evaluate_checkpoint=last in another --workdir'
    )
  return trained.checkpointer.restore(trained.initial, best), best
