"""A method in one file: features predict the energy of a record."""

import jax
import jax.numpy as jnp

from ecgjax.config.option import Number
from ecgjax.methods import method
from ecgjax.runtime import collectives

OPTIONS = {'scale': Number(1.0, 'float (0, inf)')}


def make(options, spec: method.Spec) -> method.Method:
  """Makes the method; `scale` multiplies the energy."""
  encoder = spec.make_encoder()

  def features(params, ecg):
    return encoder.apply({'params': params['encoder']}, ecg, False).mean(axis=1)

  def init(key, batch):
    params = encoder.init(key, batch['ecg'], False)['params']
    return method.Variables({'encoder': params}, {})

  def loss(params, model_state, target, key, batch, axis_name):
    del target, key
    energy = options['scale'] * jnp.mean(batch['ecg'] ** 2, axis=(1, 2))
    error = (features(params, batch['ecg']).mean(axis=1) - energy) ** 2
    value = collectives.pmean(jnp.mean(error), axis_name)
    return value, method.Aux(model_state, None, {'error': jnp.sqrt(value)})

  def predict(params, model_state, batch):
    del model_state
    return {'features': jax.nn.relu(features(params, batch['ecg']))}

  return method.Method(init, loss, predict)
