"""Pretraining and fine-tuning against PyTorch (extra: bench).

The PyTorch side is written from the equations of LCD alone: functions of named
tensors, one lead after the other, autograd, `torch.optim.Adam`. It shares no
formula with the package, only the start values and the augmented views.
"""

import jax
import numpy as np
import optax
import pytest

from configs import lcd as lcd_config
from configs import supervised as supervised_config
from ecgjax.ecg import augment
from ecgjax.ecg.contract import InputContract
from ecgjax.methods import lcd
from ecgjax.methods import method as method_lib
from ecgjax.model import make_method
from ecgjax.training import optimizers, train_state, train_step

torch = pytest.importorskip('torch', reason='torch')
F = torch.nn.functional

pytestmark = pytest.mark.slow
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of a stage, before its max-pool
BATCH, SIZES = 10, (10, 10, 10, 6)  # the last batch of the epoch is smaller
LENGTH = 96
ACCURACY = {  # type -> loss at first and later, gradients
  'float64': (1e-8, 1e-8, 1e-5),
  'float32': (1e-5, 2e-3, None),
}


# What the reference computes.


def batch_norm(x, scale, shift, running, layer):
  """[n, C] or [n, C, T] by its own moments; moves the running ones."""
  axes = (0, 2) if x.dim() == 3 else (0,)
  mean, var = x.mean(axes), x.var(axes, unbiased=False)
  if running is not None:
    for name, new in (('mean', mean), ('var', var)):
      old = running[f'{layer}/{name}']
      running[f'{layer}/{name}'] = 0.9 * old + 0.1 * new.detach()
  column = (-1, 1) if x.dim() == 3 else (-1,)
  x = (x - mean.reshape(column)) / torch.sqrt(var + 1e-5).reshape(column)
  return x * scale.reshape(column) + shift.reshape(column)


def encode(w, x, running=None):
  """[n, T] -> [n, 64]."""
  x, layer = x[:, None], 0
  for depth in DEPTHS:
    for _ in range(depth):
      name = f'encoder/ConvNorm_{layer}'
      kernel = w[f'{name}/kernel'].permute(2, 1, 0)
      x = F.conv1d(x, kernel, w[f'{name}/bias'], padding=1)
      x = batch_norm(x, w[f'{name}/scale'], w[f'{name}/shift'], running, name)
      x, layer = F.relu(x), layer + 1
    x = F.max_pool1d(x, 2)
  return x.mean(2)


def linear(w, name, x):
  return x @ w[f'{name}/kernel'] + w[f'{name}/bias']


def two_layers(w, name, x, running=None):
  x, norm = linear(w, f'{name}/Linear_0', x), f'{name}/BatchNorm_0'
  x = batch_norm(x, w[f'{norm}/scale'], w[f'{norm}/bias'], running, norm)
  return linear(w, f'{name}/Linear_1', F.relu(x))


def pretraining_loss(w, target, running, v1, v2, v3):
  """Views [n, T] of leads a, b and a."""
  h1 = two_layers(w, 'projector', encode(w, v1, running), running)
  h2 = two_layers(w, 'projector', encode(w, v2, running), running)
  q1 = two_layers(w, 'predictor', h1, running)
  q2 = two_layers(w, 'predictor', h2, running)
  with torch.no_grad():
    z3 = two_layers(target, 'projector', encode(target, v3))
  d = lambda q: (F.normalize(q, dim=1) - F.normalize(z3, dim=1)).pow(2).sum(1)
  h = torch.cat([h1, h2], 1)
  h = (h - h.mean(0)) / torch.sqrt(h.var(0, unbiased=False) + 1e-5)
  c = h.T @ h / BATCH  # also where fewer rows are left
  identity = torch.eye(len(c), dtype=c.dtype)
  weight = identity + 0.0051 * (1 - identity)
  covariance = (weight * (c - identity) ** 2).sum()
  return d(q1).mean() + d(q2).mean() + 0.005 * covariance


def classification_loss(w, running, ecg, label):
  """[n, T, 8] and class numbers [n]: one lead after the other."""
  features = [encode(w, ecg[:, :, k], running) for k in range(ecg.shape[2])]
  logits = linear(w, 'head/Linear_0', torch.cat(features, 1))
  return F.cross_entropy(logits, label)


# What the package computes.


