import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import heads, lead_encoder, vgg1d

pytestmark = pytest.mark.usefixtures('short_vgg')


def init(module, ecg):
  return jax.jit(module.init)(jax.random.key(0), ecg)


def apply(module, variables, ecg, train):
  return jax.jit(module.apply, static_argnums=2)(variables, ecg, train)


@pytest.fixture(scope='module')
def ecg():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(4, 64, 3)), jnp.float32)


def test_tied_is_the_encoder_on_every_lead(ecg):
  encoder = vgg1d.make()
  wrapped = lead_encoder.make_lead_encoder(encoder, 'tied')
  variables = init(wrapped, ecg)
  features, _ = apply(wrapped, variables, ecg, False)
  assert features.shape == (4, 3, 64)
  for lead in range(3):
    h = apply(encoder, variables, ecg[:, :, lead : lead + 1], False)
    np.testing.assert_allclose(
      features[:, lead], heads.global_average(h), atol=1e-6
    )


def test_untied_has_weights_of_its_own(ecg):
  wrapped = lead_encoder.make_lead_encoder(vgg1d.make(), 'untied')
  variables = init(wrapped, ecg)
  same = jnp.repeat(ecg[:, :, :1], 3, axis=2)
  features, state = apply(wrapped, variables, same, True)
  assert features.shape == (4, 3, 64)
  assert np.abs(features[:, 0] - features[:, 1]).max() > 1e-3
  assert jax.tree.leaves(state)[0].shape[0] == 3


def test_replicated_encoder_gives_tied_features(ecg):
  tied = lead_encoder.make_lead_encoder(vgg1d.make(), 'tied')
  untied = lead_encoder.make_lead_encoder(vgg1d.make(), 'untied')
  variables = init(tied, ecg)
  copies = lead_encoder.replicate(variables, 'untied', 3)
  np.testing.assert_allclose(
    apply(untied, copies, ecg, False)[0],
    apply(tied, variables, ecg, False)[0],
    atol=1e-6,
  )


def test_tied_moments_are_those_of_one_lead_after_the_other(ecg):
  """As copies that each see one lead; the running ones move in order."""
  encoder = vgg1d.make()
  tied = lead_encoder.make_lead_encoder(encoder, 'tied')
  untied = lead_encoder.make_lead_encoder(encoder, 'untied')
  ecg = ecg * jnp.array([1.0, 3.0, 0.2]) + jnp.array([0.0, 5.0, -1.0])
  variables = init(tied, ecg)
  features, state = apply(tied, variables, ecg, True)
  copies = lead_encoder.replicate(variables, 'untied', 3)
  expected, _ = apply(untied, copies, ecg, True)
  np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
  one = jax.jit(lambda v, x: encoder.apply(v, x, True, mutable=['batch_stats']))
  for lead in range(3):
    _, found = one(variables, ecg[:, :, lead : lead + 1])
    variables = variables | found
  for a, b in zip(
    jax.tree.leaves(state), jax.tree.leaves(variables['batch_stats'])
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_tied_mixed_sees_the_leads_as_one_batch(ecg):
  encoder = vgg1d.make()
  mixed = lead_encoder.make_lead_encoder(encoder, 'tied_mixed')
  variables = init(mixed, ecg)
  features, state = apply(mixed, variables, ecg, True)
  rows = ecg.transpose(0, 2, 1).reshape(12, 64, 1)
  h, expected = jax.jit(
    lambda v, x: encoder.apply(v, x, True, mutable=['batch_stats'])
  )(variables, rows)
  pooled = heads.global_average(h).reshape(4, 3, 64)
  np.testing.assert_allclose(features, pooled, rtol=1e-4, atol=1e-5)
  for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_joint_sees_all_leads(ecg):
  wrapped = lead_encoder.make_lead_encoder(vgg1d.make(), 'joint')
  variables = init(wrapped, ecg)
  features, state = apply(wrapped, variables, ecg, True)
  assert features.shape == (4, 1, 64)
  assert set(state) == {'batch_stats'}


def test_unknown_branches():
  with pytest.raises(ValueError, match='tied, tied_mixed, untied, joint'):
    lead_encoder.make_lead_encoder(vgg1d.make(), 'both')
