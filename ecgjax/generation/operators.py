"""Makers of generated ECGs, one per operator of `config.augment`.

A maker is `propose(rng, first, made_for) -> Proposals`: from rows of the pool
(first parents, or where nothing is inherited but the label set, templates) a
batch of ECGs, each with the reason why it must not be used, or ''.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.config import method_options
from ecgjax.ecg import leads
from ecgjax.generation import align, latent_mix, parents
from ecgjax.methods import prior as prior_method
from ecgjax.simulator import simulator

INTERPOLATING = (*latent_mix.OPERATORS, 'input_smote')
WITH_CODEC = (*latent_mix.OPERATORS, 'reconstruction')
WITH_PRIOR = ('prior', 'resample')
OPERATORS = (*INTERPOLATING, 'reconstruction', *WITH_PRIOR, 'simulator')
BATCH = 64  # ECGs that are made at a time

_BEFORE, _AFTER = 0.25, 0.45  # s around R, of the mean beat
# Statements of PTB-XL that a class of the simulator stands for. Its infarction
# has a territory of the patient's own, so that IMI, AMI, ... have no class.
SIMULATED = {name: name for name in simulator.ALL_CLASSES} | {
  'AFIB': 'AF', 'AFLT': 'AFL', 'CLBBB': 'LBBB', 'CRBBB': 'RBBB',
  'STD_': 'STD', 'STE_': 'STE', 'LNGQT': 'LQT', 'INVT': 'TWI',
  'LVOLT': 'LOWV', 'LAO/LAE': 'LAE', 'RAO/RAE': 'RAE',
}  # fmt: skip
_NEW_PATIENTS = (1 << 20, 1 << 30)  # beyond those of any data set


class Proposals(NamedTuple):
  """A batch of generated ECGs.

  Attributes:
    ecg: [B, L, 12] mV.
    first, second: [B] rows of the parents in the pool, -1 for none.
    weight: [B] lambda, the share of the first parent.
    changed: [B], see `latent_mix.changed_share`; nan without codes.
    labels, label_mask: [B, A] uint8.
    reason: [B] why not to use it, '' where nothing speaks against it.
  """

  ecg: np.ndarray
  first: np.ndarray
  second: np.ndarray
  weight: np.ndarray
  changed: np.ndarray
  labels: np.ndarray
  label_mask: np.ndarray
  reason: np.ndarray


class Made(NamedTuple):
  """An accepted ECG; fields as in a row of `Proposals`."""

  ecg: np.ndarray
  first: int
  second: int
  weight: float
  changed: float
  labels: np.ndarray
  label_mask: np.ndarray
  made_for: str


class Context(NamedTuple):
  """What makers work on.

  Attributes:
    options: `config.augment`.
    pool: the records, N.
    names: the A stored statements.
    ecg: [N, L, 8] mV, `leads.INDEPENDENT_LEADS`.
    peaks: [N, P] R times in samples, see `align.pad_peaks`.
    count: [N] their numbers.
    usable: [N] bool, who may be a parent.
    rate: Hz.
    recording: `simulator.Config` that records like the data set.
    codec: restored run of `methods.vqvae`, or None.
    prior: restored run of `methods.prior`, or None.
    prior_labels: [N, C] classes of the prior, or None.
  """

  options: Any
  pool: parents.Pool
  names: tuple[str, ...]
  ecg: np.ndarray
  peaks: np.ndarray
  count: np.ndarray
  usable: np.ndarray
  rate: float
  recording: simulator.Config
  codec: Any = None
  prior: Any = None
  prior_labels: np.ndarray | None = None


def make_maker(operator: str, context: Context) -> Callable:
  """Returns `propose(rng, first [BATCH], made_for) -> Proposals`."""
  if operator in latent_mix.OPERATORS:
    return _latent(operator, context)
  return {
    'reconstruction': _reconstruction,
    'input_smote': _input_smote,
    'prior': _prior,
    'resample': _prior,
    'simulator': _simulator,
  }[operator](context)


def unpack_codec(model):
  """Codec, its parameters and its codebook of a restored codec or prior."""
  params = model.model_state.get('codec', model.params)  # a prior's is frozen
  return model.method.codec, params, model.model_state['codebook']


def _pair(context, rng, first, features):
  """Second parents on the beats of the first, and why a pair is refused.

  Returns:
    second [B], the tracings of both [B, L, 8], reason [B].
  """
  options, count = context.options, context.count
  second = parents.draw_partners(
    rng, context.pool, first, context.usable, features, options.neighbours
  )
  reason = np.full(len(first), '', object)
  x_a, x_b = context.ecg[first], context.ecg[second]
  if options.align:
    rr = align.mean_rr(context.peaks, count)
    reason[~align.compatible(rr[first], rr[second])] = 'rr_ratio'
    x_b = align.align(
      x_b, context.peaks[first], context.peaks[second], count[first],
      count[second],
    )  # fmt: skip
  return second, x_a, x_b, reason


def _latent(operator: str, context: Context) -> Callable:
  codec, params, state = unpack_codec(context.codec)
  quantiser = context.codec.config.vqvae.quantiser
  if operator in ('B', 'C') and quantiser == 'fsq':
    raise ValueError(
      f'config.augment.operator {operator} mixes codes of a codebook; with a '
      'codec of bounded scalars (fsq) use A'
    )
  encode = jax.jit(codec.encode)

  @jax.jit
  def mix(params, state, x_a, x_b, weight):
    quantise = lambda z: codec.quantise(state, z)[1]
    z_a, z_b = codec.encode(params, x_a), codec.encode(params, x_b)
    z_q, indices = latent_mix.mix(
      operator, quantise, lambda i: codec.lookup(state, i), z_a, z_b, weight
    )
    ecg = leads.from_independent(jnp, codec.decode(params, z_q))
    changed = latent_mix.changed_share(indices, quantise(z_a), quantise(z_b))
    return ecg, changed

  example = jax.eval_shape(codec.encode, params, context.ecg[:1])
  tokens, features = example.shape[1], None
  if operator == 'F':
    features = np.concatenate([
      np.asarray(encode(params, x)).mean(axis=1)
      for x in np.array_split(context.ecg, -(-len(context.ecg) // 256))
    ])  # fmt: skip

  def propose(rng, first, made_for):
    del made_for
    second, x_a, x_b, reason = _pair(context, rng, first, features)
    weight = latent_mix.draw_weight(
      rng, context.options.law, operator, len(first)
    )
    tokenwise = latent_mix.token_weights(
      operator, rng, weight, context.peaks[first], context.count[first],
      tokens, x_a.shape[1],
    )  # fmt: skip
    ecg, changed = map(np.asarray, mix(params, state, x_a, x_b, tokenwise))
    few = changed < context.options.least_changed
    reason[few & (reason == '')] = 'unchanged'
    labels, mask = parents.child_labels(context.pool, first, second)
    return Proposals(
      ecg, first, second, tokenwise.mean(axis=1), changed, labels, mask, reason
    )

  return propose


def _reconstruction(context: Context) -> Callable:
  codec, params, state = unpack_codec(context.codec)

  @jax.jit
  def code(params, state, x):
    _, indices, _ = codec.quantise(state, codec.encode(params, x))
    ecg = codec.decode(params, codec.lookup(state, indices))
    return leads.from_independent(jnp, ecg)

  def propose(rng, first, made_for):
    del rng, made_for
    ecg = np.asarray(code(params, state, context.ecg[first]))
    return _without_partner(context, ecg, first)

  return propose


def _input_smote(context: Context) -> Callable:
  """SMOTE (Chawla et al. 2002) of aligned signals, neighbours by mean beat."""
  times = [row[:n] for row, n in zip(context.peaks, context.count)]
  before, after = (round(s * context.rate) for s in (_BEFORE, _AFTER))
  features = align.mean_beats(context.ecg, times, before, after)
  features = features.reshape(len(features), -1)
  law = context.options.law or 'uniform'

  def propose(rng, first, made_for):
    del made_for
    second, x_a, x_b, reason = _pair(context, rng, first, features)
    weight = latent_mix.draw_weight(rng, law, 'input_smote', len(first))
    share = weight[:, None, None].astype(np.float32)
    ecg = leads.from_independent(np, share * x_a + (1 - share) * x_b)
    labels, mask = parents.child_labels(context.pool, first, second)
    changed = np.full(len(first), np.nan)
    return Proposals(ecg, first, second, weight, changed, labels, mask, reason)

  return propose


def _prior(context: Context) -> Callable:
  """Samples of the prior; with `resample`, around the codes of a parent."""
  options, model = context.options, context.prior
  partial = options.operator == 'resample'
  codec, params, state = unpack_codec(model)
  frozen = {'codec': params, 'codebook': state}
  shape = jax.eval_shape(codec.encode, params, context.ecg[:1]).shape
  sample = jax.jit(
    prior_method.make_sampler(method_options(model.config), codec),
    static_argnames=('tokens', 'temperature', 'top_k', 'guidance'),
  )

  @jax.jit
  def code(params, state, x):
    return codec.quantise(state, codec.encode(params, x))[1]

  def propose(rng, first, made_for):
    del made_for
    key = jax.random.key(rng.integers(1 << 32), impl='threefry2x32')
    given = keep = None
    if partial:
      given = code(params, state, context.ecg[first])
      share = np.full(len(first), options.keep)
      keep = latent_mix.block_weights(rng, share, shape[1]) > 0
      keep = jnp.broadcast_to(keep[..., None], given.shape)
    ecg, indices = sample(
      key, model.params, frozen, context.prior_labels[first],
      tokens=shape[1], given=given, keep=keep,
      temperature=options.temperature, top_k=options.top_k,
      guidance=options.guidance,
    )  # fmt: skip
    made = _without_partner(context, np.asarray(ecg), first)
    if not partial:
      return made._replace(
        first=np.full(len(first), -1), weight=np.zeros(len(first))
      )
    changed = np.asarray(latent_mix.changed_share(indices, given, given))
    reason = np.where(changed < options.least_changed, 'unchanged', '')
    return made._replace(
      changed=changed,
      weight=np.asarray(keep).mean(axis=(1, 2)),
      reason=reason.astype(object),
    )

  return propose


def _simulator(context: Context) -> Callable:
  positions = {name: k for k, name in enumerate(context.names)}

  def propose(rng, first, made_for):
    labels = np.zeros((len(first), len(positions)), np.uint8)
    factors = []
    for row, template in zip(labels, context.pool.labels[first]):
      names, factor = simulated(
        made_for, [x for x, k in positions.items() if template[k]]
      )
      row[[positions[name] for name in names]] = 1
      factors.append(factor)
    ecg, _ = simulator.batch(
      int(rng.integers(1 << 31)),
      rng.integers(*_NEW_PATIENTS, len(first)),
      np.zeros(len(first), int),
      factors,
      context.recording,
    )
    made = _without_partner(context, np.asarray(ecg), first)
    return made._replace(
      first=np.full(len(first), -1), weight=np.zeros(len(first)), labels=labels
    )

  return propose


def simulated(made_for: str, names) -> tuple[list[str], np.ndarray]:
  """Statements of a template that the simulator can give to a new patient.

  Args:
    made_for: the class that is wanted, a key of `SIMULATED`.
    names: statements of the template.

  Returns:
    Those of `names` that have a class, and the factors [7]; `made_for` alone
    where the simulator does not know them together.
  """
  known = [name for name in names if name in SIMULATED]
  try:
    return known, simulator.factors(*(SIMULATED[name] for name in known))
  except ValueError:
    return [made_for], simulator.factors(SIMULATED[made_for])


def _without_partner(context, ecg, first) -> Proposals:
  """Children of one parent each, with its labels."""
  size = len(first)
  return Proposals(
    ecg,
    first,
    np.full(size, -1),
    np.ones(size),
    np.full(size, np.nan),
    context.pool.labels[first],
    context.pool.label_mask[first],
    np.full(size, '', object),
  )
