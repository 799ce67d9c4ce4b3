"""Contrastive losses against closed forms and the published formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.losses import contrastive

TAU = 0.1


ROWS, WIDTH, QUEUE = 16, 8, 6
compiled = jax.jit(jax.value_and_grad(contrastive.lpc_loss))


def lpc(z, patient, anchor=None, pair=None, valid=None, queue=None):
  """The loss and its gradient, in float64.

  Everything is padded to one shape, so that it is compiled once: rows that are
  not valid, a width of zeros, a queue that is not filled. Arguments are those
  of `numpy_lpc`.
  """
  n, width = np.shape(z)
  rows = lambda x, fill: np.pad(x, (0, ROWS - n), constant_values=fill)
  anchor = np.ones(n) if anchor is None else anchor
  pair = np.ones((n, n)) if pair is None else pair
  valid = np.ones(n) if valid is None else valid
  past, ids = (np.zeros((0, width)), []) if queue is None else queue
  free = QUEUE - len(ids)
  more = (0, WIDTH - width)
  with jax.enable_x64(True):
    value, gradient = compiled(
      np.pad(np.asarray(z, float), ((0, ROWS - n), more)),
      rows(np.asarray(patient, np.int32), 99),
      anchor_weight=rows(anchor, 1.0),
      pair_weight=np.pad(pair, (0, ROWS - n), constant_values=1.0),
      valid=rows(np.asarray(valid, float), 0.0),
      queue={
        'embedding': np.pad(past, ((0, free), more)),
        'patient': np.pad(np.int32(ids), (0, free), constant_values=-1),
      },
    )
  return float(value), np.asarray(gradient)[:n, :width]


def random_rows(patients=5, views=2, width=6, seed=0):
  rng = np.random.default_rng(seed)
  patient = np.repeat(np.arange(patients, dtype=np.int32) + 10, views)
  return rng.normal(size=(patients * views, width)), patient


def cosine(a, b):
  norm = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  return norm(a) @ norm(b).T


def numpy_lpc(z, patient, anchor=None, pair=None, valid=None, queue=None):
  """Section 3, written as nested loops."""
  n = len(z)
  anchor = np.ones(n) if anchor is None else anchor
  pair = np.ones((n, n)) if pair is None else pair
  valid = np.ones(n, bool) if valid is None else valid
  exp = np.exp(cosine(z, z) / TAU)
  total, norm = 0.0, 0.0
  for v in np.flatnonzero(valid):
    negative = sum(
      exp[v, w] for w in range(n) if valid[w] and patient[w] != patient[v]
    )
    if queue is not None:
      past = np.exp(cosine(z[v : v + 1], queue[0])[0] / TAU)
      negative += past[(queue[1] != patient[v]) & (queue[1] >= 0)].sum()
    positives = [
      u for u in range(n) if valid[u] and u != v and patient[u] == patient[v]
    ]
    if not positives:
      continue
    mean = sum(
      pair[v, u] * -np.log(exp[v, u] / (exp[v, u] + negative))
      for u in positives
    ) / sum(pair[v, u] for u in positives)
    total, norm = total + anchor[v] * mean, norm + anchor[v]
  return total / norm


def test_closed_forms():
  assert lpc(np.eye(2), [7, 7])[0] == 0  # one patient: no negative
  assert lpc(np.eye(3), [1, 2, 3])[0] == 0  # no positive
  ones, patient = np.ones((8, 4)), np.repeat(np.arange(4), 2)
  value, _ = lpc(ones, patient)
  assert value == pytest.approx(1.945910, abs=1e-6)
  value, _ = lpc(ones[:4], patient[:4])
  assert value == pytest.approx(np.log(3), abs=1e-6)
  for views, expected in ((2, 2.72362e-4), (3, 4.08516e-4)):
    z = np.repeat(np.eye(4), views, axis=0)
    value, _ = lpc(z, np.repeat(np.arange(4), views))
    assert value == pytest.approx(expected, abs=1e-6)


def test_lpc_matches_numpy():
  rng = np.random.default_rng(1)
  z, patient = rng.normal(size=(11, 5)), rng.integers(0, 4, 11)
  anchor, pair = rng.uniform(size=11), rng.uniform(0.1, 1, (11, 11))
  valid = np.arange(11) % 5 != 2
  queue = rng.normal(size=(6, 5))
  queue /= np.linalg.norm(queue, axis=1, keepdims=True)
  options = anchor, pair, valid, (queue, np.arange(-1, 5))
  plain, _ = lpc(z, patient)
  assert plain == pytest.approx(numpy_lpc(z, patient), rel=1e-9)
  weighted, gradient = lpc(z, patient, *options)
  assert weighted == pytest.approx(numpy_lpc(z, patient, *options), rel=1e-9)
  assert weighted != pytest.approx(plain, rel=0.01)
  step = 1e-5 * rng.normal(size=z.shape)
  high, low = (numpy_lpc(z + s * step, patient, *options) for s in (1, -1))
  assert np.sum(gradient * step) == pytest.approx((high - low) / 2, rel=1e-5)


def test_pclr_is_two_views():
  """Section 2: terms of x and y are added, not averaged."""
  z, patient = random_rows()
  x, y = z[::2], z[1::2]
  published = 0.0
  for a, b in ((x, y), (y, x)):
    across, within = np.exp(cosine(a, b) / TAU), np.exp(cosine(a, a) / TAU)
    denominator = across.sum(1) + within.sum(1) - np.diag(within)
    published -= np.mean(np.log(np.diag(across) / denominator))
  assert 2 * lpc(z, patient)[0] == pytest.approx(published, rel=1e-9)


def test_simclr_is_two_copies():
  """Chen et al. 2020, algorithm 1."""
  z, patient = random_rows(patients=6)
  exp = np.exp(cosine(z, z) / TAU)
  np.fill_diagonal(exp, 0)
  pair = np.arange(12) ^ 1
  expected = -np.mean(np.log(exp[np.arange(12), pair] / exp.sum(1)))
  assert lpc(z, patient)[0] == pytest.approx(expected, rel=1e-9)


compiled_clocs = jax.jit(jax.value_and_grad(contrastive.clocs_loss))


def numpy_clocs_pair(a, b, patient):
  m = np.exp(cosine(a, b) / TAU)
  n = len(a)
  rows, columns = m / m.sum(1, keepdims=True), m / m.sum(0, keepdims=True)
  means = [-np.mean(np.log(np.diag(rows))), -np.mean(np.log(np.diag(columns)))]
  same = [
    (i, j) for i in range(n) for j in range(n) if patient[i] == patient[j]
  ]
  later = [np.log(rows[i, j]) for i, j in same if j > i]
  earlier = [np.log(columns[i, j]) for i, j in same if j < i]
  means += [-np.mean(part) for part in (later, earlier) if part]
  return sum(means) / len(means)


@pytest.mark.parametrize('patient', [[0, 1, 2, 3, 4, 5], [4, 0, 1, 0, 4, 0]])
def test_clocs_matches_numpy(patient):
  z = np.random.default_rng(2).normal(size=(6, 3, 5))
  expected = np.mean(
    [
      numpy_clocs_pair(z[:, a], z[:, b], patient)
      for a, b in ((0, 1), (0, 2), (1, 2))
    ]
  )
  with jax.enable_x64(True):
    value, gradient = compiled_clocs(z, np.int32(patient))
  assert float(value) == pytest.approx(expected, rel=1e-9)
  assert (np.abs(gradient).sum(axis=(0, 2)) > 0.01).all()  # every view learns
  _, gradient = compiled_clocs(np.zeros((6, 3, 5)), np.int32(patient))
  assert np.isfinite(gradient).all()


def test_invariances():
  z, patient = random_rows(views=3)
  value, gradient = lpc(z, patient)
  order = np.random.default_rng(3).permutation(15)
  other, permuted = lpc(z[order], patient[order])
  assert other == pytest.approx(value, rel=1e-9)
  np.testing.assert_allclose(permuted, gradient[order], atol=1e-9)
  scale = np.linspace(0.5, 9, 15)[:, None]
  assert lpc(z * scale, patient)[0] == pytest.approx(value, rel=1e-9)
  equal = np.full((15, 15), 0.3)
  assert lpc(z, patient, pair=equal)[0] == pytest.approx(value, rel=1e-9)


def test_queue_of_the_same_patient_changes_nothing():
  z, patient = random_rows(patients=2)
  past = random_rows(seed=4)[0][:3]
  past /= np.linalg.norm(past, axis=1, keepdims=True)
  one = z[:2], patient[:2]  # a single patient: all terms are 0
  assert lpc(*one, queue=(past, [10, 10, -1]))[0] == 0
  assert lpc(*one, queue=(past, [10, 11, -1]))[0] > 0
  assert lpc(z, patient, queue=(past, [-1, -1, -1]))[0] == lpc(z, patient)[0]


def test_zero_vectors_have_a_finite_gradient():
  for patient in ([0, 0, 1, 1], [0, 0, 0, 0]):
    value, gradient = lpc(np.zeros((4, 3)), patient)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_temperature_learns_and_the_queue_does_not():
  z, patient = random_rows()

  def loss(tau, embedding):
    queue = {'embedding': embedding, 'patient': jnp.asarray([1, 2])}
    return contrastive.lpc_loss(jnp.asarray(z), patient, tau=tau, queue=queue)

  tau, past = jax.jit(jax.grad(loss, (0, 1)))(0.1, jnp.eye(6)[:2])
  assert tau != 0 and not np.any(past)


@pytest.mark.parametrize('name', ['lpc', 'clocs'])
def test_one_device_is_four(name):
  z, patient = random_rows(patients=8, width=4)
  patient[::4] = 10  # so that pairs of a patient lie on several devices
  z, patient = jnp.asarray(z, jnp.float32), jnp.asarray(patient)

  def loss(weight, z, patient, axis_name=None):
    z = z @ weight
    if name == 'lpc':
      anchor = (patient % 3 + 1).astype(jnp.float32)
      return contrastive.lpc_loss(
        z, patient, anchor_weight=anchor, axis_name=axis_name
      )
    return contrastive.clocs_loss(
      jnp.stack([z, z**2], 1), patient, axis_name=axis_name
    )

  weight = jnp.eye(4) + 0.1
  value, gradient = jax.jit(jax.value_and_grad(loss))(weight, z, patient)

  def on_device(weight, z, patient):
    one = jax.value_and_grad(loss)(weight, z, patient, 'batch')
    metrics = contrastive.retrieval_metrics(z, patient, axis_name='batch')
    return jax.lax.pmean(one, 'batch'), one[0], metrics

  split = lambda x: x.reshape(4, -1, *x.shape[1:])
  (value4, gradient4), each, metrics = jax.pmap(
    on_device, 'batch', in_axes=(None, 0, 0)
  )(weight, split(z), split(patient))
  np.testing.assert_allclose(each, jnp.full(4, value), atol=1e-6)
  np.testing.assert_allclose(value4[0], value, atol=1e-6)
  np.testing.assert_allclose(gradient4[0], gradient, atol=1e-5)
  expected = jax.jit(contrastive.retrieval_metrics)(z, patient)
  for field, found in metrics.items():
    np.testing.assert_allclose(found, jnp.full(4, expected[field]), atol=1e-6)


def test_retrieval_metrics():
  z = jnp.asarray([[1.0, 0], [1, 0.1], [0, 1], [1, 0.05], [-1, 0]])
  patient = jnp.asarray([0, 0, 1, 2, 1])
  found = jax.jit(contrastive.retrieval_metrics)(z, patient)
  similarity = cosine(np.asarray(z), np.asarray(z))
  positive = (similarity[0, 1] + similarity[2, 4]) / 2
  np.testing.assert_allclose(found['positive_similarity'], positive, rtol=1e-5)
  # Rows 0 and 1 are nearest to row 3, row 2 to row 1, row 4 to row 2.
  assert found['batch_recall'] == pytest.approx(0.25)
