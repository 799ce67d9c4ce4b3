import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from ecgjax.models import lead_encoder, vgg1d
from ecgjax.training import optimizers, schedules


def make_config(**fields):
  options = {
    'name': 'adam', 'learning_rate': 1e-2, 'schedule': 'constant',
    'warmup_steps': 0, 'weight_decay': 0.0, 'freeze': '',
  }  # fmt: skip
  return ml_collections.ConfigDict({'optimizer': options | fields})


PARAMS = {
  'encoder': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)},
  'head': {'kernel': jnp.ones((3, 1)), 'bias': jnp.ones(1)},
}


def update(config, gradient):
  optimizer = optimizers.make_optimizer(config.optimizer, 100)
  gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), PARAMS)
  return optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)[0]


def test_adam_first_update_is_the_learning_rate():
  for leaf in jax.tree.leaves(update(make_config(), 3.0)):
    np.testing.assert_allclose(leaf, -1e-2, rtol=1e-5)


def test_frozen_parameters_stay():
  found = update(make_config(freeze='^encoder/'), 3.0)
  assert not any(x.any() for x in jax.tree.leaves(found['encoder']))
  assert all(x.all() for x in jax.tree.leaves(found['head']))


@pytest.mark.parametrize('pattern, word', [('^encodr', 'no'), ('.', 'every')])
def test_freeze_must_choose(pattern, word):
  with pytest.raises(ValueError, match=f'matches {word} parameter'):
    update(make_config(freeze=pattern), 1.0)


def test_weight_decay_acts_on_kernels_only():
  with_decay = update(make_config(name='adamw', weight_decay=0.1), 1.0)
  without = update(make_config(name='adamw'), 1.0)
  for module in PARAMS:
    kernel = with_decay[module]['kernel'] - without[module]['kernel']
    assert np.abs(kernel).min() > 0
    np.testing.assert_array_equal(
      with_decay[module]['bias'], without[module]['bias']
    )


@pytest.mark.parametrize('name', ['adamw', 'lars'])
def test_weight_decay_of_stacked_encoders_acts_on_kernels_only(name, short_vgg):
  """Where every lead has an encoder, biases and norms have two axes."""
  stacked = lead_encoder.make_lead_encoder(vgg1d.make(), 'untied')
  shapes = jax.eval_shape(
    stacked.init, jax.random.key(0), jnp.zeros((1, 64, 3))
  )['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda p: np.float32(rng.normal(size=p.shape)), shapes)
  ones = jax.tree.map(jnp.ones_like, params)

  def update(weight_decay):
    config = make_config(name=name, weight_decay=weight_decay)
    optimizer = optimizers.make_optimizer(config.optimizer, 100)
    return optimizer.update(ones, optimizer.init(params), params)[0]

  pairs = zip(
    jax.tree.leaves_with_path(update(0.1)),
    jax.tree.leaves(update(0.0)),
    strict=True,
  )
  decayed = {(path[-1].key, not np.array_equal(a, b)) for (path, a), b in pairs}
  assert decayed == {
    ('kernel', True),
    ('bias', False),
    ('scale', False),
    ('shift', False),
  }


@pytest.mark.parametrize('name', ['adam', 'sgd'])
def test_weight_decay_is_refused_where_there_is_none(name):
  with pytest.raises(ValueError, match=f'weight_decay is 0.1 and {name} has'):
    update(make_config(name=name, weight_decay=0.1), 1.0)


def test_warmup_and_cosine():
  rate = schedules.make_learning_rate(2.0, 'cosine', 10, 110)
  expected = {0: 0.0, 5: 1.0, 10: 2.0, 60: 1.0, 110: 0.0}
  for step, value in expected.items():
    assert float(rate(step)) == pytest.approx(value, abs=1e-6)
  with pytest.raises(ValueError, match='warmup_steps is 100'):
    schedules.make_learning_rate(2.0, 'cosine', 100, 100)
