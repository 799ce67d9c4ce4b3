import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import lcd as lcd_config
from configs import supervised as supervised_config
from ecgjax.ecg import leads
from ecgjax.methods import supervised
from ecgjax.model import make_method
from ecgjax.models import lead_encoder, vgg1d

pytestmark = pytest.mark.usefixtures('short_vgg')
STAGES = vgg1d.STAGES  # all of them


def make_config(**options):
  config = supervised_config.get_config('dataset=ptbxl')
  config = config.copy_and_resolve_references()
  config.data.leads = ('II', 'V1')
  config.data.length = 64
  config.supervised.update(options)
  return config


def make_batch(seed=0):
  rng = np.random.default_rng(seed)
  return {
    'ecg': rng.normal(size=(8, 64, 2)).astype(np.float32),
    'label': np.eye(3, dtype=np.float32)[rng.integers(0, 3, 8)],
    'label_mask': np.ones((8, 3), np.float32),
  }


def start(config):
  method = make_method(config)
  variables = jax.jit(method.init)(jax.random.key(0), make_batch())
  return method, variables


def test_tied_classifier_has_the_size_of_the_reference(monkeypatch):
  """80,781 parameters for eight leads and five classes (docs/methods.md)."""
  monkeypatch.setattr(vgg1d, 'STAGES', STAGES)
  config = make_config()
  method = make_method(config)
  batch = {'ecg': jnp.zeros((1, 64, 8)), 'label': jnp.zeros((1, 5))}
  shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes.params)) == 80_781


def test_default_loss_is_that_of_copies_each_of_which_sees_one_lead():
  batch = make_batch()
  batch['ecg'] = batch['ecg'] * np.float32([1, 4]) + np.float32([0, 3])
  method, variables = start(make_config())
  copies = {
    name: lead_encoder.replicate(tree, 'untied', 2)
    for name, tree in (
      ('params', variables.params['encoder']),
      ('state', variables.model_state['encoder']),
    )
  }

  def loss(branches, params, state):
    method = make_method(make_config(branches=branches))
    run = jax.jit(method.loss, static_argnums=5)
    return float(run(params, state, None, jax.random.key(1), batch, None)[0])

  untied = loss(
    'untied',
    variables.params | {'encoder': copies['params']},
    variables.model_state | {'encoder': copies['state']},
  )
  trained = variables.params, variables.model_state
  assert loss(make_config().supervised.branches, *trained) == pytest.approx(
    untied, abs=1e-5
  )
  assert abs(loss('tied_mixed', *trained) - untied) > 1e-3


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'task': 'single_label', 'class_weights': (1.0, 2.0, 3.0)},
    {'mixup': 0.4, 'label_smoothing': 0.1},
    {'pool': 'attention'},
  ],
  ids=['default', 'single', 'mixup', 'attention'],
)
def test_gradients_reach_everything(options):
  method, variables = start(make_config(**options))

  def loss(params):
    return method.loss(
      params, variables.model_state, None, jax.random.key(1), make_batch(), None
    )[0]

  value, gradients = jax.jit(jax.value_and_grad(loss))(variables.params)
  assert np.isfinite(value)
  kernels = [g for g in jax.tree.leaves(gradients) if g.ndim > 1]
  assert all(np.abs(g).max() > 0 for g in kernels)


def test_parity_preset_is_the_fine_tuning_of_the_reference():
  config = supervised_config.get_config('dataset=ptbxl,preset=parity')
  assert config.supervised.task == 'single_label' and config.data.single_label
  assert config.supervised.branches == 'tied'
  assert config.supervised.pool == 'concat'
  assert (config.batch_size, config.num_epochs, config.patience) == (
    128,
    100,
    0,
  )
  assert config.keep_remainder and config.evaluations == config.num_epochs
  assert config.best_metric == 'validation_loss'
  assert config.evaluate_checkpoint == 'best'
  optimizer = config.optimizer
  assert (optimizer.name, optimizer.learning_rate) == ('adam', 1e-4)
  assert (optimizer.schedule, optimizer.weight_decay) == ('constant', 0.0)
  pretrained = lcd_config.get_config('dataset=ptbxl,preset=parity')
  for field in ('rate', 'length', 'leads', 'normalisation'):
    assert config.data[field] == pretrained.data[field]


