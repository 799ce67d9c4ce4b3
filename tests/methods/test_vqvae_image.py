"""The codec of pages: what differs from that of signals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import raster_twin
from configs import prior as prior_config
from configs import vqvae as vqvae_config
from ecgjax import config as config_lib
from ecgjax import model
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.generation import inputs
from ecgjax.model import make_method
from ecgjax.runtime import parallel
from ecgjax.training import optimizers, train_state, train_step

ROWS, LENGTH = 8, 128  # 32 pixel columns at 1 px/mm
PAGE = (120, 32)


def make_config(preset='default', **image):
  config = vqvae_config.get_config(f'modality=image,preset={preset}')
  config = config.copy_and_resolve_references().unlock()
  config.data.length = LENGTH
  config.batch_size = ROWS
  config.num_steps = 100
  config.optimizer.name = 'sgd'
  config.optimizer.warmup_steps = 0
  config.image.update({'resolution': 1, **image})
  config.model.kwargs.update(width=8, depth=1, patch=(25, 10))  # with margins
  config.vqvae.update({'size': 16, 'pool': 64, 'stages': 2})
  if preset == 'default':
    config.model.kwargs.dim = 4
  return config


def make_batch(seed=0):
  """Random walks; the last row is padding in `mask`."""
  rng = np.random.default_rng(seed)
  ecg = 0.05 * rng.normal(size=(ROWS, LENGTH, 8)).cumsum(axis=1)
  mask = np.ones(ROWS, np.float32)
  mask[-1] = 0
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
  config = make_config()
  method, state, step = create(config)
  step = jax.jit(step)
  for i in range(2):
    state, _ = step(state, make_batch(i))
  return config, method, state


def pages(batch):
  """[B, H, W] grey, by the NumPy twin."""
  ecg = leads.from_independent(np, batch['ecg'])
  return np.stack([raster_twin.page(one, 1, LENGTH / 100) for one in ecg])


def test_loss_equals_numpy(trained):
  config, method, state = trained
  params, model_state = state.params, state.model_state
  batch = make_batch(8)
  value, aux = jax.jit(method.loss, static_argnums=(5, 6))(
    params, model_state, None, jax.random.key(0), batch, None, False
  )
  codec = make_method(config).codec
  ink = np.float32(1 - pages(batch)[:-1] / 255)  # without padding
  z = np.float64(codec.encode(params, ink))
  assert z.shape == (ROWS - 1, 5 * 4, 4)
  _, indices, _ = codec.quantise(model_state['codebook'], jnp.asarray(z))
  codes = np.asarray(codec.lookup(model_state['codebook'], indices))
  p = 1 / (1 + np.exp(-np.float64(codec.decode(params, codes))))
  entropy = -np.mean(ink * np.log(p) + (1 - ink) * np.log(1 - p))
  reconstruction = float(aux.metrics['loss_reconstruction'])
  assert reconstruction == pytest.approx(entropy / 0.05, rel=2e-3)
  commitment = float(aux.metrics['loss_commitment'])
  assert float(value) == pytest.approx(reconstruction + commitment, rel=1e-5)
  first = np.asarray(model_state['codebook'].embed[0])[indices[..., 0]]
  two_stages = np.mean((z - first) ** 2) + np.mean((z - codes) ** 2)
  assert commitment == pytest.approx(0.25 * two_stages, rel=0.02)


def test_predict_gives_grey_pages(trained):
  config, method, state = trained
  batch = make_batch(7)
  found = jax.jit(method.predict)(state.params, state.model_state, batch)
  assert found['reconstruction'].shape == (ROWS, *PAGE)
  assert found['reconstruction'].dtype == jnp.uint8
  assert found['indices'].shape == (ROWS, 20, 2)
  assert found['features'].shape == (ROWS, 4)
  codec = make_method(config).codec
  codes = codec.lookup(state.model_state['codebook'], found['indices'])
  p = jax.nn.sigmoid(codec.decode(state.params, codes))
  np.testing.assert_allclose(
    found['reconstruction'], 255 * (1 - p), atol=0.5 + 1e-3
  )


@pytest.mark.slow
def test_one_device_equals_four():
  """Loss, gradients (through sgd) and the new state."""
  config = make_config()
  config.vqvae.stages = 1
  config.model.kwargs.depth = 0  # what mixes patches knows no batch
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
      for i in range(2):  # start from data, plain step
        new, metrics = run(new, make_batch(i))
      leaves = jax.tree.leaves((new.params, new.model_state, metrics))
      outcome[name] = [np.asarray(x) for x in leaves]
  for name in ('pmap', 'jit'):
    for a, b in zip(outcome['one'], outcome[name]):
      np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-9, err_msg=name)


def test_finite_scalar_quantisation():
  config = make_config('fsq')
  method, state, step = create(config)
  state, metrics = jax.jit(step)(state, make_batch())
  assert np.isfinite(float(metrics['loss']))
  assert not jax.tree.leaves(state.model_state)


def test_a_page_survives_in_its_config():
  """A checkpoint holds the config as JSON; the codec is made from that."""

  def shape(config):
    paper, data = make_method(config).codec.paper, config.data
    return paper.height, paper.width(data.length, data.rate)

  config = config_lib.from_json(config_lib.to_json(make_config()))
  assert shape(config) == PAGE
  assert shape(make_config(layout='12x1')) == (208, 32)


@pytest.mark.parametrize(
  'image,words',
  [
    ({'layout': '4x3'}, 'layout'),
    ({'resolution': 3}, 'samples per column'),
  ],
)
def test_mistakes_are_named(image, words):
  with pytest.raises(ValueError, match=words):
    make_method(make_config(**image))


def test_presets_without_meaning_are_refused():
  with pytest.raises(ValueError, match='preset.*default, fsq, smoke'):
    vqvae_config.get_config('modality=image,preset=rvq')
  with pytest.raises(ValueError, match='modality.*signal, image'):
    vqvae_config.get_config('modality=video')
  config = vqvae_config.get_config('modality=image')
  with pytest.raises(AttributeError):  # what belongs to signals alone
    config.vqvae.l1 = 0.5


class Pages:
  """A run of a codec of pages."""

  config = make_config()
  method = make_method(config)


def test_prior_refuses_pages(monkeypatch):
  monkeypatch.setattr(model, 'load', lambda path: Pages)
  config = prior_config.get_config().unlock()
  config.prior.codec = 'runs/pages'
  with pytest.raises(ValueError, match='runs/pages codes pages'):
    make_method(config)


def test_generation_refuses_pages(monkeypatch):
  monkeypatch.setattr(inputs, 'load', lambda path: Pages)
  config = config_lib.common('synthetic')
  config.augment = config_lib.options('augment') | {'codec': 'runs/pages'}
  with pytest.raises(ValueError, match='runs/pages codes pages'):
    inputs.restore_models(config.augment, None, None)
