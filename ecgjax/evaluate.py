"""Restored or just trained encoders, judged once on the test split."""

import json
import logging
import os
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from ecgjax import config as config_lib
from ecgjax.evaluation import arms as arms_lib
from ecgjax.evaluation import metrics as metrics_lib
from ecgjax.evaluation import probe as probe_lib
from ecgjax.evaluation import results as results_lib
from ecgjax.inputs import InputContract, to_model_input
from ecgjax.training import checkpoints

logger = logging.getLogger(__name__)
BATCH_SIZE = 256


class Outputs(NamedTuple):
  """What a model says of every record of a split, in stored order.

  Attributes:
    features: [N, D].
    probabilities: [N, K], or None where the method has no classifier.
  """

  features: np.ndarray
  probabilities: np.ndarray | None


def predict_split(
  method, contract: InputContract, params, model_state, split, name: str = ''
) -> Outputs:
  """Runs a model over one split (`data.input_pipeline.Split`)."""
  from ecgjax.data import input_pipeline

  @jax.jit
  def predict(params, model_state, batch):
    return method.predict(params, model_state, to_model_input(batch, contract))

  found = {'features': [], 'probabilities': []}
  total = -(-len(split) // BATCH_SIZE)
  batches = input_pipeline.eval_batches(split, BATCH_SIZE)
  for batch in tqdm.tqdm(
    batches, total=total, desc=f'{name} {split.name}', leave=False, disable=None
  ):
    outputs = jax.device_get(predict(params, model_state, batch))
    keep = batch['mask'] > 0
    for field, rows in found.items():
      if field in outputs:
        rows.append(np.asarray(outputs[field], np.float32)[keep])
  joined = {k: np.concatenate(v) if v else None for k, v in found.items()}
  return Outputs(**joined)


def make_validate(config, method, contract: InputContract, split):
  """Returns `state -> {'validation_...': figure}` for the training loop.

  A method with a classifier reports the macro AUROC; a pretext task its loss
  on the validation records, in batches of the training size with one fixed
  key, the last incomplete batch left out (every loss is one of a whole batch).
  """
  from ecgjax.data import input_pipeline

  if config.best_metric == 'validation_macro_auroc':
    labels = split.columns['label']
    mask = split.columns['label_mask']

    def validate(state):
      outputs = predict_split(
        method, contract, state.params, state.model_state, split, 'validate'
      )
      auroc = metrics_lib.auroc(labels, outputs.probabilities, mask)
      return {'validation_macro_auroc': metrics_lib.macro(auroc)}

    return validate

  size = min(config.batch_size, len(split))
  key = jax.random.key(0, impl='threefry2x32')

  @jax.jit
  def loss_of(params, model_state, target, batch):
    batch = to_model_input(batch, contract)
    return method.loss(params, model_state, target, key, batch, None)[0]

  def validate(state):
    steps = len(split) // size
    batches = input_pipeline.eval_batches(split, size)
    values = [
      float(loss_of(state.params, state.model_state, state.target, batch))
      for _, batch in zip(range(steps), batches)
    ]
    return {'validation_loss': float(np.mean(values))}

  return validate


def probe_scores(recipe: str, train, validation, test, splits):
  """Validation and test probabilities of a probe on frozen features.

  Args:
    recipe: 'standardised_lr' or 'reference'.
    train, validation, test: [N, D] features.
    splits: 'train', 'validation' and 'test' -> Split with labels.
  """
  fit = config_lib.choose(
    'config.probe.recipe',
    recipe,
    {
      'standardised_lr': probe_lib.standardised_lr,
      'reference': probe_lib.reference,
    },
  )
  columns = {name: split.columns for name, split in splits.items()}
  probe = fit(
    train,
    columns['train']['label'],
    validation,
    columns['validation']['label'],
    train_label_mask=columns['train']['label_mask'],
    val_label_mask=columns['validation']['label_mask'],
  )
  return probe.predict(validation), probe.predict(test)


def compare_arms(config, scores: dict, splits: dict, arm: str) -> dict:
  """Metrics, intervals and differences of all arms; the test labels' one use.

  Args:
    config: of the run.
    scores: arm -> (validation, test) probabilities, each [N, K] or [S, N, K].
    splits: 'validation' and 'test' -> Split with labels.
    arm: the one under test.
  """
  validation, test = splits['validation'].columns, splits['test'].columns
  thresholds = {
    name: metrics_lib.f1_thresholds(
      validation['label'], pair[0], validation['label_mask']
    )
    for name, pair in scores.items()
  }
  return arms_lib.evaluate_arms(
    {name: pair[1] for name, pair in scores.items()},
    test['label'],
    test['patient'],
    splits['test'].class_names,
    thresholds,
    method=arm,
    comparisons=[
      pair
      for pair in (('finetune', 'scratch'), ('finetune', 'probe'))
      if set(pair) <= set(scores)
    ],
    label_mask=test['label_mask'],
    draws=config.bootstrap_draws,
  )


def evaluate_run(config, method, trained, data, workdir) -> dict:
  """Probes or scores a trained run on the test split, once.

  Args:
    config: of the run.
    method: its Method.
    trained: from `train.train`.
    data: `data.sources.Data` of the run.
    workdir: `results.json` and `report.html` are written here.

  Returns:
    The results.
  """
  started = time.monotonic()
  contract = InputContract.from_config(config)
  state, step = choose_state(config, trained)
  splits = data.labelled
  outputs = {
    name: {
      split: predict_split(method, contract, s.params, s.model_state, d, name)
      for split, d in splits.items()
    }
    for name, s in (('random', trained.initial), ('trained', state))
  }
  probe = lambda name: probe_scores(
    config.probe.recipe,
    *(outputs[name][split].features for split in splits),
    splits,
  )
  scores = {arms_lib.BASELINE: probe('random')}
  arm = 'probe'
  if outputs['trained']['test'].probabilities is None:
    scores['probe'] = probe('trained')
  else:
    arm = 'finetune' if config.init_from else 'scratch'
    scores[arm] = tuple(
      outputs['trained'][split].probabilities
      for split in ('validation', 'test')
    )
  results = results_lib.assemble(
    compare_arms(config, scores, splits, arm),
    method=config.method,
    dataset=config.data.name,
    protocol=config.probe.recipe,
    split='test',
    seed=config.seed,
    step=step,
    num_examples=len(splits['test']),
    num_patients=len(np.unique(splits['test'].columns['patient'])),
    hashes={
      'split': data.split_hash,
      'manifest': data.manifest_hash,
      'checkpoint': checkpoints.digest([state.params, state.model_state]),
    },
    device=describe_device(),
    examples_per_second=trained.examples_per_second,
    wall_seconds=trained.wall_seconds + time.monotonic() - started,
    synthetic=data.synthetic,
    leak_allowed=bool(config.data.allow_leak),
    config=config_lib.to_json(config),
    num_parameters=int(sum(x.size for x in jax.tree.leaves(state.params))),
  )
  write_json(pathlib.Path(workdir) / 'results.json', results)
  return results


def choose_state(config, trained):
  """State that is evaluated, and its step: the last one or the best one."""
  which = config_lib.choose(
    'config.evaluate_checkpoint',
    config.evaluate_checkpoint,
    {'last': False, 'best': True},
  )
  best = trained.checkpointer.best_step() if which else None
  if best is None:
    return trained.state, int(trained.state.step)
  return trained.checkpointer.restore(trained.initial, best), best


def describe_device() -> str:
  """Kind and number of devices, e.g. '1 x cpu'."""
  devices = jax.devices()
  return f'{len(devices)} x {devices[0].device_kind}'


def write_json(path: pathlib.Path, content: dict) -> None:
  """Writes JSON at once or not at all."""
  temporary = path.with_suffix('.tmp')
  temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + '\n')
  os.replace(temporary, path)
