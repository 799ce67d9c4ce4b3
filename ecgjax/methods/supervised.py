"""Supervised training: from scratch, fine-tuning, or a linear layer alone.

One method for single- and multi-label tasks; which of the arms of the protocol
a run is: `arm`.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.config.option import Choice, Number
from ecgjax.ecg import classical
from ecgjax.losses import decorrelation
from ecgjax.methods import method
from ecgjax.models import heads, lead_encoder
from ecgjax.runtime import collectives

OPTIONS = {
  'task': Choice('multi_label', 'single_label'),
  'branches': Choice(*lead_encoder.BRANCHES),
  'pool': Choice('concat', 'mean', 'attention'),  # over leads
  'frozen_encoder': False,  # inference mode, no gradient
  'class_weights': Number((), 'float [0, inf)'),  # one per class, or none
  'balance_classes': False,  # class weights by the training split's counts
  'label_smoothing': Number(0.0, 'float [0, 1)'),
  'augment': Choice('none', 'classical'),  # see ecg/classical.py
  # Alpha of its Beta distribution (Zhang et al. 2018), or 0.
  'mixup': Number(0.0, 'float [0, inf)'),
}
RUN = {
  'batch_size': 128,
  'best_metric': 'validation_macro_auroc',
  'evaluate_checkpoint': 'best',
}


def make(options, spec: method.Spec) -> method.Method:
  """Makes the method.

  Args:
    options: see `OPTIONS`.
    spec: what it is made for.
  """
  vary = None
  if options['augment'] == 'classical':
    vary = classical.make_classical(spec.contract.leads, spec.contract.rate)
  single = options['task'] == 'single_label'
  encoder = lead_encoder.make_lead_encoder(
    spec.make_encoder(), options['branches']
  )

  def classifier(num_classes):
    return heads.Classifier(num_classes, options['pool'])

  def init(key, batch):
    keys = jax.random.split(key)
    variables = encoder.init(keys[0], batch['ecg'])
    features, _ = encoder.apply(variables, batch['ecg'], False)
    head = classifier(batch['label'].shape[-1]).init(keys[1], features)
    state = {'encoder': {'batch_stats': variables['batch_stats']}}
    return method.Variables(
      {'encoder': variables['params'], 'head': head['params']}, state
    )

  def encode(params, model_state, ecg, train, axis_name=None):
    variables = {'params': params['encoder'], **model_state['encoder']}
    return encoder.apply(variables, ecg, train, axis_name)

  def classify(params, features):
    num_classes = params['head']['Linear_0']['bias'].shape[0]
    return classifier(num_classes).apply({'params': params['head']}, features)

  def logits_loss(logits, label, mask, axis_name=None):
    return decorrelation.classification_loss(
      logits, label, mask,
      single_label=single,
      class_weights=options['class_weights'],
      label_smoothing=options['label_smoothing'],
      axis_name=axis_name,
    )  # fmt: skip

  def loss(params, model_state, target, key, batch, axis_name):
    del target
    ecg, label = batch['ecg'], batch['label']
    mask = batch.get('label_mask', jnp.ones_like(label))
    if vary is not None:
      keys = method.row_keys(
        jax.random.fold_in(key, 1), ecg.shape[0], axis_name
      )
      ecg = jax.vmap(vary)(keys, ecg)
    if options['mixup']:
      ecg, label, mask = mix(key, ecg, label, mask, options['mixup'], axis_name)
    train = not options['frozen_encoder']
    features, state = encode(params, model_state, ecg, train, axis_name)
    if options['frozen_encoder']:
      features = jax.lax.stop_gradient(features)
    logits = classify(params, features)
    value = logits_loss(logits, label, mask, axis_name)
    return value, method.Aux({'encoder': state}, None, {})

  def predict(params, model_state, batch):
    features, _ = encode(params, model_state, batch['ecg'], False)
    logits = classify(params, features)
    return {
      'features': features.reshape(features.shape[0], -1),
      'logits': logits,
      'probabilities': (
        jax.nn.softmax(logits) if single else jax.nn.sigmoid(logits)
      ),
    }

  return method.Method(
    init, loss, predict,
    per_lead=options['branches'] != 'joint',
    labels=True,
    logits_loss=logits_loss,
  )  # fmt: skip


def check(options, fields) -> None:
  """Refuses options that make no sense together.

  Args:
    options: complete.
    fields: of the whole config.
  """
  frozen = encoder_is_frozen(options, fields['optimizer']['freeze'])
  if frozen and not fields['init_from']:
    raise ValueError(
      'config.init_from is empty, and the encoder is frozen '
      '(supervised.frozen_encoder or optimizer.freeze): a random encoder '
      'that never learns is no classifier; name the run of a trained one'
    )


def encoder_is_frozen(options, freeze: str) -> bool:
  """Whether the encoder stays as it starts.

  Args:
    options: see `OPTIONS`.
    freeze: `config.optimizer.freeze`.
  """
  names = [f'encoder/x/{name}' for name in ('kernel', 'bias', 'scale')]
  return options['frozen_encoder'] or (
    freeze != '' and all(re.search(freeze, name) for name in names)
  )


def arm(config) -> str:
  """What a trained classifier is called.

  Returns:
    'scratch' (everything learnt from random weights), 'finetune' (everything
    learnt from a trained encoder) or 'linear' (a linear layer on a trained
    encoder that stayed as it was).
  """
  if encoder_is_frozen(config.supervised, config.optimizer.freeze):
    return 'linear'
  return 'finetune' if config.init_from else 'scratch'


def mix(key, ecg, label, mask, alpha: float, axis_name):
  """Mixup with the global batch moved by half, one weight per row.

  So no row is mixed with itself, in batches of an odd size too.

  Args:
    key: PRNG key of the step.
    ecg: [B, L, C].
    label: [B, K].
    mask: [B, K].
    alpha: the weight of a row is drawn from Beta(alpha, alpha).
    axis_name: mapped axis, or None.

  Returns:
    Mixed ecg and label; the mask keeps what is annotated in both rows.
  """
  rows = ecg.shape[0]
  everything = jax.tree.map(
    lambda x: collectives.all_gather(x, axis_name), (ecg, label, mask)
  )
  mine = collectives.global_row(rows, axis_name)
  partner = jax.tree.map(
    lambda x: jnp.take(x, (mine + len(x) // 2) % len(x), axis=0), everything
  )
  draw = lambda k: jax.random.beta(k, alpha, alpha)
  weight = jax.vmap(draw)(method.row_keys(key, rows, axis_name))
  blend = lambda a, b, w: w * a + (1 - w) * b
  ecg = blend(ecg, partner[0], weight[:, None, None])
  label = blend(label, partner[1], weight[:, None])
  return ecg, label, mask * partner[2]


def from_data(options, columns) -> dict:
  """Returns the options that follow from the training data: class weights.

  Args:
    options: see `OPTIONS`.
    columns: `label` and `label_mask` [N, K] of the training split.

  Raises:
    ValueError: if weights are given as well.
  """
  if not options['balance_classes']:
    return {}
  if options['class_weights']:
    raise ValueError(
      'config.supervised: give class_weights or balance_classes, not both'
    )
  weights = balanced_weights(
    columns['label'], columns['label_mask'], options['task']
  )
  return {'class_weights': weights}


def balanced_weights(label, mask, task: str) -> tuple[float, ...]:
  """Class weights that give both sides of every class the same total weight.

  Args:
    label: [N, K] in {0, 1}, training split.
    mask: [N, K], 0 where a class is not annotated.
    task: 'multi_label': negatives over positives; 'single_label': records over
      K times the positives.

  Returns:
    K weights for `decorrelation.classification_loss`; 1 for a class without a
    positive, which no weight can help.
  """
  positive = (label * mask).sum(axis=0)
  if task == 'single_label':
    weight = np.sum(positive) / label.shape[1] / np.maximum(positive, 1)
  else:
    weight = (mask.sum(axis=0) - positive) / np.maximum(positive, 1)
  return tuple(float(w) if n else 1.0 for w, n in zip(weight, positive))
