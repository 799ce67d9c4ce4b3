"""Recordings as rows of a batch: resampled, reordered, cut or padded.

The same steps as when a data set is prepared and read (`convert`,
`stream`), so that a model sees a file as it would see it there.
"""

from collections.abc import Sequence

import numpy as np

from ecgjax.data.raw import validate
from ecgjax.data.store import convert
from ecgjax.ecg.contract import InputContract
from ecgjax.ecg.leads import LEADS, canonical
from ecgjax.ecg.recording import Recording
from ecgjax.ecg.resample import resample_signal


def select(recording: Recording, leads: Sequence[str]) -> Recording:
  """The recording with these of its leads, in canonical order."""
  names = [name for name in LEADS if name in leads]
  columns = [recording.leads.index(name) for name in names]
  return recording._replace(
    samples=recording.samples[:, columns],
    gain=recording.gain[columns],
    baseline=recording.baseline[columns],
    leads=tuple(names),
  )


def make_row(
  recording: Recording,
  accepted: validate.Accepted,
  contract: InputContract,
) -> dict[str, np.ndarray]:
  """A recording as the input contract asks for it.

  Polyphase resampling; of a longer recording the first window of the
  contract's length; a shorter one is padded at its end, which the model is
  told (`valid_len`) and which normalisation leaves out.

  Args:
    recording: with all leads of the contract.
    accepted: what `validate.check` says about it.
    contract: what the model expects.

  Returns:
    `ecg` int16 [L, C], `gain` and `baseline` f32 [C], `valid_start` and
    `valid_len` int32, see `ecg.contract.to_model_input`.
  """
  part, _ = convert.shorten(recording, contract.rate)
  columns = [part.leads.index(name) for name in contract.leads]
  samples = part.samples[: contract.length, columns]
  ecg = np.zeros((contract.length, len(columns)), np.int16)
  ecg[: len(samples)] = samples
  start = convert.start_at(recording, accepted, contract.rate)
  return {
    'ecg': ecg,
    'gain': part.gain[columns].astype(np.float32),
    'baseline': part.baseline[columns].astype(np.float32),
    'valid_start': np.int32(min(start, len(samples))),
    'valid_len': np.int32(max(len(samples) - start, 0)),
  }


def make_batch(
  ecg, rate: float, leads: Sequence[str], contract: InputContract
) -> dict[str, np.ndarray]:
  """ECGs in memory as the input contract asks for them.

  Args:
    ecg: [N, T, C] millivolts, every sample recorded.
    rate: Hz; another one is resampled, polyphase.
    leads: names of the C leads, in any order and spelling; others than those
      of the contract are left out.
    contract: what a model expects.

  Returns:
    `ecg` float32 [N, length, leads of the contract], of which a longer one
    gives its first samples; where it is shorter, it ends with zeros, and
    `valid_start` and `valid_len` [N] say what was recorded.

  Raises:
    ValueError: if a lead of the contract is missing, a sample is not finite or
      the shape is another.
  """
  ecg, names = np.asarray(ecg, np.float32), [canonical(name) for name in leads]
  if ecg.ndim != 3 or ecg.shape[2] != len(names):
    raise ValueError(
      f'ecg has shape {ecg.shape}; expected (ECGs, samples, leads) with the '
      f'{len(names)} leads {", ".join(names)}'
    )
  missing = [name for name in contract.leads if name not in names]
  if missing:
    raise ValueError(
      f'ecg has no lead {missing[0]}; the model needs '
      f'{", ".join(contract.leads)}'
    )
  if not np.isfinite(ecg).all():
    raise ValueError('ecg holds samples that are not finite; leave them out')
  ecg = ecg[..., [names.index(name) for name in contract.leads]]
  ecg = resample_signal(ecg, rate, contract.rate, axis=1)[:, : contract.length]
  recorded = ecg.shape[1]
  if recorded == contract.length:
    return {'ecg': ecg}
  rest = contract.length - recorded
  return {
    'ecg': np.pad(ecg, ((0, 0), (0, rest), (0, 0))),
    'valid_start': np.zeros(len(ecg), np.int32),
    'valid_len': np.full(len(ecg), recorded, np.int32),
  }


def empty_batch(contract: InputContract, size: int) -> dict[str, np.ndarray]:
  """A batch of `size` rows without signal, for its shapes."""
  leads = len(contract.leads)
  return {
    'ecg': np.zeros((size, contract.length, leads), np.int16),
    'gain': np.ones((size, leads), np.float32),
    'baseline': np.zeros((size, leads), np.float32),
    'valid_start': np.zeros(size, np.int32),
    'valid_len': np.full(size, contract.length, np.int32),
  }
