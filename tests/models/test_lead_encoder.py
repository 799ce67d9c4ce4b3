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


def test_joint_sees_all_leads(ecg):
  wrapped = lead_encoder.make_lead_encoder(vgg1d.make(), 'joint')
  variables = init(wrapped, ecg)
  features, state = apply(wrapped, variables, ecg, True)
  assert features.shape == (4, 1, 64)
  assert set(state) == {'batch_stats'}


def test_unknown_branches():
  with pytest.raises(ValueError, match='tied, untied, joint'):
    lead_encoder.make_lead_encoder(vgg1d.make(), 'both')
