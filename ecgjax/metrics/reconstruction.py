"""How well a codec reproduces ECGs: amplitudes, spectrum, beats, codes.

Figures per lead: PRD = 100 sqrt(sum (x - y)^2 / sum x^2), in %;
PRDN, the same with x - mean(x) in the denominator (PRD flatters where there is
an offset); root mean square and largest error; Pearson's r; difference of the
spectra. Figures per record: the same over all leads, each about its own mean;
QRS complexes found again, their times and widths, R amplitudes and ST levels.

White noise cannot be coded: `prdn_floor` says how much of PRDN is owed to it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import signal

from ecgjax.ecg import beats, leads, plot
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.metrics import bootstrap

BANDS = ((0.5, 5.0), (5.0, 15.0), (15.0, 40.0))  # Hz
_TOLERANCE = 0.05  # s, within which a QRS complex counts as found again


class Reconstructed(NamedTuple):
  """A split before and after the codec, padding rows left out.

  Attributes:
    original: [N, L, 12] mV; leads that the codec derives are derived here too.
    reconstruction: [N, L, 12] mV; of pages [N, H, W] uint8, 255 for white.
    indices: [N, T, Q] code indices.
    patients: [N].
  """

  original: np.ndarray
  reconstruction: np.ndarray
  indices: np.ndarray
  patients: np.ndarray


def reconstruct(
  predict: Callable, contract: InputContract, batches: Iterable[dict]
) -> Reconstructed:
  """Codes and decodes all records of a split.

  Args:
    predict: batch -> `reconstruction` and `indices`, see `methods.vqvae`.
    contract: input contract of the codec.
    batches: dicts with `ecg` [B, L, C] and `mask` [B], one pass over a split.
  """
  parts = []
  for batch in batches:
    keep = np.asarray(batch['mask']) > 0
    found = predict(batch)
    ecg = np.asarray(to_model_input(batch, contract)['ecg'])
    rows = (
      leads.from_independent(np, ecg),
      found['reconstruction'],
      found['indices'],
      batch['patient'],
    )
    parts.append([np.asarray(x)[keep] for x in rows])
  return Reconstructed(*map(np.concatenate, zip(*parts)))


def lead_errors(
  x: np.ndarray, y: np.ndarray, rate: float
) -> dict[str, np.ndarray]:
  """Computes the errors of every lead of every record.

  Args:
    x: [N, L, C] originals, mV.
    y: [N, L, C] reconstructions, mV.
    rate: Hz.

  Returns:
    name -> [N, C]: `prd` and `prdn` in %, `rmse_uv`, `max_error_uv`, `r`,
    `spectral_db` (mean absolute difference of the power in `BANDS`, dB). NaN
    where a lead is constant.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  return {
    'prd': _percent(_energy(x - y), _energy(x)),
    'prdn': _percent(_energy(x - y), _energy(_centred(x))),
    'rmse_uv': 1000 * np.sqrt(_energy(x - y) / x.shape[1]),
    'max_error_uv': 1000 * np.abs(x - y).max(axis=1),
    'r': _correlation(x, y, axis=1),
    'spectral_db': np.abs(
      _band_power_db(x, rate) - _band_power_db(y, rate)
    ).mean(axis=-1),
  }


