"""The prior: what it may see, how it samples, that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import prior as prior_config
from configs import vqvae as vqvae_config
from ecgjax import checkpoints
from ecgjax import config as config_lib
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.methods import prior as prior_method
from ecgjax.model import make_method
from ecgjax.models import sampling, transformer
from ecgjax.runtime import parallel
from ecgjax.training import optimizers, train_state, train_step

K, Q, N = 8, 2, 10


@pytest.fixture(scope='module')
def network():
  """A small transformer: (apply(label, hidden, tokens), model, params)."""
  model = transformer.CausalTransformer(K, Q, width=16, depth=2, heads=2)
  label, hidden = jnp.eye(3)[:2], jnp.zeros(2, bool)
  tokens = jnp.zeros((2, N), jnp.int32)
  cache = model.make_cache(2, N)
  init = lambda key: model.init(key, label, hidden, tokens, cache)['params']
  params = jax.jit(init)(jax.random.key(0))
  # The codes start small and the head at zero; differences shall be visible.
  params['codes'] = 50 * params['codes']
  head = np.random.default_rng(0).normal(size=(16, Q * K))
  params['head']['kernel'] = head.astype(np.float32)

  @jax.jit
  def apply(label, hidden, tokens):
    return model.apply({'params': params}, label, hidden, tokens, cache)[0]

  return apply, model, params


def random_tokens(seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, K, (2, N)).astype(np.int32)


def test_no_index_sees_the_future(network):
  apply, _, _ = network
  label, hidden, tokens = jnp.eye(3)[:2], jnp.zeros(2, bool), random_tokens()
  before = apply(label, hidden, tokens)
  changed = tokens.copy()
  changed[:, 6] = (changed[:, 6] + 1) % K
  difference = np.abs(apply(label, hidden, changed) - before).max(axis=(0, 2))
  np.testing.assert_allclose(difference[:6], 0, atol=1e-6)
  assert difference[6:].min() > 1e-4


def test_classes_reach_every_index_unless_hidden(network):
  apply, _, _ = network
  tokens, one, two = random_tokens(), jnp.eye(3)[:2], jnp.eye(3)[1:]
  shown, hidden = jnp.zeros(2, bool), jnp.ones(2, bool)
  difference = np.abs(apply(one, shown, tokens) - apply(two, shown, tokens))
  assert difference.max(axis=(0, 2)).min() > 1e-4
  np.testing.assert_array_equal(
    apply(one, hidden, tokens), apply(two, hidden, tokens)
  )
  other = tokens.copy()
  other[:, 0] += 1  # position 0 is the class, its value is ignored
  np.testing.assert_array_equal(
    apply(one, shown, tokens), apply(one, shown, other % K)
  )


def test_one_at_a_time_equals_all_at_once(network):
  apply, model, params = network
  label, hidden, tokens = jnp.eye(3)[:2], jnp.zeros(2, bool), random_tokens()
  whole = apply(label, hidden, tokens)
  read = jax.jit(model.apply)
  cache = model.make_cache(2, N)
  for i in range(N):
    logits, _, cache = read(
      {'params': params}, label, hidden, tokens[:, i : i + 1], cache, i
    )
    np.testing.assert_allclose(logits[:, 0], whole[:, i], atol=1e-5)


def test_rotary_positions_are_complex_rotations():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 5, 2, 6)).astype(np.float32)
  position = np.array([0, 3, 4, 7, 30])
  found = np.asarray(transformer.rotate(x, jnp.asarray(position)))
  number = x[..., :3] + 1j * x[..., 3:]
  angle = position[:, None] * 10_000.0 ** (-np.arange(3) / 3)
  expected = number * np.exp(1j * angle)[:, None]
  np.testing.assert_allclose(found[..., :3], expected.real, atol=1e-5)
  np.testing.assert_allclose(found[..., 3:], expected.imag, atol=1e-5)


def test_filters():
  logits = jnp.array([[1.0, 3.0, 2.0, 0.0]])
  np.testing.assert_array_equal(
    sampling.keep_top(logits, 2), [[-np.inf, 3, 2, -np.inf]]
  )
  np.testing.assert_array_equal(sampling.keep_top(logits, 0), logits)
  other = jnp.array([[0.0, 1.0, 0.0, 2.0]])
  np.testing.assert_allclose(
    sampling.guided(logits, other, 2.0), 2 * logits - other
  )
  np.testing.assert_array_equal(sampling.guided(logits, other, 1.0), logits)


TABLE = np.random.default_rng(3).normal(size=(2, 2, K)).astype(np.float32)


def read_table(tokens, position, cache, unconditional):
  """Logits that depend on the parity of the token and on the pass."""
  logits = jnp.asarray(TABLE)[int(unconditional)][tokens % 2]
  return logits, cache + 1


@functools.cache
def sampler(batch, **options):
  caches = jnp.zeros(batch), jnp.zeros(batch)
  return jax.jit(
    lambda key, given, keep: sampling.sample(
      key, read_table, caches, 6, given=given, keep=keep, **options
    )
  )


def draw(batch, seed=0, given=None, keep=None, **options):
  given = np.zeros((batch, 6), np.int32) if given is None else given
  keep = np.zeros((batch, 6), bool) if keep is None else keep
  return np.asarray(
    sampler(batch, **options)(jax.random.key(seed), given, keep)
  )


def softmax(x):
  return np.exp(x) / np.exp(x).sum()


def test_samples_follow_the_logits():
  options = {'temperature': 0.7, 'guidance': 1.5, 'top_k': 5}
  drawn = draw(4000, **options)
  assert drawn.shape == (4000, 6) and drawn.dtype == np.int32
  for parity in (0, 1):  # the second index, given the first one's parity
    shown, hidden = np.float64(TABLE[:, parity])
    logits = hidden + 1.5 * (shown - hidden)
    logits[np.argsort(logits)[: K - 5]] = -np.inf
    expected = softmax(logits / 0.7)
    rows = drawn[drawn[:, 0] % 2 == parity, 1]
    share = np.bincount(rows, minlength=K) / len(rows)
    deviation = np.sqrt(expected * (1 - expected) / len(rows))
    assert (np.abs(share - expected) <= 4 * deviation).all()


def test_greedy_and_kept_indices():
  greedy = draw(2, temperature=0.0)
  token, expected = 0, []
  for _ in range(6):
    token = int(np.argmax(TABLE[0, token % 2]))
    expected.append(token)
  np.testing.assert_array_equal(greedy, [expected, expected])
  rng = np.random.default_rng(0)
  given = rng.integers(0, K, (4000, 6)).astype(np.int32)
  keep = rng.random((4000, 6)) < 0.6
  options = {'temperature': 0.7, 'guidance': 1.5, 'top_k': 5}
  drawn = draw(4000, given=given, keep=keep, **options)
  np.testing.assert_array_equal(drawn[keep], given[keep])
  assert np.mean(drawn[~keep] == given[~keep]) < 0.5


def test_a_row_does_not_depend_on_the_others():
  few, many = draw(3, temperature=1.0), draw(7, temperature=1.0)
  np.testing.assert_array_equal(few, many[:3])
  assert len(np.unique(many, axis=0)) > 4
  again = draw(7, seed=1, temperature=1.0)
  assert not np.array_equal(again, many)


# --- With a codec ------------------------------------------------------------


def two_kinds(rows=8, seed=0):
  """ECGs of two classes: slow and fast sines in all leads, random phase."""
  rng = np.random.default_rng(seed)
  kind = np.arange(rows) % 2
  time = np.arange(64) / 100
  phase = rng.integers(0, 2, rows)[:, None]  # half a period
  wave = np.sin(2 * np.pi * ((3 + 6 * kind[:, None]) * time + phase / 2))
  ecg = np.repeat(wave[:, :, None], 8, axis=2)
  return {
    'ecg': ecg.astype(np.float32),
    'label': np.eye(2, dtype=np.float32)[kind],
    'mask': np.ones(rows, np.float32),
  }


def small(config):
  config = config.copy_and_resolve_references().unlock()
  config.data.length = 64
  config.batch_size = 8
  config.num_steps = 200
  config.optimizer.warmup_steps = 0
  return config


@pytest.fixture(scope='module')
def codec_run(tmp_path_factory):
  """Work folder of a codec: random networks, codes placed where tokens are."""
  folder = tmp_path_factory.mktemp('codec')
  config = small(vqvae_config.get_config())
  config.model.kwargs.update(width=8, depth=1, dim=4)
  config.vqvae.update(size=16, pool=64)
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, config.num_steps)
  create = lambda: train_state.create_train_state(
    method, optimizer, 0, two_kinds(1)
  )
  state = jax.jit(create)()
  codec = make_method(config).codec
  z = np.asarray(jax.jit(codec.encode)(state.params, two_kinds()['ecg']))
  codes = np.random.default_rng(0).permutation(
    np.unique(z.reshape(-1, 4), axis=0)
  )
  book = state.model_state['codebook'].replace(embed=codes[None, :16])
  state = state.replace(model_state={'codebook': book})
  contract = InputContract.from_config(config)
  metadata = {
    'config': config_lib.to_json(config), 'contract': contract.to_json()
  }  # fmt: skip
  checkpoints.Checkpointer(folder / 'checkpoints').save(state, metadata, {})
  return folder, state


def make_config(codec_run):
  config = small(prior_config.get_config())
  config.prior.update(codec=str(codec_run[0]), width=16, depth=1, heads=2)
  config.optimizer.learning_rate = 1e-2
  return config


@pytest.fixture(scope='module')
def trained(codec_run):
  config = make_config(codec_run)
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, config.num_steps)
  create = lambda: train_state.create_train_state(
    method, optimizer, 0, two_kinds(1)
  )
  initial = jax.jit(create)()
  step = train_step.make_train_step(
    method, optimizer, InputContract.from_config(config)
  )
  run, state, bits = jax.jit(step), initial, []
  for i in range(120):
    state, metrics = run(state, two_kinds(seed=i))
    bits.append(float(metrics['bits_per_index']))
  return config, method, (step, run), initial, state, bits


def codec_indices(codec, frozen, ecg):
  """[B, L, C] -> [B, T] as the codec itself gives them."""

  @jax.jit
  def run(frozen, ecg):
    z = codec.encode(frozen['codec'], ecg)
    return codec.quantise(frozen['codebook'], z)[1][..., 0]

  return np.asarray(run(frozen, ecg))


def test_the_codec_stays_as_it_is(codec_run, trained):
  frozen, state = codec_run[1], trained[4]
  pairs = [
    (frozen.params, state.model_state['codec']),
    (frozen.model_state['codebook'], state.model_state['codebook']),
  ]
  for a, b in pairs:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
      np.testing.assert_array_equal(x, y)
  assert set(state.params) == {'prior'}


def test_bits_equal_numpy(trained):
  config, method, _, initial, state, _ = trained
  batch = two_kinds(seed=500)
  found = jax.jit(method.predict)(state.params, state.model_state, batch)
  codec, frozen = method.codec, initial.model_state
  indices = codec_indices(codec, frozen, batch['ecg'])
  model = prior_method.make_network(config.prior.to_dict(), codec)
  tokens = np.pad(indices[:, :-1], ((0, 0), (1, 0)))
  logits, _, _ = jax.jit(model.apply)(
    {'params': state.params['prior']}, batch['label'], jnp.zeros(8, bool),
    tokens, model.make_cache(8, 8),
  )  # fmt: skip
  expected = [
    np.mean([-np.log2(softmax(row)[k]) for row, k in zip(rows, ks)])
    for rows, ks in zip(np.float64(logits), indices)
  ]
  np.testing.assert_allclose(found['bits_per_index'], expected, rtol=1e-4)
  value, aux = jax.jit(method.loss, static_argnums=(5, 6))(
    state.params, state.model_state, None, jax.random.key(0), batch, None, False
  )
  assert float(value) == pytest.approx(np.mean(expected) * np.log(2), rel=1e-4)
  assert float(aux.metrics['bits_per_index']) == pytest.approx(
    np.mean(expected), rel=1e-4
  )
  assert found['features'].shape == (8, 16)


def test_it_learns_which_codes_belong_to_which_class(codec_run, trained):
  config, method, _, initial, state, bits = trained
  assert bits[0] == pytest.approx(4, abs=1e-4)  # log2 of 16 codes
  # A record holds one bit, its phase, in eight indices.
  assert np.mean(bits[-5:]) < 0.6
  sample = jax.jit(
    prior_method.make_sampler(config.prior.to_dict(), method.codec),
    static_argnames=('tokens', 'guidance'),
  )
  label = jnp.eye(2)[jnp.arange(32) % 2]
  ecg, indices = sample(
    jax.random.key(0), state.params, state.model_state, label, tokens=8,
    guidance=1.5,
  )  # fmt: skip
  assert ecg.shape == (32, 64, 12) and indices.shape == (32, 8, 1)
  assert np.max(leads.limb_residual(np, np.asarray(ecg))) < 1e-5
  real = codec_indices(method.codec, initial.model_state, two_kinds(64)['ecg'])
  for kind in (0, 1):
    known = {tuple(row) for row in real[kind::2]}
    other = {tuple(row) for row in real[1 - kind :: 2]}
    drawn = [tuple(row) for row in np.asarray(indices)[kind::2, :, 0]]
    assert np.mean([row in known for row in drawn]) > 0.6
    assert not any(row in other - known for row in drawn)


def test_one_device_equals_four(trained):
  step, one = trained[2]
  four = parallel.data_parallel(step, 'pmap')
  outcome = [
    jax.device_get(run(jax.tree.map(jnp.copy, trained[3]), two_kinds()))
    for run in (one, four)
  ]
  for a, b in zip(*map(jax.tree.leaves, outcome)):
    if a.dtype == np.float32:
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_mistakes_are_named(codec_run):
  config = make_config(codec_run)
  config.prior.codec = ''
  with pytest.raises(ValueError, match='config.prior.codec'):
    make_method(config)
  config = make_config(codec_run)
  config.data.rate = 250.0
  with pytest.raises(ValueError, match='rate=250'):
    make_method(config)
