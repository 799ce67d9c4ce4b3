import ast
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.ecg import augment
from ecgjax.losses import contrastive, decorrelation
from ecgjax.models import heads
from tests import shapes

ROOT = pathlib.Path(__file__).parents[1]
checked = pytest.mark.skipif(
  not shapes.INSTALLED, reason='jaxtyping and beartype are not installed'
)


@checked
@pytest.mark.parametrize(
  'call',
  [
    lambda: augment.lead_out(jax.random.key(0), jnp.zeros((2, 8, 3))),
    lambda: decorrelation.cosine_distance(np.ones((2, 3)), np.ones((2, 4))),
    lambda: contrastive.relations(jnp.ones(3)),  # ids are whole numbers
    lambda: jax.jit(contrastive.similarity)(jnp.ones((2, 3)), jnp.ones((2, 4))),
    lambda: heads.Classifier(3).init(jax.random.key(0), jnp.ones((2, 3, 4, 5))),
  ],
)
def test_wrong_shapes_are_found(call):
  with pytest.raises(Exception, match='Type-check|type hint|shape'):
    call()


def test_every_network_names_its_shapes():
  calls = {
    f'{path.stem}.{network.name}': ast.unparse(call.args)
    for path in (ROOT / 'ecgjax' / 'models').glob('*.py')
    for network in ast.walk(ast.parse(path.read_text()))
    if isinstance(network, ast.ClassDef)
    for call in network.body
    if isinstance(call, ast.FunctionDef) and call.name == '__call__'
  }
  assert len(calls) >= 15
  assert not [name for name, args in calls.items() if '[Array, ' not in args]
