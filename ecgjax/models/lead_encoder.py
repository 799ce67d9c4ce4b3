"""How an encoder meets the leads of an ECG.

'tied'        one single-lead encoder for all leads. Each lead is normalised by
              its own batch statistics; the running ones move lead after lead,
              as if the encoder had seen one lead after the other (LCD's
              reference classifier).
'tied_mixed'  the same encoder with statistics over all leads together. In
              inference there is no difference, and checkpoints of one serve
              the other.
'untied'      one single-lead encoder per lead; every parameter has a leading
              axis of leads.
'joint'       one encoder that sees all leads as channels.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecgjax.models import heads

SINGLE_LEAD = ('tied', 'tied_mixed', 'untied')
BRANCHES = (*SINGLE_LEAD, 'joint')


class LeadEncoder(NamedTuple):
  """Pure functions around a linen encoder; `variables` are its collections.

  Attributes:
    init: (key, ecg [B, L, C]) -> variables
    apply: (variables, ecg [B, L, C], train, axis_name) -> (features [B, C, D],
      or [B, 1, D] for 'joint', and the new batch statistics)
  """

  init: callable
  apply: callable


def make_lead_encoder(encoder: nn.Module, branches: str) -> LeadEncoder:
  """Applies `encoder` ([B, L, C] -> [B, T, D]) to the leads of an ECG.

  Raises:
    ValueError: if there is no such way.
  """
  if branches not in BRANCHES:
    raise ValueError(
      f'branches is {branches!r}; choose one of {", ".join(BRANCHES)}'
    )

  def encode(variables, x, train, axis_name, groups=1):
    """[B, L, C] -> pooled [B, D], new batch statistics."""
    if not train:
      h = encoder.apply(variables, x, False)
      return heads.global_average(h), {'batch_stats': variables['batch_stats']}
    h, state = encoder.apply(
      variables, x, True, axis_name, groups, mutable=['batch_stats']
    )
    return heads.global_average(h), state

  def init(key, ecg):
    start = lambda k: encoder.init(k, ecg[:1, :, :width], False)
    width = ecg.shape[2] if branches == 'joint' else 1
    if branches == 'untied':
      variables = jax.vmap(start)(jax.random.split(key, ecg.shape[2]))
    else:
      variables = start(key)
    # An encoder without BatchNorm has no statistics.
    return {'batch_stats': {}} | dict(variables)

  def apply(variables, ecg, train: bool, axis_name=None):
    batch, length, leads = ecg.shape
    if branches == 'joint':
      pooled, state = encode(variables, ecg, train, axis_name)
      return pooled[:, None], state
    if branches in ('tied', 'tied_mixed'):
      rows = ecg.transpose(0, 2, 1).reshape(-1, length, 1)  # [B * C, L, 1]
      groups = leads if branches == 'tied' else 1
      pooled, state = encode(variables, rows, train, axis_name, groups)
      return pooled.reshape(batch, leads, -1), state  # [B, C, D]
    one = lambda v, lead: encode(v, lead[..., None], train, axis_name)
    pooled, state = jax.vmap(one, in_axes=(0, 2), out_axes=(1, 0))(
      variables, ecg
    )
    return pooled, state

  return LeadEncoder(init, apply)


def replicate(params, branches: str, num_leads: int):
  """A single-lead encoder's arrays as those of `branches`."""
  if branches != 'untied':
    return params
  return jax.tree.map(lambda p: jnp.stack([p] * num_leads), params)
