"""The prior from codes to loss in NumPy: order, classes, hidden rows, mask."""

import jax
import numpy as np
import pytest
import textbook as tb

from configs import prior as prior_config
from ecgjax.ecg import leads
from ecgjax.model import make_method
from ecgjax.models import codec as codec_lib
from tests import tiny_runs

ROWS, LENGTH, WIDTH, HEADS = 6, 64, 8, 2


def make_batch():
  rng = np.random.default_rng(0)
  return {
    'ecg': np.float32(0.2 * rng.normal(size=(ROWS, LENGTH, 8)).cumsum(axis=1)),
    'label': np.float32(rng.random((ROWS, 3)) < 0.5),
    'mask': np.float32([1, 1, 1, 1, 1, 0]),
  }


def layer_norm(x, p):
  x = x - x.mean(axis=-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
  return x * p['scale'] + p['bias']


def gelu(x):
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def rotate(x):
  """[B, N, H, D], the pairs of dimensions as complex numbers."""
  half = x.shape[-1] // 2
  angle = np.arange(x.shape[1])[:, None] * 1e4 ** (-np.arange(half) / half)
  turned = x[..., :half] + 1j * x[..., half:]
  turned = turned * np.exp(1j * angle)[:, None]
  return np.concatenate([turned.real, turned.imag], axis=-1)


def logits(p, label, hidden, indices):
  """[B, N] indices -> [B, N, K], each from the class and the indices before."""
  batch, length = indices.shape
  first = np.where(
    hidden[:, None], p['unconditional'], tb.linear(label, p['classes'])
  )
  x = np.concatenate([first[:, None], p['codes'][0][indices[:, :-1]]], axis=1)
  b = p['Block_0']
  h = layer_norm(x, b['LayerNorm_0']) @ b['Dense_0']['kernel']
  query, key, value = np.moveaxis(
    h.reshape(batch, length, 3, HEADS, WIDTH // HEADS), 2, 0
  )
  query, key = rotate(query), rotate(key)
  seen = np.zeros((batch, length, HEADS, WIDTH // HEADS))
  for s in range(length):
    score = np.einsum('bhd,bnhd->bhn', query[:, s], key[:, : s + 1])
    weight = np.exp(score / np.sqrt(WIDTH // HEADS))
    weight /= weight.sum(axis=-1, keepdims=True)
    seen[:, s] = np.einsum('bhn,bnhd->bhd', weight, value[:, : s + 1])
  x = x + tb.linear(seen.reshape(x.shape), b['Dense_1'])
  h = gelu(tb.linear(layer_norm(x, b['LayerNorm_1']), b['Dense_2']))
  x = x + tb.linear(h, b['Dense_3'])
  return tb.linear(layer_norm(x, p['LayerNorm_0']), p['head'])


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  folder = tmp_path_factory.mktemp('codec') / 'run'
  tiny_runs.write_codec(folder, 'data', LENGTH)
  config = prior_config.get_config('preset=smoke').copy_and_resolve_references()
  config.data.length = LENGTH
  config.prior.update(
    codec=str(folder), width=WIDTH, depth=1, heads=HEADS, class_dropout=0.4
  )
  return config


@pytest.mark.parametrize('train', [True, False])
def test_step_equals_numpy(config, train):
  assert tuple(config.data.leads) == leads.INDEPENDENT_LEADS
  method = make_method(config)
  batch, key = make_batch(), jax.random.key(11)
  params, state, _ = jax.jit(method.init)(jax.random.key(0), batch)
  params = tb.shake(params, 0)
  codec, frozen = method.codec, state
  spread = np.random.default_rng(1).normal(size=(1, 16, 4)).astype(np.float32)
  book = frozen['codebook'].replace(embed=spread)
  state = {'codec': frozen['codec'], 'codebook': book}
  assert isinstance(codec, codec_lib.Codec)
  run = jax.jit(
    jax.value_and_grad(method.loss, has_aux=True), static_argnums=(5, 6)
  )
  (loss, aux), gradients = run(params, state, None, key, batch, None, train)
  z = np.float64(codec.encode(frozen['codec'], batch['ecg']))
  indices = ((z[:, :, None] - spread[0]) ** 2).sum(axis=-1).argmin(axis=-1)
  assert len(np.unique(indices)) > 5
  hidden = np.zeros(ROWS, bool)
  if train:
    draws = [bool(jax.random.bernoulli(k, 0.4)) for k in tb.row_keys(key, ROWS)]
    hidden = np.array(draws)
    assert 0 < hidden[:-1].sum() < ROWS - 1

  def value(params):
    """Nats of an index, mean over indices and rows that are no padding."""
    p = tb.double(params['prior'])
    x = logits(p, np.float64(batch['label']), hidden, indices)
    log = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    found = np.take_along_axis(log, indices[..., None], axis=-1)[..., 0]
    return -found[:-1].mean()

  np.testing.assert_allclose(loss, value(params), rtol=1e-4)
  np.testing.assert_allclose(
    aux.metrics['bits_per_index'], value(params) / np.log(2), rtol=1e-4
  )
  tb.assert_gradient(value, params, gradients)
  same = jax.tree.map(np.array_equal, aux.model_state, state)
  assert all(jax.tree.leaves(same))
