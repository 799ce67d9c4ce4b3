"""A training step of the codec in NumPy: stages, losses, gradients, averages.

The two networks are taken as they are (they have tests of their own).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import textbook as tb
from test_vqvae import ROWS, make_batch, make_config

from ecgjax.model import make_method

TOKENS, Q, K = 16, 3, 16


def draw_stages(key):
  """Stages that code each row: with probability .5 all, else 1 to all."""
  stages = []
  for row_key in tb.row_keys(jax.random.split(key, 4)[2], ROWS):
    drop_key, number_key = jax.random.split(row_key)
    fewer = int(jax.random.randint(number_key, (), 1, Q + 1))
    stages.append(fewer if bool(jax.random.bernoulli(drop_key, 0.5)) else Q)
  return np.array(stages)


def quantise(embed, z, stages, mask):
  """z [B, T, D] -> codes summed over the stages of a row, and what each saw.

  Returns:
    z_q, commitment, tokens [Q, K] and their sums [Q, K, D].
  """
  rest, total, commit = z.copy(), np.zeros_like(z), 0.0
  n, s = np.zeros((Q, K)), np.zeros((Q, K, z.shape[2]))
  for q in range(Q):
    square, count = 0.0, 0
    for row in np.flatnonzero(stages > q):
      for t in range(TOKENS):
        r = rest[row, t].copy()
        k = np.argmin(((embed[q] - r) ** 2).sum(axis=1))
        rest[row, t] -= embed[q, k]
        total[row, t] += embed[q, k]
        if mask[row]:
          n[q, k] += 1
          s[q, k] += r
          square += ((r - embed[q, k]) ** 2).sum()
          count += len(r)
    commit += square / count
  return total, commit, n, s


@pytest.fixture(scope='module')
def step():
  config = make_config(
    'rvq', stages=Q, stage_dropout=0.5, restart_every=0, beta=0.4, l1=0.2
  )
  method = make_method(config)
  batch, key = make_batch(3), jax.random.key(8)
  params, state, _ = jax.jit(method.init)(jax.random.key(0), batch)
  codec = make_method(config).codec
  z = np.asarray(codec.encode(params, batch['ecg']))[:-1].reshape(-1, 4)
  rng = np.random.default_rng(0)
  rest, embed = z, []
  for _ in range(Q):  # codes near tokens, so that every stage has work
    embed.append(rest[rng.choice(len(rest), K, replace=False)])
    near = ((rest[:, None] - embed[-1]) ** 2).sum(-1).argmin(1)
    rest = rest - 0.7 * embed[-1][near]
  embed = np.stack(embed)
  counts = np.float32(rng.uniform(3, 9, (Q, K)))
  state = {
    'codebook': state['codebook'].replace(
      embed=embed, counts=counts, sums=counts[..., None] * embed * 1.1,
      step=np.full(Q, 5, np.int32),
    )
  }  # fmt: skip
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=5)
  found = run(params, state, None, key, batch, None)
  return config, codec, params, state['codebook'], key, batch, found


def test_loss_and_gradients_equal_numpy(step):
  config, codec, params, book, key, batch, ((loss, aux), gradients) = step
  stages, mask = draw_stages(key), batch['mask'] > 0
  assert 1 < len(set(stages.tolist()))
  encode, decode = map(jax.jit, (codec.encode, codec.decode))
  embed = np.float64(book.embed)
  z0 = np.float64(encode(params, batch['ecg']))
  codes, _, _, _ = quantise(embed, z0, stages, mask)

  def value(params):
    """Codes move with the tokens: the straight-through estimator."""
    z = np.float64(encode(params, batch['ecg']))
    y = np.float64(decode(params, codes + (z - z0)))
    error = (y - batch['ecg'])[mask] / 0.2
    _, commit, _, _ = quantise(embed, z, stages, mask)
    return np.mean(error**2) + 0.2 * np.mean(np.abs(error)), 0.4 * commit

  reconstruction, commit = value(params)
  metrics = aux.metrics
  np.testing.assert_allclose(
    metrics['loss_reconstruction'], reconstruction, rtol=1e-4
  )
  np.testing.assert_allclose(metrics['loss_commitment'], commit, rtol=1e-4)
  np.testing.assert_allclose(loss, reconstruction + commit, rtol=1e-4)
  with jax.enable_x64(True):
    params = tb.double(params)
    batch = batch | {'ecg': jnp.float64(batch['ecg'])}
    z0 = np.float64(encode(params, batch['ecg']))
    codes, _, _, _ = quantise(embed, z0, stages, mask)
    tb.assert_gradient(lambda p: sum(value(p)), params, gradients, rtol=5e-3)


def test_averages_move_after_the_step_and_towards_its_tokens(step):
  config, codec, params, book, key, batch, ((_, aux), _) = step
  z = np.float64(codec.encode(params, batch['ecg']))
  _, _, n, s = quantise(
    np.float64(book.embed), z, draw_stages(key), batch['mask'] > 0
  )
  assert 0 < n[2].sum() < n[0].sum() == (ROWS - 1) * TOKENS
  keep = config.vqvae.decay
  counts = keep * np.float64(book.counts) + (1 - keep) * n
  sums = keep * np.float64(book.sums) + (1 - keep) * s
  total = counts.sum(axis=1, keepdims=True)
  smooth = (counts + 1e-5) / (total + K * 1e-5) * total
  new = aux.model_state['codebook']
  np.testing.assert_allclose(new.counts, counts, rtol=1e-4)
  np.testing.assert_allclose(new.sums, sums, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(
    new.embed, sums / smooth[..., None], rtol=1e-3, atol=1e-4
  )
  assert (np.asarray(new.step) == 6).all()
