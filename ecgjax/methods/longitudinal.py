"""Longitudinal patient contrast: ECGs of one patient over the years attract.

A re-derivation, not a reproduction, of Liu et al., Int. J. Medical Informatics
(2025): the paper's encoder, temperature, batch and augmentation are not
public. What is known is the idea: ECGs of one patient at different dates are
positives, those of other patients negatives. The loss is
`losses.contrastive.lpc_loss`
over the global batch. Named configs (`configs/longitudinal.py`) make other
published methods out of the same parts:

  PCLR (Diamant et al. 2022)    views 'ecg', no augmentation, no singletons;
                                the published loss is twice ours
  SimCLR (Chen et al. 2020)     views 'augmented': two copies of each ECG
  CMSC of CLOCS (Kiyasseh 2021) views 'halves', loss 'clocs'
  3KG (Gopal et al. 2021)       views 'augmented', augmentation 'rotate_heart'

A row of the batch is one ECG (`data.batches.patients` puts K ECGs of each
patient into
a batch); `config.longitudinal.views` says what an embedding is made of: the
'ecg' itself, two 'augmented' copies of it, or its two consecutive 'halves'.
All views with equal `patient` are positives of each other.

Optional fields of the batch: `anchor_weight` [B] (weight of a row as an
anchor; `data.batches.patients` sets it for patients with a single ECG), `time`
[B] (days since the patient's first ECG, -1 unknown), `mask`, `label` with
`label_mask`. Without them all rows weigh the same and no gap is known.

Deviations from the paper: unknown, see above.

Deviations from the reference code of the named methods (read for their
formulas only; they are under GPL-3 and non-commercial licences): CLOCS encodes
one lead per instance and scales frames to [0, 1], here all leads are channels
and a record is normalised as a whole; its loss is averaged over all pairs of
views, the public code keeps the last pair; PCLR's input is 4096 samples, here
it is what the config says.
"""

import jax
import jax.numpy as jnp

from ecgjax.config.option import Choice, Number
from ecgjax.ecg import augment, noise, vcg
from ecgjax.losses import contrastive, decorrelation
from ecgjax.methods import method
from ecgjax.models import blocks, lead_encoder
from ecgjax.runtime import collectives

# fmt: off
OPTIONS = {
  # What is in a batch (data/batches/patients.py); batch_size counts ECGs.
  'ecgs_per_patient': Number(2, 'int [1, inf)'),
  'singletons': Choice('augment', 'drop', 'negatives_only'),
  # Weight of a patient with one ECG as an anchor.
  'singleton_weight': Number(1.0, 'float [0, inf)'),
  # Days between two ECGs of a patient, where there is choice.
  'min_gap': Number(1.0, 'float [0, inf)'),
  'max_gap': Number(0.0, 'float [0, inf)'),  # days; 0: none
  # Days, limits of the strata of gaps.
  'gap_edges': Number((30.0, 365.0), 'float [0, inf)'),
  # Share of the patients that a stratum gets; (): free.
  'gap_quota': Number((), 'float [0, 1]'),
  # What is contrasted.
  'views': Choice('ecg', 'augmented', 'halves'),
  'loss': Choice('lpc', 'clocs'),
  'temperature': Number(0.1, 'float (0, inf)'),
  'learned_temperature': False,
  'gap_weight': Choice('none', 'exponential', 'strata'),
  # Of 'exponential': the weight falls to 1/e.
  'gap_days': Number(365.0, 'float (0, inf)'),
  'gap_stratum_weights': Number((1.0, 1.0, 1.0), 'float [0, inf)'),
  'gap_floor': Number(0.05, 'float [0, 1]'),  # least weight of a pair
  # Weight of a pair whose labels differ.
  'label_change_weight': Number(1.0, 'float [0, inf)'),
  'queue': Number(0, 'int [0, inf)'),  # earlier embeddings as negatives
  'queue_tau': Number(0.99, 'float [0, 1]'),  # of the EMA encoder that fills it
  'branches': Choice('joint', *lead_encoder.SINGLE_LEAD),
  'head_width': Number(320, 'int [1, inf)'),
  'augmentation': Choice('crop', 'rotate_heart', 'none'),
  'min_crop': Number(0.5, 'float (0, 1]'),
  'time_out': Number(0.5, 'float [0, 1]'),
  # Range; (): no noise.
  'noise_snr_db': Number((12.0, 30.0), 'float (-inf, inf)'),
  'lead_dropout': Number(0.0, 'float [0, 1)'),
}
# fmt: on
# Of data where most patients have several ECGs: crops resized by more take away
# what a PR interval tells, noise the small waves; ECGs of two dates differ
# enough without them.
LIGHT_AUGMENTATION = {'min_crop': 0.9, 'time_out': 0.2, 'noise_snr_db': ()}
NOISES = ('muscle', 'baseline_wander')


