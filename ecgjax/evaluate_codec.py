"""A codec judged by its reconstructions of the test split.

Adds figures to `results.json`, the arms of a judge to its tables and a section
to the report.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import config as config_lib
from ecgjax import evaluate, restored
from ecgjax import leads as leads_lib
from ecgjax import paper as paper_lib
from ecgjax.data import input_pipeline
from ecgjax.evaluation import codec_tables, ink, reconstruction, report
from ecgjax.inputs import InputContract
from ecgjax.models import vqvae


class Finding(NamedTuple):
  """What the evaluation of a codec adds to that of its features.

  Attributes:
    metrics: name -> {'value', 'ci95'}, beside those of the labels.
    fields: further fields of `results.json`.
    arms: arm -> (validation, test) probabilities, see
      `evaluate.compare_arms`.
    comparisons: pairs of arms.
    sections: of the report.
  """

  metrics: dict
  fields: dict
  arms: dict
  comparisons: tuple[tuple[str, str], ...]
  sections: list[report.Section]


NOTHING = Finding({}, {}, {}, (), [])


def evaluate_codec(
  config, contract, predict: Callable, decode: Callable, data
) -> Finding:
  """Quality of a codec on the test split: of signals, or of pages.

  Args:
    config: of the run.
    contract: its input contract.
    predict: batch -> `reconstruction` and `indices`.
    decode: from `make_decode`; of signals only.
    data: `data.sources.Data` of the run.
  """
  if 'image' in config:
    return evaluate_pages(config, contract, predict, data)
  return evaluate_signals(config, contract, predict, decode, data)


def make_decode(config, state) -> Callable:
  """Returns indices [B, T, q] of the first q stages -> ECGs [B, L, 12], mV."""
  codec = vqvae.make_codec(config)

  @jax.jit
  def decode(indices):
    z_q = codec.lookup(state.model_state['codebook'], indices)
    return leads_lib.from_independent(jnp, codec.decode(state.params, z_q))

  return decode


def _code(predict: Callable, contract: InputContract, split):
  batches = input_pipeline.eval_batches(split, evaluate.BATCH_SIZE)
  return reconstruction.reconstruct(predict, contract, batches)


def evaluate_pages(config, contract, predict: Callable, data) -> Finding:
  """Ink of the test split, and the signal read from it; see `ink`."""
  test = _code(predict, contract, data.labelled['test'])
  paper = paper_lib.make(**config.image)
  num_codes = vqvae.make_codec(config).num_codes
  found = ink.summarise(
    test, contract.rate, paper, num_codes, config.bootstrap_draws
  )
  pictures = [
    report.Picture(figure, f'{name} page by F1', png=True)
    for name, figure in ink.plot_examples(
      test, contract.rate, paper, data.synthetic
    ).items()
  ]
  page = report.Section('Pages', [*codec_tables.page_tables(found), *pictures])
  metrics = found.pop('metrics')
  return Finding(metrics, {'pages': found}, {}, (), [page])


def evaluate_signals(
  config, contract, predict: Callable, decode: Callable, data
) -> Finding:
  """Quality of a codec of signals, and what a judge makes of it.

  The judge is an encoder that never saw a reconstruction: a probe is fitted on
  its features of original training ECGs and read on original and on
  reconstructed test ECGs (vqvae.md 6, "augmentation gate").

  Args:
    config: of the run; `config.vqvae.judge` is the work folder of the judge,
      '' for LCD's encoder before training.
    contract: its input contract.
    predict: batch -> `reconstruction` and `indices`.
    decode: from `make_decode`.
    data: `data.sources.Data` of the run.

  Raises:
    ValueError: if the judge expects another rate or length.
  """
  splits = data.labelled
  coded = {name: _code(predict, contract, splits[name]) for name in splits}
  test = coded['test']
  num_codes = vqvae.make_codec(config).num_codes
  found = reconstruction.summarise(
    test, contract.rate, num_codes, config.bootstrap_draws
  )
  for row, prdn in zip(
    found['codebook']['stages'], stage_prdn(test, decode), strict=True
  ):
    row['prdn'] = prdn
  judge = make_judge(config, contract)
  features = functools.partial(_features, judge)
  probe = evaluate.fit_probe(
    config.probe.recipe,
    features(coded['train'].original),
    features(coded['validation'].original),
    splits,
  )
  validation = probe.predict(features(coded['validation'].original))
  arms = {  # the same thresholds for both
    'judge': (validation, probe.predict(features(test.original))),
    'judge_on_reconstructions': (
      validation, probe.predict(features(test.reconstruction))
    ),
  }  # fmt: skip
  pictures = [
    report.Picture(figure, f'{name} record by PRDN', png=True)
    for name, pair in reconstruction.plot_examples(
      test, contract.rate, data.synthetic
    ).items()
    for figure in pair
  ]
  return Finding(
    metrics=found.pop('metrics'),
    fields={'reconstruction': found},
    arms=arms,
    comparisons=(('judge_on_reconstructions', 'judge'),),
    sections=[
      report.Section(
        'Reconstruction',
        [*codec_tables.reconstruction_tables(found), *pictures],
      )
    ],
  )


def stage_prdn(test: reconstruction.Reconstructed, decode) -> list[float]:
  """Median PRDN in % with the first stage, the first two, ... all of them."""
  found = []
  for stages in range(1, test.indices.shape[2] + 1):
    indices = test.indices[:, :, :stages]
    parts = np.array_split(indices, -(-len(indices) // evaluate.BATCH_SIZE))
    ecg = np.concatenate([np.asarray(decode(part)) for part in parts])
    found.append(
      float(np.median(reconstruction.record_prdn(test.original, ecg)))
    )
  return found


def make_judge(config, contract: InputContract) -> restored.Restored:
  """The encoder that judges reconstructions of a codec."""
  folder = config.vqvae.judge
  if folder:
    judge = restored.restore_model(folder)
  else:
    fields = config_lib.to_json(config_lib.common(config.data.name))
    fields |= {'method': 'lcd', 'lcd': config_lib.lcd_options()}
    fields['data'] |= {'rate': contract.rate, 'length': contract.length}
    judge = restored.make_untrained(config_lib.from_json(fields))
  theirs = judge.contract
  if (theirs.rate, theirs.length) != (contract.rate, contract.length):
    raise ValueError(
      f'config.vqvae.judge: {folder} expects {theirs.length} samples at '
      f'{theirs.rate:g} Hz, the codec gives {contract.length} at '
      f'{contract.rate:g} Hz'
    )
  return judge


def _features(judge: restored.Restored, ecg: np.ndarray) -> np.ndarray:
  """Features [N, D] of ECGs [N, L, 12] in mV."""
  chosen = ecg[..., list(leads_lib.indices(judge.contract.leads))]
  size = evaluate.BATCH_SIZE
  predict = evaluate.compiled_predict(judge.method, judge.contract)
  found = []
  for first in range(0, len(chosen), size):
    rows = chosen[first : first + size]
    padded = np.resize(rows, (size, *rows.shape[1:]))
    outputs = predict(judge.params, judge.model_state, {'ecg': padded})
    found.append(np.asarray(outputs['features'], np.float32)[: len(rows)])
  return np.concatenate(found)
