"""LCD: self-supervised lead correlation and decorrelation.

Liu, Pan, Chang, Huang, Jiang, Applied Soft Computing 172 (2025) 112871. One
encoder for any lead. Each step draws an ordered pair (a, b) of leads and three
augmented views of every ECG; the predictions from lead a of view 1 and from
lead b of view 2 both approach the EMA target's projection of lead a of view 3
(intra- and inter-lead correlation), while the auto-correlation matrix of the
concatenated online projections approaches the identity (decorrelation).

Deviations from the paper: its full text was not available; this follows the
abstract and the authors' published code (MIT). Input length and rate are not
stated there; 2048 samples for 10 s are inferred from replications of a sister
method.

Deviations from the reference code. `config.lcd.parity = True` undoes the ones
marked (parity); each has a field of its own in `config.lcd`:
  - The correlation matrix is divided by the number of rows really in the
    batch, and the last partial batch is dropped. The reference keeps it
    (parity: `config.keep_remainder`; a single row is dropped all the same) and
    divides by the nominal batch size there too (parity: `cov_divisor`).
  - An epoch is a uniform permutation of the records where their signals take at
    most 1 GiB, as 21,845 records of 12 x 2048 samples do; above that, windows
    of consecutive shards are shuffled, and the records within each. The
    reference permutes all (parity: `config.data.window_gib`).
  - The on-diagonal term, which has no gradient, is left out (parity:
    `cov_on_diagonal`).
  - Lead pair, crops and masks come from one key per (seed, step, row); the
    reference mixes two unseeded generators. One pair per batch is the default
    as there; `lead_pair='per_sample'` draws one per row (a variant).
  - Crop and mask may start at the last possible position; the reference never
    draws it (parity: `exclusive_start`).
  - Only the lead that a view uses is augmented: the same distribution.
  - BatchNorm and correlation statistics are those of the global batch on any
    number of devices; running variances are the biased ones.
  - The checkpoint kept for evaluation is the last one; the reference keeps
    that of the epoch with the lowest training loss (parity:
    `config.evaluate_checkpoint`, `config.best_metric`, `config.evaluations`),
    probes raw features with a softmax layer (parity:
    `config.probe.recipe`) and uses single-label records only (parity:
    `config.data.single_label`).
As there: the two online passes are separate BatchNorm batches unless
`separate_bn` is False, the target normalises by the statistics of its own
batch, and tau is constant unless `tau_schedule` is 'cosine'.
"""

import jax
import jax.numpy as jnp

from ecgjax.config.option import Choice, Number
from ecgjax.ecg import augment
from ecgjax.losses import decorrelation
from ecgjax.methods import method
from ecgjax.models import heads
from ecgjax.runtime import collectives

WIDTH = 512  # of projector and predictor
OPTIONS = {
  'parity': False,  # True: with the quirks of the reference code, see above
  'lead_pair': Choice('per_step', 'per_sample'),
  'resample': Choice('fourier', 'cubic', 'linear'),  # of a crop
  'exclusive_start': False,
  'separate_bn': True,
  'gamma': Number(0.005, 'float [0, inf)'),  # weight of the decorrelation
  'off_diagonal_weight': Number(0.0051, 'float [0, inf)'),
  'cov_divisor': Choice('actual', 'nominal'),  # number of rows
  'cov_on_diagonal': False,
  'tau': Number(0.996, 'float [0, 1]'),  # weight that the EMA target keeps
  'tau_schedule': Choice('constant', 'cosine'),
}


