"""LCD from leads to loss in NumPy: who sees what, with which key."""

import jax
import numpy as np
import pytest
import textbook as tb
from test_lcd import make_config, random_batch

from ecgjax.model import make_method

pytestmark = pytest.mark.usefixtures('short_vgg')
ROWS = 8
PAIRS = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
BALANCED = {'gamma': 1e-4}  # no gradient hides behind the decorrelation's
VARIANT = {
  'lead_pair': 'per_sample',
  'separate_bn': False,
  'cov_divisor': 'nominal',
  'cov_on_diagonal': True,
  'exclusive_start': True,
  'tau': 0.9,
}


def test_weights_are_those_of_the_paper():
  options = make_config().lcd
  assert options.gamma == 0.005 and options.off_diagonal_weight == 0.0051
  assert options.tau == 0.996


def lead_pairs(key, options):
  """One pair for the batch, or one for each row."""
  draw = lambda k: PAIRS[int(jax.random.randint(k, (), 0, 6))]
  if options.lead_pair == 'per_step':
    return [draw(key)] * ROWS
  return [draw(k) for k in tb.row_keys(key, ROWS)]


def make_views(key, ecg, options):
  """Views 1, 2, 3: of lead a, b, a, each with a key of its own."""
  pair_key, *view_keys = jax.random.split(key, 4)
  pairs = lead_pairs(pair_key, options)
  views, spans = [], []
  for view_key, which in zip(view_keys, (0, 1, 0)):
    rows = []
    for row, row_key in enumerate(tb.row_keys(view_key, ROWS)):
      crop_key, span_key = jax.random.split(row_key)
      lead = ecg[row, :, pairs[row][which]][:, None]
      lead = tb.crop(crop_key, lead, 0.5, 'fourier', options.exclusive_start)
      lead, span = tb.time_out(span_key, lead, 0.5, options.exclusive_start)
      rows.append(lead)
      spans.append(span)
    views.append(np.stack(rows))
  assert max(spans) > 8 and len(set(spans)) > 8
  return views


def project(params, state, x):
  f, encoder = tb.vgg(x, params['encoder'], state['encoder']['batch_stats'])
  h, projector = tb.mlp(
    f, params['projector'], state['projector']['batch_stats']
  )
  return h, {
    'encoder': {'batch_stats': encoder},
    'projector': {'batch_stats': projector},
  }


def expected(params, state, target, views, config):
  """Loss, its parts, new state and new target state."""
  options = config.lcd
  params, state, target = map(tb.double, (params, state, target))
  v1, v2, v3 = views
  predict = lambda h, s: tb.mlp(h, params['predictor'], s['batch_stats'])
  if options.separate_bn:
    h1, new = project(params, state, v1)
    h2, new = project(params, new, v2)
    q1, stats = predict(h1, state['predictor'])
    q2, stats = predict(h2, {'batch_stats': stats})
  else:
    h, new = project(params, state, np.concatenate([v1, v2]))
    q, stats = predict(h, state['predictor'])
    h1, h2, q1, q2 = *np.split(h, 2), *np.split(q, 2)
  z3, target_state = project(target['params'], target['state'], v3)
  away = lambda q: np.mean(np.sum((tb.unit(q) - tb.unit(z3)) ** 2, axis=1))
  h = np.concatenate([h1, h2], axis=1)
  h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
  nominal = options.cov_divisor == 'nominal'
  c = h.T @ h / (config.batch_size if nominal else ROWS)
  diagonal = np.diag(c)
  cov = 0.0051 * (np.sum(c**2) - np.sum(diagonal**2))
  cov += options.cov_on_diagonal * np.sum((diagonal - 1) ** 2)
  parts = {
    'loss_intra': away(q1),
    'loss_inter': away(q2),
    'loss_cov': options.gamma * cov,
  }
  new['predictor'] = {'batch_stats': stats}
  value = sum(parts.values())
  parts['constant_loss'] = 2 * (
    2 - 2 * np.linalg.norm(tb.unit(z3).mean(axis=0))
  )
  return value, parts, new, target_state


@pytest.mark.parametrize('changes', [BALANCED, VARIANT])
def test_step_equals_numpy(changes):
  config = make_config(**changes)
  config.batch_size = 12
  method = make_method(config)
  batch, key = random_batch(ROWS), jax.random.key(3)
  params, state, target = jax.jit(method.init)(jax.random.key(0), batch)
  params, state, target = (
    tb.shake(tree, seed) for seed, tree in enumerate((params, state, target))
  )
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=5)
  (loss, aux), gradients = run(params, state, target, key, batch, None)
  views = make_views(key, batch['ecg'].astype(np.float64), config.lcd)
  value, parts, new, target_state = expected(
    params, state, target, views, config
  )
  for name, part in parts.items():
    np.testing.assert_allclose(aux.metrics[name], part, rtol=1e-4)
  np.testing.assert_allclose(loss, value, rtol=1e-4)
  for found, wanted in (
    (aux.model_state, new), (aux.target_state, target_state),
  ):  # fmt: skip
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
      found, wanted,
    )  # fmt: skip
  tb.assert_gradient(
    lambda p: expected(p, state, target, views, config)[0], params, gradients
  )
  assert method.tau(7) == config.lcd.tau


def test_features_are_those_of_the_encoder_of_each_lead():
  config = make_config()
  method = make_method(config)
  batch = random_batch(3)
  params, state, _ = jax.jit(method.init)(jax.random.key(0), batch)
  params, state = tb.shake(params, 0), tb.shake(state, 1)
  found = jax.jit(method.predict)(params, state, batch)['features']
  p, s = tb.double((params['encoder'], state['encoder']['batch_stats']))
  for lead in range(3):
    x = batch['ecg'][:, :, lead : lead + 1]
    for name in sorted(p):
      x = tb.convolution(x, p[name]['kernel']) + p[name]['bias']
      x = (x - s[name]['mean']) / np.sqrt(s[name]['var'] + 1e-5)
      x = np.maximum(x * p[name]['scale'] + p[name]['shift'], 0)
      x = x.reshape(3, -1, 2, x.shape[2]).max(axis=2)
    columns = slice(64 * lead, 64 * lead + 64)
    np.testing.assert_allclose(
      found[:, columns], x.mean(axis=1), rtol=1e-3, atol=1e-4
    )
