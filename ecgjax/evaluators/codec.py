"""A codec judged by its reconstructions of the test split.

Adds figures to `results.json`, the arms of a judge to its tables and a section
to the report.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.config import common
from ecgjax.data.batches import stream
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.evaluators.arms import fit_probe
from ecgjax.metrics import page_errors, reconstruction
from ecgjax.model import (
  BATCH_SIZE,
  Model,
  features,
  load,
  make_untrained,
  outputs,
)
from ecgjax.report import codec_tables
from ecgjax.report.finding import Finding
from ecgjax.report.page import Picture, Section

# Work folder of an encoder that judges reconstructions; '': LCD's encoder
# before training.
OPTIONS = {'judge': ''}


def check(options, model: Model) -> None:
  """Raises a ValueError where the judge does not fit the codec."""
  if options['judge']:
    make_judge(options['judge'], model.contract)


def evaluate(run) -> Finding:
  """Quality of a codec on the test split: of signals, or of pages."""
  test = _code(run.model, run.data.labelled['test'])
  if run.model.method.codec.paper:
    return evaluate_pages(run, test)
  return evaluate_signals(run, test, make_decode(run.model))


def make_decode(model: Model) -> Callable:
  """Returns indices [B, T, q] of the first q stages -> ECGs [B, L, 12], mV."""
  codec = model.method.codec

  @jax.jit
  def decode(indices):
    z_q = codec.lookup(model.model_state['codebook'], indices)
    return leads.from_independent(jnp, codec.decode(model.params, z_q))

  return decode


def _code(model: Model, split) -> reconstruction.Reconstructed:
  return reconstruction.reconstruct(
    functools.partial(outputs, model),
    model.contract,
    stream.eval_batches(split, BATCH_SIZE),
  )


def evaluate_pages(run, test: reconstruction.Reconstructed) -> Finding:
  """Ink of the test split, and the signal read from it; see `page_errors`."""
  rate, codec = run.model.contract.rate, run.model.method.codec
  found = page_errors.summarise(
    test, rate, codec.paper, codec.num_codes, run.draws
  )
  pictures = [
    Picture(figure, f'{name} page by F1', png=True)
    for name, figure in page_errors.plot_examples(
      test, rate, codec.paper, run.data.synthetic
    ).items()
  ]
  page = Section('Pages', [*codec_tables.page_tables(found), *pictures])
  metrics = found.pop('metrics')
  return Finding(metrics, {'pages': found}, sections=[page])


def evaluate_signals(
  run, test: reconstruction.Reconstructed, decode: Callable
) -> Finding:
  """Quality of a codec of signals, and what a judge makes of it.

  The judge is an encoder that never saw a reconstruction: a probe is fitted on
  its features of original training ECGs and read on original and on
  reconstructed test ECGs (docs/methods.md, Reconstruction figures).

  Args:
    run: see `evaluate`.
    test: the test split before and after the codec.
    decode: what `make_decode` returned.
  """
  contract, splits = run.model.contract, run.data.labelled
  num_codes = run.model.method.codec.num_codes
  found = reconstruction.summarise(test, contract.rate, num_codes, run.draws)
  for row, prdn in zip(
    found['codebook']['stages'], stage_prdn(test, decode), strict=True
  ):
    row['prdn'] = prdn
  judge = make_judge(run.options['judge'], contract)
  see = lambda ecg: features(judge, ecg, contract.rate, leads.LEADS)
  train, held_out = (
    see(_code(run.model, splits[name]).original)
    for name in ('train', 'validation')
  )
  probe = fit_probe(run.recipe, train, held_out, splits)
  validation = probe.predict(held_out)
  arms = {  # the same thresholds for both
    'judge': (validation, probe.predict(see(test.original))),
    'judge_on_reconstructions': (
      validation, probe.predict(see(test.reconstruction))
    ),
  }  # fmt: skip
  pictures = [
    Picture(figure, f'{name} record by PRDN', png=True)
    for name, pair in reconstruction.plot_examples(
      test, contract.rate, run.data.synthetic
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


def make_judge(folder: str, contract: InputContract) -> Model:
  """The encoder that judges reconstructions of a codec.

  Args:
    folder: its work folder, '' for LCD's encoder before training.
    contract: input contract of the codec.

  Raises:
    ValueError: if it expects another rate or length.
  """
  if folder:
    judge = load(folder)
  else:
    judge = common('synthetic', 'lcd')
    judge.data.update(rate=contract.rate, length=contract.length)
    judge = make_untrained(judge)
  theirs = judge.contract
  if (theirs.rate, theirs.length) != (contract.rate, contract.length):
    raise ValueError(
      f'config.vqvae.judge: {folder} expects {theirs.length} samples at '
      f'{theirs.rate:g} Hz, the codec gives {contract.length} at '
      f'{contract.rate:g} Hz'
    )
  return judge
