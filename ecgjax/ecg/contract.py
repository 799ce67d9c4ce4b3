"""The input contract: what a model expects, and how storage becomes that.

A contract travels with every checkpoint, so that data of another rate, length
or lead set is converted or refused, never guessed.
"""

import dataclasses

import jax.numpy as jnp

from ecgjax.ecg.leads import canonical, indices
from ecgjax.runtime.shapes import Array, Bool, Float

NORMALISATIONS = ('record_centred', 'record', 'lead', 'none')


@dataclasses.dataclass(frozen=True)
class InputContract:
  """Rate, length, leads, unit and normalisation of a row of `batch['ecg']`.

  Attributes:
    rate: sampling rate, Hz.
    length: samples per lead.
    leads: lead names, in order.
    unit: always 'mV' before normalisation.
    normalisation: 'record_centred' (from each lead its own mean, then one
      standard deviation over all leads used), 'record' (one mean and one
      standard deviation over all leads used: what one lead's offset does to
      the others, it does not undo), 'lead' (one of each per lead) or 'none'.
  """

  rate: float
  length: int
  leads: tuple[str, ...]
  unit: str = 'mV'
  normalisation: str = 'record_centred'

  def __post_init__(self):
    indices(self.leads)
    if self.unit != 'mV':
      raise ValueError(f'unit is {self.unit!r}; ecgjax works in mV')
    if self.normalisation not in NORMALISATIONS:
      raise ValueError(
        f'normalisation is {self.normalisation!r}; choose one of '
        + ', '.join(NORMALISATIONS)
      )

  @classmethod
  def from_config(cls, config) -> 'InputContract':
    """Contract of `config.data` (rate, length, leads, normalisation)."""
    return cls.from_data(config.data)

  @classmethod
  def from_data(cls, data) -> 'InputContract':
    """The same, given `config.data` itself."""
    return cls(
      rate=float(data.rate),
      length=int(data.length),
      leads=tuple(canonical(name) for name in data.leads),
      normalisation=data.normalisation,
    )

  def to_json(self) -> dict:
    return dataclasses.asdict(self) | {'leads': list(self.leads)}

  @classmethod
  def from_json(cls, fields: dict) -> 'InputContract':
    return cls(**fields | {'leads': tuple(fields['leads'])})


def check_input(
  pretrained: InputContract, wanted: InputContract, single_lead: bool
) -> None:
  """Refuses an encoder whose input was something else.

  Args:
    pretrained: contract in the checkpoint.
    wanted: contract of the new model.
    single_lead: the encoder sees one lead at a time, so that any leads will do
      as long as they are normalised together as before.

  Raises:
    ValueError: names the field that differs and the remedy.
  """
  for field, flag in (
    ('rate', '--config.data.rate'),
    ('length', '--config.data.length'),
    ('normalisation', '--config.data.normalisation'),
    ('leads', '--config.data.leads'),
  ):
    if field == 'leads' and single_lead:
      continue
    old, new = getattr(pretrained, field), getattr(wanted, field)
    if old != new:
      raise ValueError(
        f'config.init_from: the encoder was trained with {field} {old}, this '
        f'config has {new}; set {flag} to match'
      )


def normalise(
  ecg: Float[Array, 'B L C'],
  valid: Bool[Array, 'B L'],
  mode: str,
  eps: float = 1e-5,
) -> Float[Array, 'B L C']:
  """Standardises one batch of ECGs over their valid samples.

  Args:
    ecg: [B, L, C] millivolts.
    valid: [B, L] True where a sample was recorded, False where it is padding.
    mode: one of `NORMALISATIONS`, see `InputContract`.
    eps: added to the standard deviation.

  Returns:
    [B, L, C]; zero where `valid` is False.
  """
  weight = valid[:, :, None].astype(ecg.dtype)  # [B, L, 1]
  if mode == 'none':
    return ecg * weight
  recorded = weight.sum(axis=(1, 2), keepdims=True)  # [B, 1, 1] samples

  def mean(values, over_leads):
    axes, leads = ((1, 2), ecg.shape[2]) if over_leads else ((1,), 1)
    total = (values * weight).sum(axis=axes, keepdims=True)
    return total / jnp.maximum(recorded * leads, 1)

  centred = (ecg - mean(ecg, mode == 'record')) * weight
  deviation = jnp.sqrt(mean(centred**2, mode != 'lead'))
  return centred / (deviation + eps)


def to_model_input(batch: dict, contract: InputContract) -> dict:
  """Turns stored samples into what the model sees; runs on the device.

  Args:
    batch: `ecg` [B, L, C], either int16 with `gain` (units per mV) and
      `baseline` (units), both [B, C], or float millivolts; optionally
      `valid_start` and `valid_len`, both [B], the recorded span in samples.
    contract: what the model expects.

  Returns:
    The batch with `ecg` normalised, float32 or wider, and without the storage
    fields.

  Raises:
    ValueError: if `ecg` is not [B, contract.length, len(contract.leads)].
  """
  storage = ('gain', 'baseline', 'valid_start', 'valid_len')
  ecg = jnp.asarray(batch['ecg'])
  expected = (contract.length, len(contract.leads))
  if ecg.ndim != 3 or ecg.shape[1:] != expected:
    raise ValueError(
      f'ecg has shape {ecg.shape}; the input contract asks for (batch, '
      f'{expected[0]}, {expected[1]}): {contract}'
    )
  if 'gain' in batch:
    ecg = ecg.astype(jnp.float32) - batch['baseline'][:, None, :]
    ecg = ecg / batch['gain'][:, None, :]
  ecg = ecg.astype(jnp.promote_types(ecg.dtype, jnp.float32))
  if 'valid_len' in batch:
    position = jnp.arange(ecg.shape[1]) - batch['valid_start'][:, None]
    valid = (position >= 0) & (position < batch['valid_len'][:, None])
  else:
    valid = jnp.ones(ecg.shape[:2], bool)
  ecg = normalise(ecg, valid, contract.normalisation)
  return {k: v for k, v in batch.items() if k not in storage} | {'ecg': ecg}