def make(options, spec: method.Spec) -> method.Method:
  """Makes the method.

  Args:
    options: see `OPTIONS`.
    spec: what it is made for.

  Raises:
    ValueError: if leads are missing of which a view is made.
  """
  encoder = lead_encoder.make_lead_encoder(
    spec.make_encoder(), options['branches']
  )
  hidden, output = (blocks.Linear(options['head_width']) for _ in range(2))
  make_views = make_view_function(options, spec.contract)
  use_queue = options['queue'] > 0

  def embed(params, state, views, kept, axis_name):
    """Views [V, L, C], kept leads [V, C] -> z [V, D], new encoder state."""
    features, state = encoder.apply(
      {'params': params['encoder'], **state}, views, True, axis_name
    )
    h = pool(features, kept)
    h = jax.nn.relu(hidden.apply({'params': params['hidden']}, h))
    return output.apply({'params': params['output']}, h), state

  def init(key, batch):
    keys = jax.random.split(key, 3)
    variables = encoder.init(keys[0], batch['ecg'])
    h, _ = encoder.apply(variables, batch['ecg'], False)
    h = pool(h, None)
    params = {
      'encoder': variables['params'],
      'hidden': hidden.init(keys[1], h)['params'],
    }
    h = hidden.apply({'params': params['hidden']}, h)
    params['output'] = output.init(keys[2], h)['params']
    encoder_state = {'batch_stats': variables['batch_stats']}
    state, target = {'encoder': encoder_state}, None
    if use_queue:
      target = {'params': dict(params), 'state': encoder_state}
      state['queue'] = {
        'embedding': jnp.zeros((options['queue'], options['head_width'])),
        'patient': jnp.full(options['queue'], -1, jnp.int32),
      }
    if options['learned_temperature']:
      log_tau = jnp.log(jnp.float32(options['temperature']))
      params['temperature'] = {'log_tau': log_tau}
    return method.Variables(params, state, target)

  def loss(params, model_state, target, key, batch, axis_name):
    views, kept = make_views(key, batch['ecg'], axis_name)
    rows = per_view(batch, len(views) // len(batch['ecg']))
    patient, valid = rows['patient'], rows['mask']
    z, encoder_state = embed(
      params, model_state['encoder'], views, kept, axis_name
    )
    tau = options['temperature']
    if options['learned_temperature']:
      # As CLIP does: logits may not be scaled by more than 100.
      tau = jnp.maximum(jnp.exp(params['temperature']['log_tau']), 0.01)
    if options['loss'] == 'clocs':
      pairs = z.reshape(len(batch['ecg']), -1, z.shape[1])
      value = contrastive.clocs_loss(
        pairs, batch['patient'], tau=tau, axis_name=axis_name
      )
    else:
      value = contrastive.lpc_loss(
        z,
        patient,
        tau=tau,
        anchor_weight=rows['anchor_weight'],
        pair_weight=pair_weight(options, rows, axis_name),
        valid=valid,
        queue=model_state.get('queue'),
        axis_name=axis_name,
      )
    metrics = contrastive.retrieval_metrics(z, patient, valid, axis_name)
    metrics |= decorrelation.embedding_health(z, axis_name)
    if options['learned_temperature']:
      metrics['temperature'] = tau
    state, target_state = {'encoder': encoder_state}, None
    if use_queue:
      queue = {}
      past, target_state = embed(
        target['params'], target['state'], views, kept, axis_name
      )
      new = {'embedding': contrastive.unit(past), 'patient': patient}
      for name, old in model_state['queue'].items():
        newest = collectives.all_gather(new[name], axis_name)
        both = jnp.concatenate([newest, old])
        queue[name] = jax.lax.stop_gradient(both[: options['queue']])
      state['queue'] = queue
    return value, method.Aux(state, target_state, metrics)

  def predict(params, model_state, batch):
    features, _ = encoder.apply(
      {'params': params['encoder'], **model_state['encoder']},
      batch['ecg'],
      False,
    )
    return {'features': pool(features, None)}

  tau = (lambda step: options['queue_tau']) if use_queue else None
  return method.Method(
    init, loss, predict, tau, rows='patients', evaluators=('identity',)
  )


def check(options, fields) -> None:
  """Raises ValueError for conflicting options.

  Args:
    options: complete.
    fields: of the whole config.
  """
  if fields['keep_remainder']:
    raise ValueError(
      'config.keep_remainder: batches of patients have none to keep; set it '
      'to False'
    )
  if options['views'] == 'ecg' and options['ecgs_per_patient'] < 2:
    raise ValueError(
      "config.longitudinal.views 'ecg' needs ecgs_per_patient of at least 2, "
      f'found {options["ecgs_per_patient"]}'
    )
  if options['loss'] == 'clocs' and options['views'] == 'ecg':
    raise ValueError(
      "config.longitudinal.loss 'clocs' needs views 'augmented' or 'halves'"
    )
  if options['loss'] == 'clocs' and options['queue']:
    raise ValueError("config.longitudinal.queue needs loss 'lpc'")
  if options['augmentation'] == 'none' and (
    options['views'] == 'augmented'
    or options['views'] == 'ecg'
    and options['singletons'] == 'augment'
  ):
    raise ValueError(
      "config.longitudinal.augmentation 'none' makes two copies of an ECG "
      "equal; choose views 'halves', or views 'ecg' and singletons 'drop'"
    )


def make_view_function(options, contract):
  """Returns (key, ecg [B, L, C], axis_name) -> views and their leads.

  Views are [B R, L', C], the R views of a row next to each other; kept leads
  are [B R, C], 0 where `lead_dropout` has set a lead to zero.
  """
  leads = contract.leads
  halves = options['views'] == 'halves'
  num_views = 1 if options['views'] == 'ecg' else 2
  length = contract.length // (2 if halves else 1)
  crop = augment.make_random_resized_crop(
    length, min_fraction=options['min_crop'], resampler='linear'
  )
  rotate = None
  if options['augmentation'] == 'rotate_heart':
    rotate = vcg.make_rotate_heart(leads)

  def augmented(key, ecg):
    """[L', C] -> [L', C]."""
    keys = jax.random.split(key, 3)
    if options['augmentation'] == 'none':
      return ecg
    if rotate is not None:
      return augment.time_out(
        keys[0], rotate(keys[1], ecg), options['time_out']
      )
    ecg = crop(keys[0], ecg)
    if options['noise_snr_db']:
      for kind, noise_key in zip(NOISES, jax.random.split(keys[1])):
        ecg = noise.add_noise(
          noise_key,
          ecg,
          kind=kind,
          snr_db=tuple(options['noise_snr_db']),
          rate=contract.rate,
          leads=leads,
        )
    return augment.time_out(keys[2], ecg, options['time_out'])

  def view(key, ecg):
    augment_key, lead_key = jax.random.split(key)
    ecg = augmented(augment_key, ecg)
    kept = jnp.ones(len(leads))
    if options['lead_dropout']:
      # The lead with the largest draw stays, so that there is always one.
      draw = jax.random.uniform(lead_key, (len(leads),))
      kept = (draw >= options['lead_dropout']) | (draw == draw.max())
      kept = kept.astype(ecg.dtype)
    return ecg * kept, kept

  def make_views(key, ecg, axis_name):
    rows = ecg.shape[0]
    keys = method.row_keys(key, rows, axis_name)
    keys = jax.vmap(lambda k: jax.random.split(k, num_views))(keys)  # [B, R]
    if halves:
      ecg = ecg[:, : 2 * length].reshape(rows, 2, length, -1)
    else:
      ecg = jnp.broadcast_to(ecg[:, None], (rows, num_views, *ecg.shape[1:]))
    views, kept = jax.vmap(jax.vmap(view))(keys, ecg)
    flat = lambda x: x.reshape(rows * num_views, *x.shape[2:])
    return flat(views), flat(kept)

  return make_views


def pool(features, kept):
  """Mean over leads: [V, N, D] -> [V, D], over those kept if N is a lead."""
  if kept is None or features.shape[1] == 1:  # one encoder for all leads
    return features.mean(axis=1)
  return jnp.einsum('vnd,vn->vd', features, kept) / kept.sum(1)[:, None]


def per_view(batch, num_views: int) -> dict:
  """Metadata of the rows, repeated for each of their views."""
  rows = batch['ecg'].shape[0]
  fields = {
    'patient': batch['patient'],
    'mask': batch.get('mask', jnp.ones(rows)),
    'anchor_weight': batch.get('anchor_weight', jnp.ones(rows)),
    'time': batch.get('time', jnp.full(rows, -1.0)),
  }
  if 'label' in batch:
    mask = batch.get('label_mask', jnp.ones_like(batch['label']))
    fields |= {'label': batch['label'], 'label_mask': mask}
  return {k: jnp.repeat(v, num_views, axis=0) for k, v in fields.items()}


def gap_weight(options, gap):
  """Weight of a pair whose ECGs are `gap` days apart; nan: unknown, 1."""
  if options['gap_weight'] == 'exponential':
    weight = jnp.exp(-gap / options['gap_days'])
    weight = jnp.maximum(weight, options['gap_floor'])
  else:
    edges = jnp.asarray(options['gap_edges'])
    stratum = jnp.searchsorted(edges, gap, side='right')
    weight = jnp.asarray(options['gap_stratum_weights'])[stratum]
    weight = jnp.maximum(weight, options['gap_floor'])
  return jnp.where(jnp.isnan(gap), 1.0, weight)


def pair_weight(options, rows, axis_name):
  """Weights [V, n] of pairs of views, or None where all are 1."""
  everyone = {k: collectives.all_gather(v, axis_name) for k, v in rows.items()}
  weight = None
  if options['gap_weight'] != 'none':
    days = lambda time: jnp.where(time < 0, jnp.nan, time)
    gap = jnp.abs(days(rows['time'])[:, None] - days(everyone['time']))
    weight = gap_weight(options, gap)
  if options['label_change_weight'] != 1 and 'label' in rows:
    has = lambda r: r['label'] * r['label_mask']
    lacks = lambda r: (1 - r['label']) * r['label_mask']
    # Number of classes, annotated in both, that one ECG has and the other not.
    changed = has(rows) @ lacks(everyone).T + lacks(rows) @ has(everyone).T
    factor = jnp.where(changed > 0, options['label_change_weight'], 1.0)
    weight = factor if weight is None else weight * factor
  return weight
