"""Patient contrast from ECGs to loss in NumPy: views, keys, queue, target."""

import jax
import numpy as np
import pytest
import textbook as tb
from test_longitudinal import LENGTH, make_batch, make_config, stem_only

from ecgjax.ecg import vcg
from ecgjax.model import make_method

__all__ = ['stem_only']  # a fixture
ROWS, LEADS = 8, 8
CASES = {
  'queue': (
    'default',
    {
      'queue': 11, 'gap_weight': 'exponential', 'gap_days': 100.0,
      'label_change_weight': 0.5, 'lead_dropout': 0.4, 'min_crop': 0.5,
      'time_out': 0.5, 'temperature': 0.3, 'queue_tau': 0.97,
    },
  ),
  'tied': (
    'default',
    {'branches': 'tied', 'lead_dropout': 0.4, 'learned_temperature': True},
  ),
  'copies': ('simclr', {'min_crop': 0.6, 'time_out': 0.3}),
  'halves': ('cmsc', {}),
  'heart': ('3kg', {'time_out': 0.4}),
}  # fmt: skip


def make_views(key, ecg, config):
  """[V, L', C] and the kept leads [V, C]; views of a row side by side."""
  options = config.longitudinal
  num_views = 1 if options.views == 'ecg' else 2
  views, kept = [], []
  for row, row_key in enumerate(tb.row_keys(key, ROWS)):
    for i, view_key in enumerate(jax.random.split(row_key, num_views)):
      x = ecg[row].astype(np.float64)
      if options.views == 'halves':
        x = x[LENGTH // 2 * i : LENGTH // 2 * (i + 1)]
      augment_key, lead_key = jax.random.split(view_key)
      first, second, third = jax.random.split(augment_key, 3)
      if options.augmentation == 'rotate_heart':
        rotate = vcg.make_rotate_heart(tuple(config.data.leads))
        x = np.asarray(rotate(second, x.astype(np.float32)), np.float64)
        x, _ = tb.time_out(first, x, options.time_out)
      elif options.augmentation == 'crop':
        x = tb.crop(first, x, options.min_crop, 'linear')
        x, _ = tb.time_out(third, x, options.time_out)
      keep = np.ones(LEADS)
      if options.lead_dropout:
        draw = np.asarray(jax.random.uniform(lead_key, (LEADS,)))
        keep = (draw >= options.lead_dropout) | (draw == draw.max())
      views.append(x * keep)
      kept.append(keep)
  return np.stack(views), np.float64(kept)


def embed(params, state, views, kept, branches):
  """Embeddings [V, D] and new statistics of the encoder."""
  stats = state['batch_stats']
  if branches == 'joint':
    h, new = tb.resnet_stem(views, params['encoder'], stats)
  else:
    each, new = [], stats  # one lead after the other
    for lead in range(LEADS):
      one = views[:, :, lead : lead + 1]
      h, new = tb.resnet_stem(one, params['encoder'], new)
      each.append(h)
    h = np.stack(each, axis=1)
    h = (h * kept[:, :, None]).sum(axis=1) / kept.sum(axis=1)[:, None]
  h = np.maximum(tb.linear(h, params['hidden']), 0)
  return tb.linear(h, params['output']), {'batch_stats': new}


def pair_weight(options, batch, v, u):
  weight = 1.0
  if options.gap_weight == 'exponential':
    first, second = batch['time'][v], batch['time'][u]
    if first >= 0 and second >= 0:
      weight = max(np.exp(-abs(first - second) / options.gap_days), 0.05)
  if (batch['label'][v] != batch['label'][u]).any():
    weight *= options.label_change_weight
  return weight


def contrast(z, batch, queue, tau, options):
  """The double sum of `lpc_loss`, term by term."""
  z, copies = tb.unit(z), len(z) // ROWS
  patient = np.repeat(batch['patient'], copies)
  total = norm = 0.0
  for v in range(len(z)):
    similar = np.exp(z @ z[v] / tau)
    others = similar[patient != patient[v]].sum()
    if queue is not None:
      foreign = (queue['patient'] >= 0) & (queue['patient'] != patient[v])
      others += np.exp(queue['embedding'][foreign] @ z[v] / tau).sum()
    terms = weights = 0.0
    for u in range(len(z)):
      if u != v and patient[u] == patient[v]:
        weight = pair_weight(options, batch, v // copies, u // copies)
        terms -= weight * np.log(similar[u] / (similar[u] + others))
        weights += weight
    if weights:
      anchor = batch['anchor_weight'][v // copies]
      total += anchor * terms / weights
      norm += anchor
  return total / norm


def clocs(z, batch, tau):
  """CLOCS's four means for the one pair of views."""
  z = tb.unit(z).reshape(ROWS, 2, -1)
  m = np.exp(z[:, 0] @ z[:, 1].T / tau)
  rows, columns = np.log(m / m.sum(1, keepdims=True)), np.log(m / m.sum(0))
  same = batch['patient'][:, None] == batch['patient']
  i, j = np.nonzero(same & ~np.eye(ROWS, dtype=bool))
  later = j > i
  means = [
    np.diag(rows).mean(),
    np.diag(columns).mean(),
    rows[i[later], j[later]].mean(),
    columns[i[~later], j[~later]].mean(),
  ]
  return -np.mean(means)


@pytest.mark.parametrize('case', CASES)
def test_step_equals_numpy(case):
  preset, changes = CASES[case]
  config = make_config(preset, **changes)
  options = config.longitudinal
  method = make_method(config)
  batch, key = make_batch(), jax.random.key(5)
  # Several positives of an anchor, or the weight of a pair would cancel.
  batch['patient'] = np.int32([0, 0, 0, 0, 1, 1, 2, 2])
  variables = jax.jit(method.init)(jax.random.key(0), batch)
  params, state = tb.shake(variables.params, 0), variables.model_state
  state['encoder'] = tb.shake(state['encoder'], 1)
  target = variables.target
  if options.queue:
    target = tb.shake(target, 2)
    rng = np.random.default_rng(3)
    state['queue'] = {
      'embedding': np.float32(tb.unit(rng.normal(size=(11, 6)))),
      'patient': np.int32([7, 0, 1, 9, 3, -1, 2, 8, 8, -1, -1]),
    }
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=5)
  (loss, aux), gradients = run(params, state, target, key, batch, None)
  views, kept = make_views(key, batch['ecg'], config)

  def expected(params):
    z, stats = embed(
      tb.double(params), tb.double(state['encoder']), views, kept,
      options.branches,
    )  # fmt: skip
    tau = options.temperature
    if options.learned_temperature:
      tau = np.exp(float(params['temperature']['log_tau']))
    if options.loss == 'clocs':
      return clocs(z, batch, tau), stats
    return contrast(z, batch, state.get('queue'), tau, options), stats

  value, stats = expected(params)
  np.testing.assert_allclose(loss, value, rtol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    aux.model_state['encoder'], stats,
  )  # fmt: skip
  tb.assert_gradient(lambda p: expected(p)[0], params, gradients, rtol=5e-3)
  if not options.queue:
    assert aux.target_state is None and 'queue' not in aux.model_state
    return
  past, target_stats = embed(
    *map(tb.double, (target['params'], target['state'])), views, kept, 'joint'
  )
  old, new = state['queue'], aux.model_state['queue']
  newest_first = np.concatenate([tb.unit(past), old['embedding']])[:11]
  np.testing.assert_allclose(new['embedding'], newest_first, atol=1e-4)
  np.testing.assert_array_equal(
    new['patient'], [*batch['patient'], *old['patient'][:3]]
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    aux.target_state, target_stats,
  )  # fmt: skip
  assert method.tau(3) == options.queue_tau
