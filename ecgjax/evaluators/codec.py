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

from ecgjax.config import common, from_json, lcd_options, to_json
from ecgjax.data.batches import stream
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.ecg.page import make
from ecgjax.evaluators.arms import fit_probe
from ecgjax.metrics import page_errors, reconstruction
from ecgjax.model import BATCH_SIZE, Model, load, make_untrained, outputs
from ecgjax.models.codec import make_codec
from ecgjax.report import codec_tables
from ecgjax.report.page import Picture, Section


class Finding(NamedTuple):
  """What the evaluation of a codec adds to that of its features.

  Attributes:
    metrics: name -> {'value', 'ci95'}, beside those of the labels.
    fields: further fields of `results.json`.
    arms: arm -> (validation, test) probabilities, see
      `arms.compare_arms`.
    comparisons: pairs of arms.
    sections: of the report.
  """

  metrics: dict
  fields: dict
  arms: dict
  comparisons: tuple[tuple[str, str], ...]
  sections: list[Section]


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
    data: `data.batches.run_data.Data` of the run.
  """
  if 'image' in config:
    return evaluate_pages(config, contract, predict, data)
  return evaluate_signals(config, contract, predict, decode, data)


def make_decode(config, model: Model) -> Callable:
  """Returns indices [B, T, q] of the first q stages -> ECGs [B, L, 12], mV."""
  codec = make_codec(config)

  @jax.jit
  def decode(indices):
    z_q = codec.lookup(model.model_state['codebook'], indices)
    return leads.from_independent(jnp, codec.decode(model.params, z_q))

  return decode


def _code(predict: Callable, contract: InputContract, split):
  batches = stream.eval_batches(split, BATCH_SIZE)
  return reconstruction.reconstruct(predict, contract, batches)


def evaluate_pages(config, contract, predict: Callable, data) -> Finding:
  """Ink of the test split, and the signal read from it; see `ink`."""
  test = _code(predict, contract, data.labelled['test'])
  paper = make(**config.image)
  num_codes = make_codec(config).num_codes
  found = page_errors.summarise(
    test, contract.rate, paper, num_codes, config.bootstrap_draws
  )
  pictures = [
    Picture(figure, f'{name} page by F1', png=True)
    for name, figure in page_errors.plot_examples(
      test, contract.rate, paper, data.synthetic
    ).items()
  ]
  page = Section('Pages', [*codec_tables.page_tables(found), *pictures])
  metrics = found.pop('metrics')
  return Finding(metrics, {'pages': found}, {}, (), [page])


def evaluate_signals(
  config, contract, predict: Callable, decode: Callable, data
) -> Finding:
  """Quality of a codec of signals, and what a judge makes of it.

  The judge is an encoder that never saw a reconstruction: a probe is fitted on
  its features of original training ECGs and read on original and on
  reconstructed test ECGs (docs/methods.md, Reconstruction figures).

  Args:
    config: of the run; `config.vqvae.judge` is the work folder of the judge,
      '' for LCD's encoder before training.
    contract: its input contract.
    predict: batch -> `reconstruction` and `indices`.
    decode: from `make_decode`.
    data: `data.batches.run_data.Data` of the run.

  Raises:
    ValueError: if the judge expects another rate or length.
  """
  splits = data.labelled
  coded = {name: _code(predict, contract, splits[name]) for name in splits}
  test = coded['test']
  num_codes = make_codec(config).num_codes
  found = reconstruction.summarise(
    test, contract.rate, num_codes, config.bootstrap_draws
  )
  for row, prdn in zip(
    found['codebook']['stages'], stage_prdn(test, decode), strict=True
  ):
    row['prdn'] = prdn
  judge = make_judge(config, contract)
  features = functools.partial(_features, judge)
  probe = fit_probe(
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
    Picture(figure, f'{name} record by PRDN', png=True)
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
      Section(
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
    parts = np.array_split(indices, -(-len(indices) // BATCH_SIZE))
    ecg = np.concatenate([np.asarray(decode(part)) for part in parts])
    found.append(
      float(np.median(reconstruction.record_prdn(test.original, ecg)))
    )
  return found


def make_judge(config, contract: InputContract) -> Model:
  """The encoder that judges reconstructions of a codec."""
  folder = config.vqvae.judge
  if folder:
    judge = load(folder)
  else:
    fields = to_json(common(config.data.name))
    fields |= {'method': 'lcd', 'lcd': lcd_options()}
    fields['data'] |= {'rate': contract.rate, 'length': contract.length}
    judge = make_untrained(from_json(fields))
  theirs = judge.contract
  if (theirs.rate, theirs.length) != (contract.rate, contract.length):
    raise ValueError(
      f'config.vqvae.judge: {folder} expects {theirs.length} samples at '
      f'{theirs.rate:g} Hz, the codec gives {contract.length} at '
      f'{contract.rate:g} Hz'
    )
  return judge


def _features(judge: Model, ecg: np.ndarray) -> np.ndarray:
  """Features [N, D] of ECGs [N, L, 12] in mV."""
  chosen = ecg[..., list(leads.indices(judge.contract.leads))]
  size = BATCH_SIZE
  found = []
  for first in range(0, len(chosen), size):
    rows = chosen[first : first + size]
    padded = np.resize(rows, (size, *rows.shape[1:]))
    said = outputs(judge, {'ecg': padded})
    found.append(np.asarray(said['features'], np.float32)[: len(rows)])
  return np.concatenate(found)
