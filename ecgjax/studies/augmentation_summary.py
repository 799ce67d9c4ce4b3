"""Tables, conclusions and report of a study of augmentation, from its cells."""

import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ecgjax.config import to_json
from ecgjax.data.batches import shuffle
from ecgjax.evaluators import human_readers
from ecgjax.metrics import compare_arms
from ecgjax.metrics.metrics import f1_thresholds
from ecgjax.report import augmentation, page
from ecgjax.report.ending import Ending
from ecgjax.report.results import assemble, read
from ecgjax.studies import augmentation_fold, study

PROBE, BASELINE, CONTROL = 'random_probe', 'none', 'reconstruction'
BEST, OVERSAMPLING = 'best_of_both', 'oversampling'
CLASSICAL = (
  'class_weights', 'oversampling', 'classical', 'mixup', 'input_smote'
)  # fmt: skip
LATENT = ('latent_mix', 'latent_smote', 'prior')


def write_scores(folder, scores: Mapping) -> None:
  """Keeps arm -> (validation, test) probabilities of a cell."""
  with open(folder / 'scores.npz', 'wb') as file:
    np.savez_compressed(
      file,
      **{
        f'{arm}/{split}': values
        for arm, pair in scores.items()
        for split, values in zip(('validation', 'test'), pair)
      },
    )


def read_scores(folder) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """arm -> (validation, test) probabilities that a cell has stored."""
  with np.load(folder / 'scores.npz') as stored:
    arms = dict.fromkeys(name.split('/')[0] for name in stored.files)
    return {
      arm: (stored[f'{arm}/validation'], stored[f'{arm}/test']) for arm in arms
    }


def summarise(
  config,
  fold,
  runs: pathlib.Path,
  folders: Mapping[str, pathlib.Path],
  arms: Sequence[str],
  best: Sequence[str],
  seconds: float,
) -> Ending:
  """Results, Markdown tables and report of the study.

  Args:
    config: of the study.
    fold: of the first seed.
    runs: folder of what cells share.
    folders: cell -> folder.
    arms: in the order of the tables.
    best: the two arms that `best_of_both` joins, or ().
    seconds: what this process has spent.
  """
  options, data = config.study, fold.data
  records = {name: read(f / 'results.json') for name, f in folders.items()}
  # Of this process, or of all cells where some were there before.
  seconds = max(seconds, sum(r['wall_seconds'] for r in records.values()))
  stacked = _stack(folders, arms, options.seeds)
  predictions = _predictions(stacked, data.labelled)
  latent = [arm for arm in arms if arm in (*LATENT, BEST)]
  rival = best_rival(records, arms, options.seeds)
  evaluation = compare_arms.evaluate_arms(
    **predictions,
    method=options.method,
    baseline=BASELINE,
    comparisons=direct(latent, arms, rival),
    draws=config.bootstrap_draws,
    margin=options.margin,
  )
  first = records[f'{options.method}-seed{options.seeds[0]}']
  found = augmentation_fold.describe(fold, runs, arms)
  fidelity = lambda arm: records[f'{arm}-seed{fold.seed}']['fidelity']
  found['conclusions'] = augmentation.conclude(evaluation, latent)
  found['fidelity'] = {arm: fidelity(arm) for arm in found['generated']}
  found['notes'] = notes(options, found, data, best)
  if rival:
    found['notes'].append(f'Best arm without a codec on validation: {rival}.')
  readers = judge_readers(
    options, stacked[options.method], data, config.bootstrap_draws
  )
  results = assemble(
    evaluation,
    **study.facts(config, data, config.study.method, seconds),
    seed=options.seeds[0],
    step=config.num_steps,
    hashes=first['hashes'],
    examples_per_second=first['examples_per_second'],
    seeds=list(options.seeds),
    augmentation=found,
    study=to_json(options),
    budget=budget(config),
    **({'readers': readers} if readers else {}),
  )
  return Ending(
    results,
    predictions,
    [_section(results), *([human_readers.section(readers)] if readers else [])],
    title=f'Augmentation of rare classes on {config.data.name}',
    text=augmentation.markdown(results),
  )


def _section(results: Mapping) -> page.Section:
  """Claims, notes and tables on the page."""
  claims = augmentation.claims(results)
  built = augmentation.augmentation_tables(results)
  notes = results['augmentation']['notes']
  parts = [*claims, results['budget'], *notes, *built]
  return page.Section('Augmentation', parts)