def test_frozen_encoder_does_not_move():
  method, variables = start(make_config(frozen_encoder=True))

  def loss(params):
    return method.loss(
      params, variables.model_state, None, jax.random.key(1), make_batch(), None
    )

  gradients, aux = jax.jit(jax.grad(loss, has_aux=True))(variables.params)
  assert all(not g.any() for g in jax.tree.leaves(gradients['encoder']))
  assert all(g.any() for g in jax.tree.leaves(gradients['head']))
  same = jax.tree.map(
    np.array_equal, aux.model_state, dict(variables.model_state)
  )
  assert all(jax.tree.leaves(same))


def test_predict():
  for task, total in (('single_label', 1.0), ('multi_label', None)):
    method, variables = start(make_config(task=task))
    found = jax.jit(method.predict)(
      variables.params, variables.model_state, make_batch()
    )
    assert found['features'].shape == (8, 2 * 64)
    probabilities = np.asarray(found['probabilities'])
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    if total:
      np.testing.assert_allclose(probabilities.sum(1), total, rtol=1e-5)


def test_mixup_matches_numpy():
  batch = make_batch()
  key = jax.random.key(3)
  mixed = supervised.mix(
    key, batch['ecg'], batch['label'], batch['label_mask'], 0.4, None
  )
  ecg, label, _ = map(np.asarray, mixed)
  other = np.roll(batch['ecg'], -4, axis=0)
  weights = (ecg - other)[:, 0, 0] / (batch['ecg'] - other)[:, 0, 0]
  assert weights.min() > -1e-4 and weights.max() < 1 + 1e-4
  for row, w in enumerate(weights):
    expected = w * batch['ecg'][row] + (1 - w) * other[row]
    np.testing.assert_allclose(ecg[row], expected, atol=1e-4)
    expected = w * batch['label'][row] + (1 - w) * batch['label'][row - 4]
    np.testing.assert_allclose(label[row], expected, atol=1e-4)
  split = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
  mapped = jax.pmap(
    lambda b: supervised.mix(
      key, b['ecg'], b['label'], b['label_mask'], 0.4, 'batch'
    ),
    'batch',
  )(split)
  np.testing.assert_allclose(mapped[0].reshape(8, 64, 2), ecg, atol=1e-6)


@pytest.mark.slow
def test_classical_augmentation_does_not_depend_on_devices():
  config = make_config(augment='classical', pool='mean')
  config.data.leads = leads.INDEPENDENT_LEADS
  kwargs = {'width': 8, 'depth': 1, 'heads': 2, 'patch': 16}
  config.model = {'name': 'vit1d', 'kwargs': kwargs}  # compiles fast
  method = make_method(config)
  batch = make_batch()
  batch['ecg'] = np.random.default_rng(1).normal(size=(8, 64, 8))
  batch['ecg'] = batch['ecg'].astype(np.float32)
  variables = jax.jit(method.init)(jax.random.key(0), batch)

  def loss(key, batch, axis_name=None):
    return method.loss(
      variables.params, variables.model_state, None, key, batch, axis_name
    )[0]

  one = jax.jit(loss)
  value = float(one(jax.random.key(1), batch))
  split = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
  mapped = jax.pmap(lambda b: loss(jax.random.key(1), b, 'batch'), 'batch')(
    split
  )
  np.testing.assert_allclose(mapped, value, rtol=1e-5)
  assert float(one(jax.random.key(2), batch)) != value


def test_balanced_weights():
  label = np.zeros((10, 3), np.float32)
  label[:2, 0] = 1
  label[:5, 1] = 1
  mask = np.ones_like(label)
  mask[8:, 1] = 0
  weights = supervised.balanced_weights(label, mask, 'multi_label')
  # 8 / 2, 3 / 5, nothing to weigh
  np.testing.assert_allclose(weights, (4.0, 0.6, 1.0), rtol=1e-6)
  single = np.repeat(np.eye(3), (6, 3, 1), axis=0)
  weights = supervised.balanced_weights(single, mask * 0 + 1, 'single_label')
  np.testing.assert_allclose(weights, (10 / 18, 10 / 9, 10 / 3))


def test_balanced_classes_get_their_weights_from_the_data():
  columns = {
    'label': np.float32([[1, 0], [0, 1], [0, 1], [0, 0]]),
    'label_mask': np.ones((4, 2), np.float32),
  }
  assert supervised.from_data(make_config().supervised, columns) == {}
  options = make_config(balance_classes=True).supervised
  found = supervised.from_data(options, columns)
  assert found == {'class_weights': (3.0, 1.0)}
  options.class_weights = (1.0, 1.0)
  with pytest.raises(ValueError, match='balance_classes, not both'):
    supervised.from_data(options, columns)