def make(options, spec: method.Spec) -> method.Method:
  """Makes the method.

  Args:
    options: see `OPTIONS`.
    spec: what it is made for.

  Raises:
    ValueError: if there are fewer than two leads.
  """
  options = parity_options(options)
  num_leads = len(spec.contract.leads)
  if num_leads < 2:
    raise ValueError(
      f'config.data.leads has {num_leads} lead; LCD correlates at least two'
    )
  encoder = spec.make_encoder()
  projector = heads.ProjectionMLP(WIDTH, WIDTH)
  predictor = heads.ProjectionMLP(WIDTH, WIDTH)
  crop = augment.make_random_resized_crop(
    spec.contract.length,
    resampler=options['resample'],
    exclusive_start=options['exclusive_start'],
  )

  def view(keys, ecg):
    """Augments one lead of every row: [B, L] -> [B, L, 1]."""

    def one(key, lead):
      crop_key, span_key = jax.random.split(key)
      return augment.time_out(
        span_key,
        crop(crop_key, lead[:, None]),
        exclusive_start=options['exclusive_start'],
      )

    return jax.vmap(one)(keys, ecg)

  def project(params, state, x, axis_name):
    """[B, L, 1] -> projection h [B, D] and the new statistics."""
    features, encoder_state = encoder.apply(
      {'params': params['encoder'], **state['encoder']},
      x, True, axis_name, mutable=['batch_stats'],
    )  # fmt: skip
    h, projector_state = projector.apply(
      {'params': params['projector'], **state['projector']},
      heads.global_average(features), True, axis_name, mutable=['batch_stats'],
    )  # fmt: skip
    return h, {'encoder': encoder_state, 'projector': projector_state}

  def predict_target(params, state, h, axis_name):
    return predictor.apply(
      {'params': params['predictor'], **state},
      h, True, axis_name, mutable=['batch_stats'],
    )  # fmt: skip

  def init(key, batch):
    lead = batch['ecg'][:, :, :1]
    keys = jax.random.split(key, 3)
    variables = {'encoder': encoder.init(keys[0], lead, False)}
    h = heads.global_average(encoder.apply(variables['encoder'], lead, False))
    variables['projector'] = projector.init(keys[1], h, False)
    z = projector.apply(variables['projector'], h, False)
    variables['predictor'] = predictor.init(keys[2], z, False)
    params = {name: v['params'] for name, v in variables.items()}
    state = {
      name: {'batch_stats': v['batch_stats']} for name, v in variables.items()
    }
    pick = lambda tree: {k: tree[k] for k in ('encoder', 'projector')}
    target = {'params': pick(params), 'state': pick(state)}
    return method.Variables(params, state, target)

  def loss(params, model_state, target, key, batch, axis_name):
    ecg = batch['ecg']
    pair_key, *view_keys = jax.random.split(key, 4)
    keys = [method.row_keys(k, ecg.shape[0], axis_name) for k in view_keys]
    if options['lead_pair'] == 'per_step':
      a, b = draw_lead_pair(pair_key, num_leads)
      lead_a, lead_b = jnp.take(ecg, a, axis=2), jnp.take(ecg, b, axis=2)
    else:
      pair_keys = method.row_keys(pair_key, ecg.shape[0], axis_name)
      a, b = jax.vmap(lambda k: draw_lead_pair(k, num_leads))(pair_keys)
      take = jax.vmap(lambda record, lead: record[:, lead])
      lead_a, lead_b = take(ecg, a), take(ecg, b)
    views = view(
      jnp.concatenate(keys), jnp.concatenate([lead_a, lead_b, lead_a])
    )
    v1, v2, v3 = jnp.split(views, 3)  # each [B, L, 1]

    if options['separate_bn']:
      h1, state = project(params, model_state, v1, axis_name)
      h2, state = project(params, state, v2, axis_name)
      q1, predictor_state = predict_target(
        params, model_state['predictor'], h1, axis_name
      )
      q2, predictor_state = predict_target(
        params, predictor_state, h2, axis_name
      )
    else:
      both = jnp.concatenate([v1, v2])
      h, state = project(params, model_state, both, axis_name)
      q, predictor_state = predict_target(
        params, model_state['predictor'], h, axis_name
      )
      (h1, h2), (q1, q2) = jnp.split(h, 2), jnp.split(q, 2)
    z3, target_state = project(target['params'], target['state'], v3, axis_name)
    z3 = jax.lax.stop_gradient(z3)
    value, metrics = lcd_loss(
      h1, h2, q1, q2, z3,
      axis_name=axis_name,
      gamma=options['gamma'],
      off_diagonal_weight=options['off_diagonal_weight'],
      divisor=(
        spec.batch_size if options['cov_divisor'] == 'nominal' else None
      ),
      on_diagonal=options['cov_on_diagonal'],
    )  # fmt: skip
    metrics |= decorrelation.embedding_health(h1, axis_name)
    metrics['constant_loss'] = 2 * decorrelation.constant_distance(
      z3, axis_name
    )
    state = state | {'predictor': predictor_state}
    return value, method.Aux(state, target_state, metrics)

  def predict(params, model_state, batch):
    ecg = batch['ecg']
    rows = ecg.transpose(0, 2, 1).reshape(-1, ecg.shape[1], 1)  # [B * C, L, 1]
    features = encoder.apply(
      {'params': params['encoder'], **model_state['encoder']}, rows, False
    )
    features = heads.global_average(features)
    return {'features': features.reshape(ecg.shape[0], -1)}  # [B, C * D]

  if options['tau_schedule'] == 'cosine':
    tau = method.cosine_tau(options['tau'], spec.num_steps)
  else:
    tau = lambda step: options['tau']
  return method.Method(init, loss, predict, tau, per_lead=True)


def parity_options(options) -> dict:
  """Options as they act; with `parity` the reference code's quirks."""
  options = dict(options)
  if options.pop('parity'):
    options |= {
      'cov_divisor': 'nominal',
      'cov_on_diagonal': True,
      'lead_pair': 'per_step',
      'separate_bn': True,
      'exclusive_start': True,
      'tau_schedule': 'constant',
      'resample': 'fourier',
    }
  return options


def draw_lead_pair(key, num_leads: int):
  """Ordered pair of different leads, uniform over all such pairs."""
  code = jax.random.randint(key, (), 0, num_leads * (num_leads - 1))
  a, b = code // (num_leads - 1), code % (num_leads - 1)
  return a, b + (b >= a)


def lcd_loss(
  h1, h2, q1, q2, z3,
  *,
  axis_name: str | None = None,
  gamma: float = 0.005,
  off_diagonal_weight: float = 0.0051,
  divisor: int | None = None,
  on_diagonal: bool = False,
):  # fmt: skip
  """The LCD loss of the global batch.

  Args:
    h1, h2: [B, D] online projections of lead a (view 1) and b (view 2).
    q1, q2: [B, D] their predictions.
    z3: [B, D] target projection of lead a (view 3), without gradient.
    axis_name: mapped axis, or None.
    gamma: weight of the decorrelation.
    off_diagonal_weight, divisor, on_diagonal: see
      `decorrelation.decorrelation_loss`.

  Returns:
    Scalar L_intra + L_inter + gamma L_cov, and its three parts.
  """
  intra = collectives.pmean(
    jnp.mean(decorrelation.cosine_distance(q1, z3)), axis_name
  )
  inter = collectives.pmean(
    jnp.mean(decorrelation.cosine_distance(q2, z3)), axis_name
  )
  covariance = decorrelation.decorrelation_loss(
    jnp.concatenate([h1, h2], axis=1),
    axis_name=axis_name,
    off_diagonal_weight=off_diagonal_weight,
    divisor=divisor,
    on_diagonal=on_diagonal,
  )
  total = intra + inter + gamma * covariance
  return total, {
    'loss_intra': intra,
    'loss_inter': inter,
    'loss_cov': gamma * covariance,
  }
