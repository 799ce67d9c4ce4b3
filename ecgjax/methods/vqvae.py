"""Vector-quantised autoencoder of the ECG, the codec of the augmentation.

Liu, Zhao, Chen, Yu, She, Comput Methods Programs Biomed 196 (2020) 105639. The
eight independent leads become a short sequence of indices into a codebook and
are decoded from it; the other four leads follow from I and II, so that every
decoded ECG obeys Einthoven and Goldberger. The input is in millivolts, not
normalised: the encoder divides by a fixed scale, and amplitudes survive.

With `config.image` (see `GROUPS`) the twelve leads are printed first, on the
device, and the codec codes the page; see `Modality` for all that differs.

Deviations from the paper: its full text and its code were not available, so
this is a reconstruction, not a reproduction. It coded images of ECGs by a 2-D
network, of unknown size and layout. Sizes, losses and codebook rules are those
of the field (van den Oord et al. 2017, EnCodec, DAC) and of our measurements.

Deviations from reference code (there is none of the paper; EnCodec, sonnet and
others in docs/methods.md): a restarted code resets its averages as well;
one straight-through estimator spans all residual stages; counts are summed over
devices, and restarts draw from the global batch with one key, so that replicas
never diverge; masked and non-finite tokens are left out of everything.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ecgjax.config.option import Choice, Number
from ecgjax.ecg import leads, page, raster
from ecgjax.methods import method
from ecgjax.models import codebook, codebook_update
from ecgjax.models import codec as codecs
from ecgjax.runtime import collectives

INK = 0.05  # of the pixels of a page, about
OPTIONS = {
  'quantiser': Choice('vq', 'fsq'),
  'size': Number(512, 'int [1, inf)'),  # codes
  'stages': Number(1, 'int [1, inf)'),  # above 1: residual
  # Share of rows coded by fewer stages.
  'stage_dropout': Number(0.0, 'float [0, 1]'),
  'levels': Number((8, 5, 5, 5), 'int [2, inf)'),  # of fsq
  'beta': Number(0.25, 'float [0, inf)'),  # weight of the commitment loss
  # Weight of the absolute beside the squared error.
  'l1': Number(0.3, 'float [0, inf)'),
  'decay': Number(0.99, 'float [0, 1]'),  # weight that averages keep
  'epsilon': Number(1e-5, 'float [0, inf)'),
  # Tokens of a batch for k-means and restarts, at least.
  'pool': Number(2048, 'int [1, inf)'),
  'restart_every': Number(20, 'int [0, inf)'),  # steps; 0: never
  'restart_until': Number(0.8, 'float [0, 1]'),  # of the run
  # Of tokens per step and code.
  'restart_threshold': Number(0.05, 'float [0, inf)'),
  'restart_count': Number(0.25, 'float [0, inf)'),
  # Work folder of an encoder that judges reconstructions; '': LCD's encoder
  # before training.
  'judge': '',
}
# Further groups of a config, None where it has none: the page that is coded.
GROUPS = {
  'image': {
    'layout': '3x4+1',  # see ecgjax/ecg/page.py
    'resolution': Number(1, 'int [1, inf)'),  # px/mm
  }
}
# Options of earlier versions, as they were by default.
DROPPED = {'cosine': False, 'gradient': 'ste', 'stats': 'segment'}


class Modality(NamedTuple):
  """What is coded: all that differs between signals and pages.

  Attributes:
    read: ecg [B, L, 8] mV -> x [B, ...], what the codec codes.
    error: (decoded, x) -> loss of every element of x, about one before
      training.
    show: decoded -> what `Method.predict` returns as `reconstruction`.
  """

  read: Callable
  error: Callable
  show: Callable


def signal_modality(l1: float, scale: float) -> Modality:
  """Eight leads in mV; the reconstruction [B, L, 12] has all twelve."""

  def error(decoded, x):
    difference = (decoded - x) / scale
    return difference**2 + l1 * jnp.abs(difference)

  return Modality(
    lambda ecg: ecg, error, lambda ecg: leads.from_independent(jnp, ecg)
  )


def image_modality(paper: page.Paper, rate: float) -> Modality:
  """Ink [B, H, W] of ECGs of that rate on a page, grey as uint8."""

  def read(ecg):
    ecg = leads.from_independent(jnp, ecg)
    return jax.vmap(lambda one: raster.render(one, rate, paper))(ecg)

  def error(logits, ink):
    return optax.sigmoid_binary_cross_entropy(logits, ink) / INK

  show = lambda logits: raster.to_grey(jax.nn.sigmoid(logits))
  return Modality(read, error, show)


def make(options, spec: method.Spec) -> method.Method:
  """Makes the method.

  Args:
    options: see `OPTIONS`; `image` holds the arguments of `page.make` where
      pages are coded, else None.
    spec: what it is made for.

  Raises:
    ValueError: if the input is not the eight independent leads in millivolts,
      or the encoder does not fit the quantiser.
  """
  contract = spec.contract
  if contract.leads != leads.INDEPENDENT_LEADS:
    raise ValueError(
      f'config.data.leads is {contract.leads}; the codec needs '
      + ', '.join(leads.INDEPENDENT_LEADS)
    )
  if contract.normalisation != 'none':
    raise ValueError(
      f'config.data.normalisation is {contract.normalisation!r}; the codec '
      "keeps amplitudes and needs 'none'"
    )
  codec = codecs.make_codec(
    options,
    contract,
    spec.encoder,
    spec.make_encoder,
    options['image'] and page.make(**options['image']),
  )
  if codec.paper:
    modality = image_modality(codec.paper, contract.rate)
  else:
    modality = signal_modality(options['l1'], codec.scale)
  learns = options['quantiser'] == 'vq'
  learning = codebook_update.Options(
    decay=options['decay'],
    epsilon=options['epsilon'],
    restart_every=options['restart_every'],
    restart_stop=round(options['restart_until'] * spec.num_steps),
    restart_threshold=options['restart_threshold'],
    restart_count=options['restart_count'],
  )
  # From every row, so that the pool does not depend on the number of devices.
  pool_per_row = -(-options['pool'] // spec.batch_size)

  def init(key, batch):
    params, state = codec.init(key, modality.read(batch['ecg']))
    return method.Variables(params, {'codebook': state})

  def loss(params, model_state, target, key, batch, axis_name, train=True):
    del target
    x, state = modality.read(batch['ecg']), model_state['codebook']
    mask = batch.get('mask', jnp.ones(len(x), x.dtype))
    pool_key, init_key, stage_key, update_key = jax.random.split(key, 4)
    z = codec.encode(params, x)  # [B, T, D]
    finite = jnp.isfinite(z).all(axis=-1) & (mask[:, None] > 0)  # [B, T]
    num_tokens, lost = collectives.psum(
      (finite.sum(), (~finite * mask[:, None]).sum()), axis_name
    )
    stages = None
    if train and learns:
      pool = codebook_update.token_pool(
        pool_key, z, mask, pool_per_row, axis_name
      )
      state = jax.lax.cond(
        (state.step == 0).all(),
        lambda state: codebook_update.rvq_data_init(
          state, init_key, pool, num_tokens, learning
        ),
        lambda state: state,
        state,
      )
      if options['stage_dropout']:
        draw = lambda key: draw_stages(
          key, options['stage_dropout'], codec.num_stages
        )
        keys = method.row_keys(stage_key, len(x), axis_name)
        stages = jax.vmap(draw)(keys)
    z_q, indices, found = codec.quantise(state, z, mask, stages, axis_name)
    error = modality.error(codec.decode(params, z_q), x)
    value = row_mean(error, mask, axis_name)
    n = code_counts(indices, mask, codec.num_codes, axis_name)  # [Q, K]
    usage = jax.vmap(codebook.vq_metrics)(n)
    metrics = {
      'loss_reconstruction': value,
      'batch_perplexity': usage['perplexity'].mean(),
      'batch_usage': usage['usage'].mean(),
      'nonfinite_tokens': lost,
    }
    if learns:
      broken = ~jnp.isfinite(state.embed).all(axis=-1)
      metrics['nonfinite_codes'] = broken.sum()
      metrics['loss_commitment'] = options['beta'] * found.commit
      value += metrics['loss_commitment']
    if learns and train:
      state = codebook_update.rvq_update(
        state, found, update_key, pool, learning, axis_name
      )
    return value, method.Aux({'codebook': state}, None, metrics)

  def predict(params, model_state, batch):
    z = codec.encode(params, modality.read(batch['ecg']))
    _, indices, _ = codec.quantise(model_state['codebook'], z)
    z_q = codec.lookup(model_state['codebook'], indices)
    return {
      'features': z.mean(axis=1),
      'indices': indices,
      'reconstruction': modality.show(codec.decode(params, z_q)),
    }

  return method.Method(init, loss, predict, evaluators=('codec',), codec=codec)


def draw_stages(key, probability: float, num_stages: int):
  """Number of stages that code a row: all, or with `probability` 1 to all.

  Quantiser dropout (DAC, Kumar et al. 2023): the first stages alone are then a
  codec of a lower rate.
  """
  drop_key, number_key = jax.random.split(key)
  fewer = jax.random.randint(number_key, (), 1, num_stages + 1)
  return jnp.where(
    jax.random.bernoulli(drop_key, probability), fewer, num_stages
  )


def row_mean(x, mask, axis_name: str | None = None):
  """Mean of x [B, ...] over the rows of the global batch with mask [B] 1."""
  rows = jnp.where(mask > 0, x.reshape(len(x), -1).mean(axis=1), 0)
  total, count = collectives.psum((rows.sum(), mask.sum()), axis_name)
  return total / jnp.maximum(count, 1)


def code_counts(indices, mask, size: int, axis_name: str | None = None):
  """Tokens of each code in the global batch: [B, T, Q], [B] -> [Q, K]."""
  weight = jnp.repeat(mask, indices.shape[1])
  count = lambda index: jax.ops.segment_sum(weight, index.ravel(), size)
  return collectives.psum(jax.vmap(count, in_axes=2)(indices), axis_name)
