"""A classifier from leads to loss in NumPy: which lead, partner and label."""

import jax
import numpy as np
import pytest
import textbook as tb
from test_supervised import make_config

from ecgjax.methods import supervised
from ecgjax.model import make_method

pytestmark = pytest.mark.usefixtures('short_vgg')
ROWS = 7  # odd: nobody may be a partner of itself


def make_batch():
  rng = np.random.default_rng(0)
  mask = np.ones((ROWS, 3), np.float32)
  mask[1, 0] = mask[4, 2] = 0
  return {
    'ecg': rng.normal(size=(ROWS, 64, 2)).astype(np.float32),
    'label': np.float32(rng.random((ROWS, 3)) < 0.5),
    'label_mask': mask,
  }


def mix(key, batch, alpha):
  """Every row with another row, weight from the row's own key."""
  mixed = {k: np.float64(v) for k, v in batch.items()}
  for row, row_key in enumerate(tb.row_keys(key, ROWS)):
    other = (row + ROWS // 2) % ROWS
    w = float(jax.random.beta(row_key, alpha, alpha))
    for k in ('ecg', 'label'):
      mixed[k][row] = w * batch[k][row] + (1 - w) * batch[k][other]
    mixed['label_mask'][row] = (
      batch['label_mask'][row] * batch['label_mask'][other]
    )
  return mixed


def cross_entropy(logits, batch, options):
  """Mean over what is annotated, term by term."""
  weights = options.class_weights or (1.0,) * 3
  total = count = 0.0
  for z, y, m in zip(logits, batch['label'], batch['label_mask']):
    s = options.label_smoothing
    if options.task == 'single_label':
      target = (1 - s) * y + s / 3
      log = z - np.log(np.exp(z).sum())
      total -= m.min() * (target @ log) * (y @ np.asarray(weights))
      count += m.min()
      continue
    p = 1 / (1 + np.exp(-z))
    target = (1 - s) * y + s / 2
    terms = weights * target * np.log(p) + (1 - target) * np.log(1 - p)
    total -= m @ terms
    count += m.sum()
  return total / count


CASES = {
  'mixup': {
    'mixup': 0.4, 'label_smoothing': 0.1, 'class_weights': (1.0, 2.0, 0.5),
  },
  'single': {'task': 'single_label', 'class_weights': (1.0, 2.0, 0.5)},
}  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_step_equals_numpy(case):
  config = make_config(branches='untied', **CASES[case])
  options = config.supervised
  method = make_method(config)
  batch, key = make_batch(), jax.random.key(2)
  if options.task == 'single_label':
    batch['label'] = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0]]
  variables = jax.jit(method.init)(jax.random.key(0), batch)
  params = tb.shake(variables.params, 0)
  state = tb.shake(variables.model_state, 1)
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=5)
  (loss, aux), gradients = run(params, state, None, key, batch, None)
  seen = mix(key, batch, options.mixup) if options.mixup else batch
  stats = tb.double(state['encoder']['batch_stats'])

  def expected(params):
    params = tb.double(params)
    features, new = [], []
    for lead in range(2):  # each lead has an encoder of its own
      mine = lambda tree, lead=lead: jax.tree.map(lambda p: p[lead], tree)
      f, s = tb.vgg(
        seen['ecg'][:, :, lead : lead + 1], mine(params['encoder']),
        mine(stats),
      )  # fmt: skip
      features.append(f)
      new.append(s)
    logits = tb.linear(
      np.concatenate(features, axis=1), params['head']['Linear_0']
    )
    return cross_entropy(logits, seen, options), new

  value, new = expected(params)
  np.testing.assert_allclose(loss, value, rtol=1e-4)
  for lead, wanted in enumerate(new):
    jax.tree.map(
      lambda a, b, lead=lead: np.testing.assert_allclose(
        a[lead], b, rtol=1e-3, atol=1e-4
      ),
      aux.model_state['encoder']['batch_stats'], wanted,
    )  # fmt: skip
  tb.assert_gradient(lambda p: expected(p)[0], params, gradients)


@pytest.mark.parametrize('rows', [2, 7, 8])
def test_no_row_is_its_own_partner(rows):
  """Each row is a multiple of its own unit vector and one other."""
  ecg = np.eye(rows, dtype=np.float32)[:, None]
  label = np.ones((rows, 1), np.float32)
  keys = jax.random.split(jax.random.key(0), 20)
  mixed = np.stack(
    [supervised.mix(key, ecg, label, label, 1.0, None)[0][:, 0] for key in keys]
  ).sum(axis=0)
  assert ((mixed > 0).sum(axis=1) == 2).all()
  assert ((mixed > 0).sum(axis=0) == 2).all()


def test_augmentation_and_mixup_come_with_keys_of_their_rows(monkeypatch):
  """The classical draw of a row is that of its key, before it is mixed."""
  monkeypatch.setattr(
    supervised.classical, 'make_classical',
    lambda leads, rate: lambda key, ecg: ecg + jax.random.normal(key, (1, 1)),
  )  # fmt: skip
  config = make_config(augment='classical', mixup=0.4, branches='untied')
  plain = make_config(mixup=0.4, branches='untied')
  method, reference = make_method(config), make_method(plain)
  batch, key = make_batch(), jax.random.key(4)
  params, state, _ = jax.jit(method.init)(jax.random.key(0), batch)
  params['encoder'] = tb.shake(params['encoder'], 0)
  moved = np.stack([
    batch['ecg'][row] + np.asarray(jax.random.normal(k, (1, 1)))
    for row, k in enumerate(tb.row_keys(jax.random.fold_in(key, 1), ROWS))
  ])  # fmt: skip
  # Untied branches normalise over the batch, so that offsets of rows count.
  found = jax.jit(method.loss, static_argnums=5)(
    params, state, None, key, batch, None
  )[0]
  wanted = jax.jit(reference.loss, static_argnums=5)(
    params, state, None, key, batch | {'ecg': moved}, None
  )[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
