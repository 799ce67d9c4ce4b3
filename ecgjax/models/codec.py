"""Encoder, quantiser and decoder as one set of pure functions.

What methods, priors and generators share. Tokens are [B, T, D] wherever they
come from.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.ecg import page
from ecgjax.models import codebook, fsq
from ecgjax.runtime.resolve import resolve


class Codec(NamedTuple):
  """Pure functions; `params` = {'encoder', 'decoder'}, `state` the codebook.

  Attributes:
    init: (key, x) -> params, state ({} for FSQ).
    encode: (params, x [B, ...]) -> z [B, T, D], which may be mixed before it is
      quantised; bounded values if FSQ.
    quantise: (state, z, mask [B] or None, stages [B] or None, axis_name) ->
      z_q [B, T, D], indices [B, T, Q], and `codebook.Quantised` with the tokens
      of all rows one after another (None for FSQ).
    lookup: (state, indices [B, T, q]) -> z_q [B, T, D], of the first q stages.
    decode: (params, z_q) -> x, or the logits of x where it is ink.
    num_codes: K of each stage.
    num_stages: Q.
    scale: of x, the unit in which errors are of order one.
    paper: `ecg.page.Paper` where x is ECGs printed on it; None: x is ECGs.
  """

  init: Callable
  encode: Callable
  quantise: Callable
  lookup: Callable
  decode: Callable
  num_codes: int
  num_stages: int
  scale: float
  paper: page.Paper | None = None


def make_codec(
  options, contract, name: str, make_encoder: Callable, paper=None
) -> Codec:
  """Makes a codec.

  Args:
    options: `OPTIONS` of `methods.vqvae`.
    contract: of the ECGs.
    name: module of the encoder, which has a `make_decoder`, too.
    make_encoder: () -> linen module, x [B, ...] -> z [B, T, D].
    paper: where pages are coded.

  Raises:
    ValueError: if the module has no decoder or levels do not fit the encoder.
  """
  module = resolve('models', name, 'make_decoder')
  encoder = make_encoder()
  shape = (contract.length, len(contract.leads))
  if paper:
    shape = (paper.height, paper.width(contract.length, contract.rate))
  decoder = module.make_decoder(encoder, shape)
  if options['quantiser'] == 'fsq':
    codec = _with_fsq(encoder, decoder, tuple(options['levels']))
  else:
    codec = _with_codebook(encoder, decoder, options)
  return codec._replace(paper=paper)


def _networks(encoder, decoder):
  """init, encode and decode of the two networks alone."""

  def init(key, x):
    keys = jax.random.split(key)
    params = {'encoder': encoder.init(keys[0], x)['params']}
    z = encoder.apply({'params': params['encoder']}, x)
    return params | {'decoder': decoder.init(keys[1], z)['params']}

  def encode(params, x):
    return encoder.apply({'params': params['encoder']}, x)

  def decode(params, z_q):
    return decoder.apply({'params': params['decoder']}, z_q)

  return init, encode, decode


def _with_codebook(encoder, decoder, options) -> Codec:
  networks, encode, decode = _networks(encoder, decoder)

  def init(key, x):
    keys = jax.random.split(key)
    create = lambda key: codebook.create(key, options['size'], encoder.dim)
    state = jax.vmap(create)(jax.random.split(keys[1], options['stages']))
    return networks(keys[0], x), state

  def quantise(state, z, mask=None, stages=None, axis_name=None):
    batch, tokens, dim = z.shape
    spread = lambda x: None if x is None else jnp.repeat(x, tokens)
    found = codebook.rvq_apply(
      state.embed,
      z.reshape(-1, dim),
      spread(mask),
      spread(stages),
      axis_name=axis_name,
    )
    indices = found.indices.reshape(batch, tokens, -1)
    return found.z_q.reshape(z.shape), indices, found

  def lookup(state, indices):
    return codebook.rvq_lookup(state.embed, indices)

  return Codec(
    init, encode, quantise, lookup, decode,
    options['size'], options['stages'], encoder.scale,
  )  # fmt: skip


def _with_fsq(encoder, decoder, levels) -> Codec:
  if len(levels) != encoder.dim:
    raise ValueError(
      f'config.vqvae.levels {levels} need config.model.kwargs.dim '
      f'{len(levels)}, not {encoder.dim}'
    )
  networks, encode_freely, decode = _networks(encoder, decoder)

  def init(key, x):
    return networks(key, x), {}

  def encode(params, x):
    return fsq.fsq_bound(encode_freely(params, x), levels)

  def quantise(state, z, mask=None, stages=None, axis_name=None):
    del state, mask, stages, axis_name  # it learns nothing
    z_q, indices = fsq.fsq_round(z, levels)
    return z_q, indices[..., None], None

  def lookup(state, indices):
    del state
    return fsq.fsq_lookup(indices[..., 0], levels)

  return Codec(
    init, encode, quantise, lookup, decode,
    math.prod(levels), 1, encoder.scale,
  )  # fmt: skip