def _stack(folders: Mapping, arms, seeds) -> dict[str, tuple]:
  """arm -> validation and test probabilities, each [S, N, K]."""
  stacked = {}
  for arm in (PROBE, *arms):
    cell = BASELINE if arm == PROBE else arm
    pairs = [read_scores(folders[f'{cell}-seed{s}'])[arm] for s in seeds]
    stacked[arm] = tuple(np.stack(side) for side in zip(*pairs))
  return stacked


def _predictions(stacked: Mapping, splits: Mapping) -> dict:
  """Test predictions of all arms, thresholds from validation."""
  validation, test = (splits[x].columns for x in ('validation', 'test'))
  return {
    'arms': {arm: pair[1] for arm, pair in stacked.items()},
    'labels': test['label'],
    'patients': test['patient'],
    'class_names': splits['test'].class_names,
    'label_mask': test['label_mask'],
    'thresholds': {
      arm: f1_thresholds(validation['label'], pair[0], validation['label_mask'])
      for arm, pair in stacked.items()
    },
  }


def direct(latent, arms, rival: str) -> list[tuple[str, str]]:
  """Pairs beside those with the baseline: what a codec adds to what is cheap.

  Args:
    latent: arms that use a codec.
    arms: all arms.
    rival: the best other arm on validation, or ''.
  """
  others = dict.fromkeys((CONTROL, OVERSAMPLING, rival))
  return [(a, b) for a in latent for b in others if b in arms and a != b]


def best_rival(records: Mapping, arms, seeds) -> str:
  """The arm without a codec that is best on validation, '' if there is none."""
  means = {
    arm: np.mean(
      [records[f'{arm}-seed{seed}']['validation_macro_auroc'] for seed in seeds]
    )
    for arm in arms
    if arm in CLASSICAL
  }
  return max(means, key=means.get, default='')


def judge_readers(options, scores, data, draws: int) -> dict | None:
  """The arm under test, averaged over seeds, beside readers of the test split.

  Args:
    options: `config.study`; `readers_csv` is '' for none.
    scores: validation and test probabilities, each [S, N, K].
    data: `run_data.RunData`.
    draws: of the bootstrap.
  """
  if not options.readers_csv:
    return None
  test, validation = data.labelled['test'], data.labelled['validation'].columns
  own, theirs = (side.mean(axis=0) for side in scores)
  readers = human_readers.read_readers(
    options.readers_csv, test.record_ids, test.class_names
  )
  return {
    'arm': options.method,
    **human_readers.compare_readers(
      readers,
      theirs,
      f1_thresholds(validation['label'], own, validation['label_mask']),
      test.columns['label'],
      test.columns['patient'],
      test.class_names,
      label_mask=test.columns['label_mask'],
      draws=draws,
    ),
  }


def budget(config) -> str:
  """What every arm got, in words."""
  options = config.study
  shared = 'one fold, codec and set of generated ECGs for all of them'
  if not options.shared_codec:
    shared = 'each with a fold, codec and generated ECGs of its own'
  return (
    f'Every arm: {config.num_steps} updates of {config.batch_size} ECGs, '
    f'{config.model.name} with learning rate '
    f'{config.optimizer.learning_rate:g}, best checkpoint on validation; '
    f'{len(options.seeds)} seeds, {shared} ({jax.default_backend()}).'
  )


def notes(options, found, data, best: Sequence[str]) -> list[str]:
  """What a reader of the tables must know."""
  lines = []
  if found['codec']:
    metrics = found['codec']['metrics']
    stage = found['codec']['codebook']['stages'][0]
    lines.append(
      f'Codec on validation: PRDN {metrics["prdn"]["value"]:.1f} %, r '
      f'{metrics["r"]["value"]:.3f}, perplexity {stage["perplexity"]:.0f} of '
      f'{found["codec"]["codebook"]["num_codes"]}, usage {stage["usage"]:.2f}.'
    )
  share, train = options.oversample, data.labelled['train'].columns
  repeats = shuffle.repeats(train['label'], train['label_mask'], share)
  if 'oversampling' in options.arms and repeats.max() == 1:
    lines.append(
      f'The arm oversampling repeats nothing: every class has about the share '
      f'{share:g} of the training ECGs already.'
    )
  if best:
    lines.append(f'{BEST}: {" + ".join(best)}.')
  if data.synthetic and 'simulator' in options.arms:
    lines.append(
      'The arm simulator draws from the program that made the test ECGs: it is '
      'a bound, no competitor.'
    )
  if options.shared_codec:
    lines.append(
      'Intervals and spread over seeds do not contain the choice of the fold '
      'and the training of the codec.'
    )
  return lines
