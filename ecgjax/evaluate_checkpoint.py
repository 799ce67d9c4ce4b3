"""A trained model on any prepared data set: `--mode=eval`.

The data set is read as the model's input contract says: `config.data` leaves
rate, length, leads and normalisation open (0 or empty) or repeats them; another
value is refused. A data set stored at another rate is built, or asked for, at
the model's rate.
"""

import dataclasses
import logging
import pathlib
import time

import jax
import numpy as np

from ecgjax import evaluate
from ecgjax.config import check, identity, to_json
from ecgjax.data.batches import run_data
from ecgjax.data.raw import ptbxl_signals
from ecgjax.data.store import leakage, prepared
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.ecg.leads import canonical
from ecgjax.evaluators import (
  attribution,
  chains,
  human_readers,
  reduced_leads,
)
from ecgjax.evaluators.arms import compare_arms, fit_probe, probe_scores
from ecgjax.methods import supervised
from ecgjax.metrics import probe
from ecgjax.metrics.compare_arms import BASELINE
from ecgjax.model import load, over_split, untrained
from ecgjax.report import page, tables
from ecgjax.report import results as results_lib
from ecgjax.training.workdir import first_difference

logger = logging.getLogger(__name__)


def evaluate_checkpoint(config, workdir) -> dict | None:
  """Probes and scores `config.init_from` on `config.data`, once.

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
  if 'evaluation' not in config:
    raise ValueError('--mode=eval needs --config=configs/evaluate.py')
  check.check(config, 'eval')
  run_data.require_task(config)
  if not config.init_from:
    raise ValueError('--config.init_from names no run to evaluate')
  model = load(config.init_from)
  config = complete(config, model.contract)
  path = pathlib.Path(workdir) / f'eval_{config.data.name}.json'
  finished = read_finished(path, config, model.digest)
  if finished:
    logger.info('This evaluation is finished; see %s', path)
    return finished
  if config.evaluation.reduced_leads and not model.method.per_lead:
    raise ValueError(
      'config.evaluation.reduced_leads: this encoder sees all leads at once; '
      'the report needs one that sees a lead at a time'
    )
  other = attribution.check(config, model)
  data = run_data.open_data(config)
  audit = audit_training_data(config, model, data.builder)
  splits = data.labelled
  readers = read_readers(config, splits['test'])
  chain_of = chains.find_chains(config.evaluation.chains, data)
  reading = time.monotonic()
  outputs = {
    arm: {name: over_split(m, split, arm) for name, split in splits.items()}
    for arm, m in (
      (BASELINE, untrained(model)),
      ('probe', model),
    )
  }
  speed = 2 * sum(map(len, splits.values())) / (time.monotonic() - reading)
  scores = {
    arm: probe_scores(
      config.probe.recipe,
      *(by_split[name].features for name in run_data.SPLITS),
      splits,
    )
    for arm, by_split in outputs.items()
  }
  evaluation, predictions, extra, sections = compare(
    config, model, scores, outputs['probe'], splits
  )
  warning = warn_of_signal(config, model)
  if warning:
    extra['signal_warning'] = warning
    sections.append(page.Section('Another signal of PTB-XL', [warning]))
  if config.evaluation.reduced_leads:
    part = reduce_leads(config, model, outputs['probe'], splits)
    extra['reduced_leads'] = part
    sections.append(reduced_leads.section(part))
  if chain_of:
    part = judge_chains(config, chain_of, outputs, splits)
    extra['chains'] = part
    sections.append(chains.section(part, config.evaluation.chains))
  if readers:
    extra['readers'] = judge_readers(config, readers, predictions)
  if config.evaluation.attribution:
    part, section = attribution.evaluate_attribution(
      config, model, other, data, outputs['probe']['test'].probabilities
    )
    extra['attribution'] = part
    sections.append(section)
  results = results_lib.assemble(
    evaluation,
    method=model.config.method,
    dataset=config.data.name,
    protocol=config.probe.recipe,
    split='test',
    seed=model.config.seed,
    step=model.step,
    num_examples=len(splits['test']),
    num_patients=len(np.unique(splits['test'].columns['patient'])),
    hashes={
      'split': data.split_hash,
      'manifest': data.manifest_hash,
      'checkpoint': model.digest,
    },
    device=results_lib.describe_device(),
    examples_per_second=speed,
    wall_seconds=time.monotonic() - started,
    synthetic=data.synthetic,
    leak_allowed=bool(config.data.allow_leak),
    leakage_audit=audit,
    contract=model.contract.to_json(),
    trained_on={
      'dataset': model.config.data.name,
      'task': model.config.data.task,
      'class_names': list(model.class_names),
    },
    dropped={name: split.dropped for name, split in splits.items()},
    config=identity(config),
    **extra,
  )
  publish(path, results, predictions, data, sections)
  return results


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
  options = {
    key: data[key]
    for key in ('size', 'sources', 'labels_csv', 'ptbxl_csv')
    if data.get(key)
  }
  trained_on = prepared.make_builder(data.name, data.dir, data.rate, **options)
  if not (trained_on.data_path / 'dataset_info.json').exists():
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


def compare(config, model, scores, outputs, splits):
  """All arms on the task; the classifier's where its classes have the names.

  Args:
    config: of the evaluation.
    model: the restored model.
    scores: probe arm -> (validation, test) probabilities [N, K].
    outputs: split name -> `model.Outputs` of the model.
    splits: split name -> labelled Split.

  Returns:
    The parts of `arms.evaluate_arms`, the test predictions, further fields of
    the results and further sections of the report.
  """
  classes = splits['test'].class_names
  shared = [name for name in classes if name in model.class_names]
  arm = supervised.arm(model.config) if shared else ''
  columns = [model.class_names.index(name) for name in shared]
  if shared:
    classifier = tuple(
      outputs[name].probabilities[:, columns] for name in ('validation', 'test')
    )
    if len(shared) == len(classes):
      scores = scores | {arm: classifier}
  evaluation, predictions = compare_arms(config, scores, splits, 'probe')
  if not shared or arm in scores:
    return evaluation, predictions, {}, []
  columns = [classes.index(name) for name in shared]
  some = {name: pick_classes(split, columns) for name, split in splits.items()}
  scores = {
    name: tuple(part[:, columns] for part in pair)
    for name, pair in scores.items()
  }
  part, _ = compare_arms(config, scores | {arm: classifier}, some, arm)
  section = page.Section(
    'Classes shared with the checkpoint',
    [
      f'The classifier of the checkpoint ({arm}) knows {", ".join(shared)} of '
      'the classes of this task; all arms on these alone:',
      tables.arms_table(part),
      *tables.difference_tables(part),
    ],
  )
  fields = {'shared_classes': {'class_names': shared, **part}}
  return evaluation, predictions, fields, [section]


def pick_classes(split, columns):
  """The split with some of its classes."""
  picked = {k: split.columns[k][:, columns] for k in ('label', 'label_mask')}
  return dataclasses.replace(
    split,
    columns=split.columns | picked,
    class_names=tuple(split.class_names[k] for k in columns),
  )


def reduce_leads(config, model, outputs, splits) -> dict:
  """`reduced_leads.evaluate_reduced_leads` of a restored model."""
  leads = model.contract.leads
  by_lead = lambda features: features.reshape(len(features), len(leads), -1)

  @jax.jit
  def flat_features(params, model_state, batch):
    batch = to_model_input(batch, model.contract)
    return model.method.predict(params, model_state, batch)['features']

  flat = flat_features(
    model.params,
    model.model_state,
    {'ecg': np.zeros((1, model.contract.length, len(leads)), np.float32)},
  )
  return reduced_leads.evaluate_reduced_leads(
    leads,
    {name: by_lead(part.features) for name, part in outputs.items()},
    by_lead(np.asarray(flat))[0],
    splits['test'].columns,
    lambda train, validation: fit_probe(
      config.probe.recipe, train, validation, splits
    ),
    config.bootstrap_draws,
  )


def judge_chains(config, chain_of, outputs, splits) -> dict:
  """`chains.evaluate_chains` of the model and of the untrained encoder."""
  return chains.evaluate_chains(
    {
      arm: {name: part.features for name, part in by_split.items()}
      for arm, by_split in outputs.items()
    },
    chain_of,
    splits['test'].columns['patient'],
    probe.standardised_lr,
    config.bootstrap_draws,
  )


def read_readers(config, test) -> list[human_readers.Reader]:
  """Readers of the test split, if there are any."""
  if not config.evaluation.readers_csv:
    return []
  return human_readers.read_readers(
    config.evaluation.readers_csv, test.record_ids, test.class_names
  )


def judge_readers(config, readers, predictions) -> dict:
  """Readers beside the classifier, or the probe where that lacks classes."""
  chosen = [name for name in ('finetune', 'scratch', 'linear', 'probe')
            if name in predictions['arms']][0]  # fmt: skip
  return {
    'arm': chosen,
    **human_readers.compare_readers(
      readers,
      predictions['arms'][chosen],
      predictions['thresholds'][chosen],
      predictions['labels'],
      predictions['patients'],
      predictions['class_names'],
      label_mask=predictions['label_mask'],
      draws=config.bootstrap_draws,
    ),
  }


def publish(path, results, predictions, data, sections) -> None:
  """Writes predictions, report and, last, the results; prints the result."""
  mistakes = page.confident_errors(
    predictions['labels'],
    predictions['arms']['probe'],
    predictions['thresholds']['probe'],
    label_mask=predictions['label_mask'],
  )
  test = data.labelled['test']
  load = lambda row: run_data.load_recording(data, 'test', test.record_ids[row])
  errors = page.errors_section(mistakes, test.class_names, load)
  path.parent.mkdir(parents=True, exist_ok=True)
  results_lib.write_predictions(path.with_suffix('.npz'), **predictions)
  page.write_report(
    path.with_suffix('.html'),
    results,
    title=f'{results["method"]} on {results["dataset"]}, as trained on '
    f'{results["trained_on"]["dataset"]}',
    predictions=predictions,
    readers=results.get('readers'),
    sections=[*sections, errors],
  )
  results_lib.write(path, results)
  logger.info('%s', evaluate.summary(results))
  logger.info('Results: %s', path)
  logger.info('Report:  %s', path.with_suffix('.html'))
