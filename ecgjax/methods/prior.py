"""Class-conditional prior over the code indices of a trained codec.

An autoregressive transformer on [class][k_1]...[k_T]; classes are hidden from a
share of the rows, so that sampling can be guided (Ho & Salimans 2022). Decoded
samples are new ECGs of a class, also of the rhythms that must not be
interpolated (docs/methods.md, Generated ECGs).

The codec is frozen: `config.prior.codec` names its run (`PRETRAINED`), its
arrays travel in `model_state`.
"""

import math

import jax
import jax.numpy as jnp

from ecgjax.config.option import Number
from ecgjax.ecg import leads
from ecgjax.methods import method
from ecgjax.models import sampling, transformer
from ecgjax.runtime import collectives

OPTIONS = {
  'codec': '',  # work folder of a run of configs/vqvae.py
  'width': Number(128, 'int [1, inf)'),
  'depth': Number(4, 'int [1, inf)'),
  'heads': Number(4, 'int [1, inf)'),
  'class_dropout': Number(0.1, 'float [0, 1]'),
}
PRETRAINED = {'codec': 'vqvae'}  # option that names a run: its method


def make(options, spec: method.Spec, codec) -> method.Method:
  """Makes the method.

  Args:
    options: see `OPTIONS`.
    spec: what it is made for.
    codec: the trained model (`method`, `contract`, `params`, `model_state`)
      that `options['codec']` names.

  Raises:
    ValueError: if the codec is one of pages, or its input contract differs.
  """
  if codec.method.codec.paper:
    raise ValueError(
      f'config.prior.codec: {options["codec"]} codes pages; the prior writes '
      'signals and needs a codec of modality=signal'
    )
  if codec.contract != spec.contract:
    raise ValueError(
      f'config.prior.codec was trained on {codec.contract}, this config has '
      f'{spec.contract}'
    )
  state = codec.model_state['codebook']
  frozen = {'codec': codec.params, 'codebook': state}
  codec = codec.method.codec

  def init(key, batch):
    label = batch['label'][:1]
    network = make_network(options, codec)
    indices = _indices(codec, frozen, batch['ecg'][:1])
    variables = network.init(
      key, label, jnp.zeros(1, bool), *_shifted(network, indices)
    )
    return method.Variables({'prior': variables['params']}, frozen)

  def bits(params, model_state, batch, hidden):
    """Bits of each index [B, N], and features [B, N, W]."""
    network = make_network(options, codec)
    indices = _indices(codec, model_state, batch['ecg'])  # [B, N]
    logits, features, _ = network.apply(
      {'params': params['prior']},
      batch['label'],
      hidden,
      *_shifted(network, indices),
    )
    likelihood = jnp.take_along_axis(
      jax.nn.log_softmax(logits), indices[..., None], axis=-1
    )
    return -likelihood[..., 0] / math.log(2), features

  def loss(params, model_state, target, key, batch, axis_name, train=True):
    del target
    rows = len(batch['ecg'])
    mask = batch.get('mask', jnp.ones(rows))
    hidden = jnp.zeros(rows, bool)
    if train:
      draw = lambda key: jax.random.bernoulli(key, options['class_dropout'])
      hidden = jax.vmap(draw)(method.row_keys(key, rows, axis_name))
    each, _ = bits(params, model_state, batch, hidden)
    total, count = collectives.psum(
      ((each.mean(axis=1) * mask).sum(), mask.sum()), axis_name
    )
    value = total / jnp.maximum(count, 1)
    metrics = {'bits_per_index': value}
    return value * math.log(2), method.Aux(model_state, None, metrics)

  def predict(params, model_state, batch):
    shown = jnp.zeros(len(batch['ecg']), bool)
    each, features = bits(params, model_state, batch, shown)
    return {
      'features': features.mean(axis=1),
      'bits_per_index': each.mean(axis=1),
    }

  return method.Method(init, loss, predict, labels=True, codec=codec)


def make_network(options, codec) -> transformer.CausalTransformer:
  """The network over the codes of a `models.codec.Codec`."""
  return transformer.CausalTransformer(
    codec.num_codes, codec.num_stages, options['width'], options['depth'],
    options['heads'],
  )  # fmt: skip


def make_sampler(options, codec):
  """Returns the sampling function of a trained prior.

  Args:
    options: of the prior, see `OPTIONS`.
    codec: `codec` of its method.

  Returns:
    (key, params, model_state, label [B, C], **options) -> ecg [B, L, 12] mV and
    indices [B, T, Q]; for the options see `models.sampling.sample` (`given` and
    `keep` are [B, T, Q] here).
  """
  network = make_network(options, codec)

  def sample(
    key, params, model_state, label, tokens: int, given=None, keep=None,
    **options,
  ):  # fmt: skip
    length = tokens * codec.num_stages
    cache = network.make_cache(len(label), length)

    def read(token, position, cache, unconditional):
      logits, _, cache = network.apply(
        {'params': params['prior']},
        label,
        jnp.full(len(label), unconditional),
        token[:, None],
        cache,
        position,
      )
      return logits[:, 0], cache

    if given is not None:
      given, keep = (x.reshape(len(label), length) for x in (given, keep))
    drawn = sampling.sample(
      key, read, (cache, cache), length, given=given, keep=keep, **options
    )
    indices = drawn.reshape(len(label), tokens, codec.num_stages)
    z_q = codec.lookup(model_state['codebook'], indices)
    ecg = codec.decode(model_state['codec'], z_q)
    return leads.from_independent(jnp, ecg), indices

  return sample


def _indices(codec, frozen, ecg):
  """[B, L, C] -> [B, T * Q], the stages of a token side by side."""
  z = codec.encode(frozen['codec'], ecg)
  _, indices, _ = codec.quantise(frozen['codebook'], z)
  return jax.lax.stop_gradient(indices).reshape(len(ecg), -1)


def _shifted(network, indices):
  """What the network reads to predict `indices` [B, N], and a cache."""
  tokens = jnp.pad(indices[:, :-1], ((0, 0), (1, 0)))
  return tokens, network.make_cache(*indices.shape)