def flatten(tree):
  names = lambda path: '/'.join(part.key for part in path)
  return {names(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(tree)}


def make_run(config, batches, dtype):
  """Start state, and the (loss, gradients, state) of every step."""
  keep = optax.GradientTransformation(  # the gradients, as a state
    lambda params: params, lambda updates, state, params: (updates, updates)
  )
  optimizer = optax.chain(keep, optimizers.make_optimizer(config.optimizer, 4))
  method = make_method(config)
  step = jax.jit(
    train_step.make_train_step(
      method, optimizer, InputContract.from_config(config)
    )
  )
  create = train_state.create_train_state
  state = jax.jit(lambda: create(method, optimizer, 0, batches[0]))()
  widen = lambda x: x.astype(dtype) if x.dtype == np.float32 else x
  state = start = jax.tree.map(widen, state)
  steps = []
  for batch in batches:
    state, metrics = step(state, batch)
    steps.append((float(metrics['loss']), flatten(state.opt_state[0]), state))
  return start, steps


def tensors(tree, learn=False):
  return {
    name: torch.tensor(x).requires_grad_(learn)
    for name, x in flatten(tree).items()
  }


def running_statistics(model_state):
  return {
    name.replace('/batch_stats', ''): x
    for name, x in tensors(model_state).items()
  }


def check(step, loss, w, got, accuracy):
  """Loss and gradients of one step; a bias before a BatchNorm has none."""
  expected = loss.item()
  assert got[0] == pytest.approx(expected, abs=accuracy[min(step, 1)]), step
  if accuracy[2] is None:
    return
  largest = max(x.grad.abs().max() for x in w.values())
  for name, x in w.items():
    gradient, expected = got[1][name], x.grad.numpy()
    before_norm = 'ConvNorm' in name or '/Linear_0/' in name
    # What the predictor's first BatchNorm and the correlations take away.
    before_norm |= name == 'projector/Linear_1/bias'
    if before_norm and name.endswith('/bias') and not name.startswith('head'):
      assert np.abs(expected).max() < 1e-10 * largest, name
      assert np.abs(gradient).max() < 1e-10 * largest, name
      continue
    error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    assert error < accuracy[2], (step, name, error)


def check_running(running, model_state, accuracy):
  for name, x in running_statistics(model_state).items():
    np.testing.assert_allclose(
      x, running[name], rtol=10 * accuracy[1], atol=accuracy[1], err_msg=name
    )


def make_ecg(rng, rows, leads, dtype):
  """Smooth noise, mV; a lead of its own offset and size each."""
  ecg = rng.normal(size=(rows, LENGTH, leads)).cumsum(axis=1)
  ecg = ecg / LENGTH**0.5 + rng.normal(size=leads)
  return (ecg * rng.uniform(0.5, 2, size=leads)).astype(dtype)


def make_views(config, state, ecg):
  """The three augmented views [n, T] of a step, and nothing else of LCD."""
  key = jax.random.fold_in(state.rng, state.step)
  pair_key, *keys = jax.random.split(key, 4)
  pair = lcd.draw_lead_pair(pair_key, ecg.shape[2])
  crop = augment.make_random_resized_crop(LENGTH, exclusive_start=True)

  def view(key, lead):
    crop_key, span_key = jax.random.split(key)
    cropped = crop(crop_key, lead[:, None])
    return augment.time_out(span_key, cropped, exclusive_start=True)[:, 0]

  views = [
    jax.jit(jax.vmap(view))(
      method_lib.row_keys(key, len(ecg), None), ecg[:, :, int(pair[which])]
    )
    for key, which in zip(keys, (0, 1, 0))
  ]
  return [torch.tensor(np.asarray(v)) for v in views]


@pytest.mark.parametrize('dtype', ACCURACY)
def test_pretraining_is_the_reference(dtype):
  config = lcd_config.get_config('dataset=ptbxl,preset=parity').unlock()
  assert (config.batch_size, config.num_epochs) == (256, 100)
  config.batch_size, config.data.length = BATCH, LENGTH
  config.data.normalisation = 'none'
  config.num_steps = len(SIZES)
  rng = np.random.default_rng(0)
  batches = [{'ecg': make_ecg(rng, n, 8, dtype)} for n in SIZES]
  with jax.enable_x64(dtype == 'float64'):
    start, steps = make_run(config, batches, dtype)
    states = [start, *(state for *_, state in steps)]
    views = [
      make_views(config, state, batch['ecg'])
      for state, batch in zip(states, batches)
    ]
  w = tensors(start.params, learn=True)
  target = tensors(start.target['params'])
  running = running_statistics(start.model_state)
  adam = torch.optim.Adam(w.values(), 1e-3)
  for step, got in enumerate(steps):
    adam.zero_grad()
    loss = pretraining_loss(w, target, running, *views[step])
    loss.backward()
    check(step, loss, w, got, ACCURACY[dtype])
    adam.step()
    with torch.no_grad():
      target = {k: 0.996 * x + 0.004 * w[k] for k, x in target.items()}
  if dtype == 'float64':
    check_running(running, states[-1].model_state, ACCURACY[dtype])
    for name, x in tensors(states[-1].target['params']).items():
      np.testing.assert_allclose(x, target[name].detach(), atol=1e-8)


@pytest.mark.parametrize('dtype', ACCURACY)
def test_parity_preset_fine_tunes_as_the_reference(dtype):
  config = supervised_config.get_config('dataset=ptbxl,preset=parity').unlock()
  assert (config.batch_size, config.num_epochs) == (128, 100)
  config.data.length = LENGTH
  config.data.normalisation = 'none'
  rng = np.random.default_rng(1)
  labels = [rng.integers(0, 5, size=n) for n in SIZES]
  batches = [
    {
      'ecg': make_ecg(rng, n, 8, dtype),
      'label': np.eye(5, dtype=dtype)[label],
      'label_mask': np.ones((n, 5), dtype),
    }
    for n, label in zip(SIZES, labels)
  ]
  with jax.enable_x64(dtype == 'float64'):
    start, steps = make_run(config, batches, dtype)
  w = tensors(start.params, learn=True)
  running = running_statistics(start.model_state)
  adam = torch.optim.Adam(w.values(), 1e-4)
  for step, got in enumerate(steps):
    adam.zero_grad()
    ecg = torch.tensor(batches[step]['ecg'])
    loss = classification_loss(w, running, ecg, torch.tensor(labels[step]))
    loss.backward()
    check(step, loss, w, got, ACCURACY[dtype])
    adam.step()
  if dtype == 'float64':
    check_running(running, steps[-1][2].model_state, ACCURACY[dtype])
