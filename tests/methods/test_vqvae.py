"""The codec as a method: device layouts, codebook life, its own checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vqvae as vqvae_config
from ecgjax import checkpoints
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.methods import vqvae
from ecgjax.model import make_method
from ecgjax.runtime import parallel
from ecgjax.training import optimizers, train_state, train_step

ROWS, LENGTH = 8, 128  # 16 tokens a row


def make_config(preset='default', **options):
  config = vqvae_config.get_config(f'preset={preset}')
  config = config.copy_and_resolve_references().unlock()
  config.data.length = LENGTH
  config.batch_size = ROWS
  config.num_steps = 100
  config.optimizer.name = 'sgd'
  config.optimizer.warmup_steps = 0
  config.model.kwargs.update(width=8, depth=1, patch=8)
  if preset != 'fsq':
    config.model.kwargs.dim = 4
  config.vqvae.update({'size': 16, 'pool': 64, 'restart_every': 2, **options})
  return config


def make_batch(seed=0, rows=ROWS):
  """Random walks, so that there is something to code; the last row is padding
  in `mask` and far away."""
  rng = np.random.default_rng(seed)
  ecg = 0.1 * rng.normal(size=(rows, LENGTH, 8)).cumsum(axis=1)
  mask = np.ones(rows, np.float32)
  mask[-1] = 0
  ecg[-1] += 50
  return {'ecg': ecg.astype(np.float32), 'mask': mask}


def create(config):
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, config.num_steps)
  state = jax.jit(
    lambda: train_state.create_train_state(method, optimizer, 0, make_batch())
  )()
  step = train_step.make_train_step(
    method, optimizer, InputContract.from_config(config)
  )
  return method, state, step


@pytest.fixture(scope='module')
def trained():
  """Default preset after three steps, with the states on the way."""
  config = make_config()
  method, state, step = create(config)
  step = jax.jit(step)
  states, metrics = [state], []
  for i in range(3):
    state, row = step(state, make_batch(i))
    states.append(state)
    metrics.append(row)
  return config, method, states, metrics


def test_first_step_starts_the_codebook_from_data(trained):
  _, _, states, metrics = trained
  before, after = (s.model_state['codebook'] for s in states[:2])
  assert not np.allclose(before.embed, after.embed, atol=0.05)
  assert float(metrics[0]['batch_usage']) > 0.7
  # 7 rows of 16 tokens count; the averages start there.
  assert float(after.counts.sum()) == pytest.approx(112, rel=0.15)
  assert [int(s.model_state['codebook'].step[0]) for s in states] == [
    0,
    1,
    2,
    3,
  ]
  assert float(metrics[0]['nonfinite_tokens']) == 0
  assert float(metrics[0]['nonfinite_codes']) == 0


def test_no_optimizer_sees_the_codebook(trained):
  _, _, states, _ = trained
  assert set(states[0].params) == {'encoder', 'decoder'}


def test_16_evaluation_changes_nothing(trained):
  _, method, states, _ = trained
  state = states[-1]
  evaluate = jax.jit(method.loss, static_argnums=(5, 6))
  key = jax.random.key(0)
  args = state.params, state.model_state, None, key
  value, aux = evaluate(*args, make_batch(5), None, False)
  again, _ = evaluate(*args, make_batch(5), None, False)
  assert float(value) == float(again)
  for a, b in zip(
    jax.tree.leaves(aux.model_state), jax.tree.leaves(state.model_state)
  ):
    np.testing.assert_array_equal(a, b)


def test_15_restored_codec_gives_the_same_indices(trained, tmp_path):
  _, method, states, _ = trained
  checkpointer = checkpoints.Checkpointer(tmp_path)
  checkpointer.save(states[-1], {}, {})
  restored = checkpointer.restore(states[0], 3)
  predict = jax.jit(method.predict)
  found = predict(restored.params, restored.model_state, make_batch(7))
  expected = predict(states[-1].params, states[-1].model_state, make_batch(7))
  np.testing.assert_array_equal(found['indices'], expected['indices'])
  assert len(np.unique(found['indices'])) > 4


def test_predict(trained):
  config, method, states, _ = trained
  params, model_state = states[-1].params, states[-1].model_state
  batch = make_batch(7)
  found = jax.jit(method.predict)(params, model_state, batch)
  assert found['features'].shape == (ROWS, 4)
  assert found['indices'].shape == (ROWS, LENGTH // 8, 1)
  ecg = np.asarray(found['reconstruction'])
  assert ecg.shape == (ROWS, LENGTH, 12)
  assert np.max(leads.limb_residual(np, ecg)) < 1e-5
  codec = make_method(config).codec
  z = codec.encode(params, batch['ecg'])
  np.testing.assert_allclose(found['features'], z.mean(1), atol=1e-6)
  embed = np.float64(model_state['codebook'].embed[0])
  nearest = np.argmin(
    ((np.float64(z)[:, :, None] - embed) ** 2).sum(-1), axis=-1
  )
  np.testing.assert_array_equal(found['indices'][..., 0], nearest)
  decoded = codec.decode(params, jnp.asarray(embed[nearest], jnp.float32))
  independent = ecg[..., leads.indices(leads.INDEPENDENT_LEADS)]
  np.testing.assert_allclose(independent, decoded, atol=1e-5)


def test_loss_equals_numpy(trained):
  config, method, states, _ = trained
  params, model_state = states[-1].params, states[-1].model_state
  batch = make_batch(8)
  value, aux = jax.jit(method.loss, static_argnums=(5, 6))(
    params, model_state, None, jax.random.key(0), batch, None, False
  )
  codec = make_method(config).codec
  z = np.float64(codec.encode(params, batch['ecg']))[:-1]  # without padding
  indices = method.predict(params, model_state, batch)['indices'][:-1]
  codes = np.asarray(codec.lookup(model_state['codebook'], indices))
  y = np.float64(codec.decode(params, codes))
  error = (y - batch['ecg'][:-1]) / 0.2
  reconstruction = np.mean(error**2) + 0.3 * np.mean(np.abs(error))
  commitment = 0.25 * np.mean((z - codes) ** 2)
  metrics = aux.metrics
  assert float(value) == pytest.approx(reconstruction + commitment, rel=1e-4)
  assert float(metrics['loss_commitment']) == pytest.approx(
    commitment, rel=1e-4
  )
  n = np.bincount(np.ravel(indices), minlength=16)
  p = n[n > 0] / n.sum()
  perplexity = np.exp(-np.sum(p * np.log(p)))
  assert float(metrics['batch_perplexity']) == pytest.approx(
    perplexity, rel=1e-4
  )


def test_one_device_equals_four():
  """Loss, gradients (through sgd) and the new state."""
  config = make_config('rvq', stages=2)
  with jax.enable_x64(True):
    _, state, step = create(config)
    widen = lambda x: (
      x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
    )
    state = jax.tree.map(widen, state)
    runs = {
      'one': parallel.data_parallel(step, 'jit', jax.devices()[:1]),
      'pmap': parallel.data_parallel(step, 'pmap'),
      'jit': parallel.data_parallel(step, 'jit'),
    }
    outcome = {}
    for name, run in runs.items():
      new = jax.tree.map(jnp.copy, state)
      for i in range(3):  # start from data, plain step, restart
        new, metrics = run(new, make_batch(i))
      leaves = jax.tree.leaves((new.params, new.model_state, metrics))
      outcome[name] = [np.asarray(x) for x in leaves]
  for name in ('pmap', 'jit'):
    for a, b in zip(outcome['one'], outcome[name]):
      np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-9, err_msg=name)


def test_replicas_never_diverge():
  config = make_config('rvq', stages=2)
  method, state, _ = create(config)
  loss = lambda state, key, batch: (
    method.loss(state.params, state.model_state, None, key, batch, 'batch')[
      1
    ].model_state
  )
  run = jax.pmap(loss, axis_name='batch', in_axes=(None, None, 0))
  split = lambda x: x.reshape((4, -1) + x.shape[1:])
  for i in range(3):
    model_state = run(
      state, jax.random.key(i), jax.tree.map(split, make_batch(i))
    )
    for leaf in jax.tree.leaves(model_state):
      for replica in leaf:
        np.testing.assert_array_equal(replica, leaf[0])
    state = state.replace(model_state=jax.tree.map(lambda x: x[0], model_state))


def test_padding_rows_change_nothing(trained):
  _, method, states, _ = trained
  state = states[1]
  loss = jax.jit(method.loss, static_argnums=5)
  outcomes = []
  for filler in (0.0, 9.0):
    batch = make_batch(3)
    batch['ecg'][-1] = filler
    value, aux = loss(
      state.params, state.model_state, None, jax.random.key(0), batch, None
    )
    outcomes.append(jax.tree.leaves((value, aux.model_state, aux.metrics)))
  for a, b in zip(*outcomes):
    np.testing.assert_array_equal(a, b)


def test_finite_scalar_quantisation():
  config = make_config('fsq')
  method, state, step = create(config)
  state, metrics = jax.jit(step)(state, make_batch())
  assert np.isfinite(float(metrics['loss']))
  assert 'loss_commitment' not in metrics
  assert not jax.tree.leaves(state.model_state)
  codec = make_method(config).codec
  found = method.predict(state.params, state.model_state, make_batch())
  assert 0 <= found['indices'].min() <= found['indices'].max() < 1000
  assert codec.num_codes == 1000 and codec.num_stages == 1
  # Mixing before rounding with weight one gives the parent's codes.
  z = codec.encode(state.params, make_batch()['ecg'])
  z_q, indices, _ = codec.quantise({}, z)
  np.testing.assert_array_equal(indices, found['indices'])
  np.testing.assert_allclose(codec.lookup({}, indices), z_q, atol=1e-6)


def test_stage_dropout():
  draws = jax.vmap(lambda k: vqvae.draw_stages(k, 0.5, 4))(
    jax.random.split(jax.random.key(0), 4000)
  )
  share = np.bincount(np.asarray(draws), minlength=5)[1:] / 4000
  np.testing.assert_allclose(share, [0.125, 0.125, 0.125, 0.625], atol=0.025)


@pytest.mark.parametrize(
  'path,value,words',
  [
    ('data.leads', ('I', 'II'), 'config.data.leads'),
    ('data.normalisation', 'record', 'config.data.normalisation'),
    ('model.name', 'vgg1d', 'codec1d'),
  ],
)
def test_mistakes_are_named(path, value, words):
  config = make_config()
  section, field = path.split('.')
  config[section][field] = value
  with pytest.raises(ValueError, match=words):
    make_method(config)


def test_names_of_leads_are_read_as_written_elsewhere():
  config = make_config()
  names = [name.swapcase() for name in config.data.leads]
  config.data.leads = tuple(names)
  assert make_method(config).codec.num_codes == config.vqvae.size


def test_contradictions_are_named():
  with pytest.raises(ValueError, match='config.model.kwargs.dim'):
    make_method(make_config('fsq', levels=(8, 5)))
  config = make_config()
  config.data.length = 100
  with pytest.raises(ValueError, match='patch'):
    make_method(config).init(jax.random.key(0), {'ecg': jnp.zeros((1, 100, 8))})