def record_errors(
  x: np.ndarray, y: np.ndarray, rate: float
) -> dict[str, np.ndarray]:
  """Computes errors of every record over all leads; see `lead_errors`.

  Returns:
    name -> [N]: `prd`, `prdn`, `prdn_floor`, `rmse_uv`, `r`, and those of
    `beat_errors`.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  axes = (1, 2)
  found = {
    'prd': _percent(_energy(x - y, axes), _energy(x, axes)),
    'prdn': record_prdn(x, y),
    'prdn_floor': noise_floor(x),
    'rmse_uv': 1000 * np.sqrt(_energy(x - y, axes) / x[0].size),
    'r': _correlation(x, y, axis=axes),
  }
  rows = [beat_errors(a, b, rate) for a, b in zip(x, y)]
  return found | {k: np.array([row[k] for row in rows]) for k in rows[0]}


def beat_errors(x: np.ndarray, y: np.ndarray, rate: float) -> dict[str, float]:
  """Compares the beats of one record before and after the codec.

  Args:
    x: [L, C] original, mV.
    y: [L, C] reconstruction, mV.
    rate: Hz.

  Returns:
    `r_sensitivity` and `r_ppv`: share of QRS complexes found again within 50
    ms, and of those in y that x has; `r_time_ms`: median absolute shift; of the
    median beat `qrs_ms`, `r_percent` (QRS amplitude, mean over leads weighted
    by amplitude) and `st_uv` (mean over leads), all absolute. NaN where there
    is nothing to compare.
  """
  ours, theirs = beats.r_peaks(y, rate), beats.r_peaks(x, rate)
  a, b = beats.match(ours, theirs, _TOLERANCE * rate)
  share = lambda n: len(a) / n if n else np.nan
  found = {
    'r_sensitivity': share(len(theirs)),
    'r_ppv': share(len(ours)),
    'r_time_ms': np.nan,
    'qrs_ms': np.nan,
    'r_percent': np.nan,
    'st_uv': np.nan,
  }
  if len(a):
    shift = np.abs(ours[a] - theirs[b])
    found['r_time_ms'] = 1000 * float(np.median(shift)) / rate
  one = beats.median_beat(x, rate, theirs)
  two = beats.median_beat(y, rate, ours)
  if one is None or two is None:
    return found
  return found | {
    'qrs_ms': abs(one.qrs_ms - two.qrs_ms),
    'r_percent': 100 * np.abs(one.r_mv - two.r_mv).sum() / one.r_mv.sum(),
    'st_uv': 1000 * np.abs(one.st_mv - two.st_mv).mean(),
  }


def noise_floor(x: np.ndarray) -> np.ndarray:
  """Estimates the PRDN that the white noise of each record alone causes.

  Its standard deviation is estimated from the second differences: the median
  absolute one, which the few steep samples of QRS do not reach.

  Args:
    x: [N, L, C] mV.

  Returns:
    [N] %.
  """
  second = np.abs(np.diff(x, 2, axis=1))
  sigma = np.median(second, axis=1) / 0.6745 / np.sqrt(6)  # [N, C]
  return _percent((sigma**2).sum(axis=1), _centred(x).var(axis=1).sum(axis=1))


def code_usage(indices: np.ndarray, num_codes: int) -> list[dict[str, float]]:
  """Measures how each stage's codebook is used over a whole split.

  Args:
    indices: [N, T, Q].
    num_codes: K.

  Returns:
    Per stage `perplexity`, `usage` (share of codes hit), `top1` and `dead`.
  """
  stages = []
  for q in range(indices.shape[-1]):
    n = np.bincount(indices[..., q].ravel(), minlength=num_codes)
    p = n[n > 0] / n.sum()
    stages.append(
      {
        'perplexity': float(np.exp(-np.sum(p * np.log(p)))),
        'usage': float(np.mean(n > 0)),
        'top1': float(p.max()),
        'dead': int(np.sum(n == 0)),
      }
    )
  return stages


def summarise(
  found: Reconstructed,
  rate: float,
  num_codes: int,
  draws: int = bootstrap.DRAWS,
) -> dict:
  """Returns the figures of a split, ready for JSON.

  Args:
    found: what `reconstruct` returns.
    rate: Hz.
    num_codes: K.
    draws: number of bootstrap draws over patients.

  Returns:
    `metrics`: name -> {'value', 'ci95'}, the median over records (mean of
    `r_sensitivity` and `r_ppv`) of `record_errors`; `per_lead`: lead -> name ->
    median of `lead_errors`; `codebook`: see `codebook_figures`.
  """
  x, y, indices, patients = found
  records = record_errors(x, y, rate)
  metrics = {}
  for name, values in records.items():
    defined = ~np.isnan(values)
    if not defined.any():
      continue
    statistic = (
      bootstrap.mean_with_interval
      if name in ('r_sensitivity', 'r_ppv')
      else median_with_interval
    )
    metrics[name] = statistic(values[defined], patients[defined], draws)
  per_lead: dict[str, dict] = {lead: {} for lead in leads.LEADS}
  for name, values in lead_errors(x, y, rate).items():
    for lead, column in zip(leads.LEADS, values.T):
      if not np.isnan(column).all():
        per_lead[lead][name] = float(np.nanmedian(column))
  codebook = codebook_figures(indices, num_codes, x.shape[1] / rate, rate)
  return {'metrics': metrics, 'per_lead': per_lead, 'codebook': codebook}


def codebook_figures(
  indices: np.ndarray, num_codes: int, seconds: float, rate: float
) -> dict:
  """Returns the rate of a codec and how its codes are used.

  Args:
    indices: [N, T, Q].
    num_codes: K.
    seconds: length of a record.
    rate: Hz of the signal.

  Returns:
    `bits_per_second`, `compression` (against 16 bits per sample of the eight
    independent leads), `num_codes` and `stages`, see `code_usage`.
  """
  tokens, stages = indices.shape[1:]
  bits = tokens * stages * np.log2(num_codes) / seconds
  raw = len(leads.INDEPENDENT_LEADS) * rate * 16
  return {
    'bits_per_second': float(bits),
    'compression': float(raw / bits),
    'num_codes': num_codes,
    'stages': code_usage(indices, num_codes),
  }


def median_with_interval(
  values: np.ndarray, patients: Sequence, draws: int, seed: int = 0
) -> dict:
  """Median of a per-record figure, with its patient-bootstrap interval.

  In a draw as in the sample, it is the smallest value with at least half of
  the records at or below it.

  Args:
    values: [N] finite.
    patients: [N].
    draws: number of resamples.
    seed: int, of the bootstrap; the same for everything in one table.

  Returns:
    {'value', 'ci95'}.
  """
  order = np.argsort(values, kind='stable')
  values = np.asarray(values, np.float64)[order]
  counts = bootstrap.patient_counts(patients, draws, seed)[order]  # [N, D]
  below = np.cumsum(counts, axis=0, dtype=np.int64)
  resampled = values[np.argmax(2 * below >= below[-1], axis=0)]
  middle = values[(len(values) - 1) // 2]
  return {'value': float(middle), 'ci95': bootstrap.interval(resampled)}


def plot_examples(
  found: Reconstructed, rate: float, synthetic: bool
) -> dict[str, tuple]:
  """Draws the median, a bad and the worst record by PRDN on ECG paper.

  Returns:
    'median', '95th percentile', 'worst' -> figures of original and
    reconstruction.
  """
  prdn = record_prdn(found.original, found.reconstruction)
  order = np.argsort(prdn)
  last = len(order) - 1
  places = {'median': last // 2, '95th percentile': round(0.95 * last)}
  figures = {}
  for name, place in (places | {'worst': last}).items():
    i = order[place]
    figures[name] = tuple(
      plot.plot_ecg(
        ecg[i],
        rate,
        title=f'{what}, {name} record: PRDN {prdn[i]:.1f} %',
        synthetic=synthetic,
      )
      for what, ecg in (
        ('Original', found.original),
        ('Reconstruction', found.reconstruction),
      )
    )
  return figures


def record_prdn(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """PRDN of each record over all leads: [N, L, C] twice -> [N], %."""
  axes = (1, 2)
  return _percent(_energy(x - y, axes), _energy(_centred(x), axes))


def _centred(x):
  return x - x.mean(axis=1, keepdims=True)


def _energy(x, axis=1):
  return np.square(x).sum(axis=axis)


def _percent(error, reference):
  """100 sqrt(error / reference), NaN where the reference is zero."""
  ratio = np.full(np.shape(error), np.nan)
  np.divide(error, reference, out=ratio, where=reference > 0)
  return 100 * np.sqrt(ratio)


def _correlation(x, y, axis):
  """Pearson's r with every lead about its own mean."""
  x, y = _centred(x), _centred(y)
  scale = np.sqrt(_energy(x, axis) * _energy(y, axis))
  r = np.full(scale.shape, np.nan)
  return np.divide((x * y).sum(axis=axis), scale, out=r, where=scale > 0)


def _band_power_db(x, rate):
  """[N, L, C] -> [N, C, bands] power in `BANDS`, dB re 1 uV^2."""
  window = min(x.shape[1], round(4 * rate))
  hertz, density = signal.welch(1000 * x, rate, nperseg=window, axis=1)
  bands = []
  for low, high in BANDS:
    inside = (hertz >= low) & (hertz < high)
    power = density[:, inside].sum(axis=1) * (hertz[1] - hertz[0])
    bands.append(10 * np.log10(power + 1e-3))
  return np.stack(bands, axis=-1)
