"""What holds for every method there is: a file of `ecgjax/methods` is one.

What differs, `case_NAME.py` beside this file says:
  make_config(folder): tiny, with the options on that need most care
  make_batch(seed): eight rows
  CHANGES: option -> options with which its change shows, itself among them.
    Left out: numbers (halved), booleans (turned) and those of
  NO_EFFECT: option -> why a change shows neither in the loss nor in the state
  FROZEN (optional): options, and the part of `params` that then has no gradient
  ROUNDS (optional): batches until every option shows; 1
  TOLERANCE (optional): of devices, where parts are computed in float32
"""

import functools
import importlib
import pkgutil
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import textbook as tb

from ecgjax import checkpoints, methods
from ecgjax.ecg.contract import InputContract
from ecgjax.model import make_method
from ecgjax.models import resnet1d, vgg1d
from ecgjax.runtime import parallel
from ecgjax.training import optimizers, train_state, train_step

NAMES = sorted(
  m.name for m in pkgutil.iter_modules(methods.__path__) if m.name != 'method'
)
STEPS = 3  # of a run


@pytest.fixture(autouse=True, scope='module')
def small_encoders():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(vgg1d, 'STAGES', ((64, 1), (512, 1)))
    patch.setattr(resnet1d, 'UNITS', ())
    yield


@pytest.fixture(scope='module', params=NAMES)
def case(request, tmp_path_factory) -> types.SimpleNamespace:
  """The module of a method's case, and what is made of it once."""
  told = importlib.import_module(f'case_{request.param}')
  folder = tmp_path_factory.mktemp(request.param)
  make_config = functools.partial(told.make_config, folder)
  return types.SimpleNamespace(
    name=request.param, told=told, make_config=make_config,
    folder=folder, method=make_method(make_config()),
  )  # fmt: skip


def copy(tree):
  """What a step is given is gone."""
  return jax.tree.map(jnp.copy, tree)


@pytest.fixture(scope='module')
def runs(case):
  """In float64: the first state, and a step for each way of placing it."""
  config = case.make_config()
  config.optimizer.name = 'sgd'  # keeps the gradients in its state
  config.optimizer.schedule = 'constant'
  config.optimizer.warmup_steps = 0
  config.optimizer.weight_decay = 0.0
  config.optimizer.learning_rate = 1e-3
  optimizer = optimizers.make_optimizer(config.optimizer, config.num_steps)
  step = train_step.make_train_step(
    case.method, optimizer, InputContract.from_config(config)
  )
  with jax.enable_x64(True):
    state = jax.jit(
      lambda: train_state.create_train_state(
        case.method, optimizer, 0, case.told.make_batch(0)
      )
    )()
    widen = lambda x: (
      x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
    )
    state = jax.tree.map(widen, state)
  return state, {
    'one': parallel.data_parallel(step, 'jit', jax.devices()[:1]),
    'pmap': parallel.data_parallel(step, 'pmap'),
    'jit': parallel.data_parallel(step, 'jit'),
  }


def train(run, state, make_batch, first=0, last=STEPS):
  """State after the steps, and the metrics of each."""
  rows = []
  with jax.enable_x64(True):
    state = copy(state)
    for number in range(first, last):
      state, metrics = run(state, make_batch(number))
      rows.append(jax.device_get(metrics))
  return state, rows


def numbers(state):
  """Leaves of a state, the key as its words."""
  return jax.device_get(
    jax.tree.leaves(state.replace(rng=jax.random.key_data(state.rng)))
  )


def test_one_device_equals_four(case, runs):
  """Loss, gradients (the momentum of sgd), new state and target."""
  start, ways = runs
  found = {}
  tolerance = getattr(case.told, 'TOLERANCE', {'rtol': 1e-5, 'atol': 1e-8})
  for way, run in ways.items():
    state, rows = train(run, start, case.told.make_batch)
    found[way] = numbers(state) + jax.tree.leaves(rows)
    assert all(row['nonfinite'] == 0 for row in rows)
    assert all(row['gradient_norm'] > 0 for row in rows)
    assert len({float(row['loss']) for row in rows}) == STEPS
  for way in ('pmap', 'jit'):
    for a, b in zip(found['one'], found[way], strict=True):
      np.testing.assert_allclose(b, a, **tolerance, err_msg=way)


def test_saved_and_resumed_gives_the_same_bytes(case, runs, tmp_path):
  start, ways = runs
  run, make_batch = ways['one'], case.told.make_batch
  whole, _ = train(run, start, make_batch)
  part, _ = train(run, start, make_batch, last=1)
  saver = checkpoints.Checkpointer(tmp_path / 'checkpoints')
  saver.save(part, {}, {})
  with jax.enable_x64(True):
    restored = saver.restore(jax.tree.map(jnp.zeros_like, start), 1)
  resumed, _ = train(run, restored, make_batch, first=1)
  for a, b in zip(numbers(whole), numbers(resumed), strict=True):
    assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize('level', [0.0, 1.5])
def test_finite_on_flat_input(case, runs, level):
  start, ways = runs
  batch = case.told.make_batch(0)
  batch['ecg'] = np.full_like(batch['ecg'], level)
  state, (row,) = train(ways['one'], start, lambda number: batch, last=1)
  assert row['nonfinite'] == 0
  assert all(np.isfinite(x).all() for x in numbers(state) + [*row.values()])


def test_prediction_of_a_row_is_that_of_the_row_in_a_batch(case, runs):
  start, ways = runs
  state, _ = train(ways['one'], start, case.told.make_batch)
  compiled = jax.jit(case.method.predict)

  def predict(*args):
    with jax.enable_x64(True):
      return jax.device_get(compiled(*args))

  batch = case.told.make_batch(7)
  together = predict(state.params, state.model_state, batch)
  assert together['features'].shape[0] == len(batch['ecg'])
  row = jax.tree.map(lambda x: x[3:4], batch)
  alone = predict(state.params, state.model_state, row)
  for name, values in together.items():
    np.testing.assert_allclose(
      alone[name][0], values[3], rtol=1e-6, atol=1e-9, err_msg=name
    )
    assert not np.allclose(values[3], values[4]), f'{name} tells nothing'


def gradients(method, batch):
  """Of the loss: of params, model_state and target."""

  @jax.jit
  def compute(batch):
    variables = method.init(jax.random.key(0), batch)
    return jax.grad(
      lambda *v: method.loss(*v, jax.random.key(1), batch, None)[0],
      argnums=(0, 1, 2), allow_int=True,
    )(*variables)  # fmt: skip

  return compute(batch)


def largest(tree) -> float:
  leaves = [x for x in jax.tree.leaves(tree) if x.dtype != jax.dtypes.float0]
  return max((float(jnp.abs(x).max()) for x in leaves if x.size), default=0.0)


def test_only_params_have_a_gradient(case):
  """Not the target network, running statistics, codebooks, frozen networks."""
  batch = case.told.make_batch(0)
  params, model_state, target = gradients(case.method, batch)
  assert largest(params) > 0
  assert largest(model_state) == 0
  assert largest(target) == 0
  if hasattr(case.told, 'FROZEN'):
    options, part = case.told.FROZEN
    params, _, _ = gradients(make_method(changed(case, options)), batch)
    assert largest(params[part]) == 0
    assert largest({k: v for k, v in params.items() if k != part}) > 0


def changed(case, options: dict):
  config = case.make_config()
  config[case.name].update(options)
  return config


def start(method, batch):
  variables = method.init(jax.random.key(0), batch)
  # Zeros in a head would hide all that comes before it.
  return variables._replace(params=tb.shake(variables.params, 0))


def program(method, batch) -> tuple[str, list]:
  """A loss as JAX reads it: its text and its constants."""
  shapes = jax.eval_shape(method.init, jax.random.key(0), batch)
  closed, out = jax.make_jaxpr(
    lambda v, b: method.loss(*v, jax.random.key(1), b, None), return_shape=True
  )(shapes, batch)
  text = re.sub(r' at 0x[0-9a-f]+', '', str(closed))
  return f'{text} {jax.tree.structure(out)}', [closed.consts, tau_of(method)]


def tau_of(method):
  return 0.0 if method.tau is None else method.tau(3)


def outcome(method, make_batch, rounds: int) -> tuple[str, list]:
  """Losses and states of a few batches, all with the first params.

  Nothing is compiled as a whole: most operations are the same for all options.
  """
  params, state, target = start(method, make_batch(0))
  rows = []
  for number in range(rounds):
    loss, aux = method.loss(
      params, state, target, jax.random.key(number), make_batch(number), None
    )
    state = aux.model_state
    if target is not None:
      target = target | {'state': aux.target_state}
    rows.append((loss, aux.target_state))
  return str(jax.tree.structure(state)), [rows, state, tau_of(method)]


def same(first, second) -> bool:
  """Whether two of these are equal but for what may be rounding."""
  (text, a), (other, b) = first, second
  a, b = jax.tree.leaves(a), jax.tree.leaves(b)
  return text == other and all(
    np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=1e-5, atol=1e-7)
    for x, y in zip(a, b, strict=True)
  )


def other_value(name: str, value):
  if isinstance(value, bool):
    return not value
  if isinstance(value, int | float):
    return type(value)(value / 2 if value > 1 else (value + 1) / 2)
  raise AssertionError(f'CHANGES or NO_EFFECT must tell of option {name}')


def idle_options(case, see) -> list[str]:
  """Options whose change `see(method)` does not show."""
  told = case.told
  options = case.make_config()[case.name].to_dict()
  unknown = {*told.CHANGES, *told.NO_EFFECT} - set(options)
  assert not unknown, f'there is no option {unknown}'
  assert not set(told.CHANGES) & set(told.NO_EFFECT)
  bases, idle = {}, []
  for name, value in options.items():
    if name in told.NO_EFFECT:
      continue
    change = told.CHANGES.get(name) or {name: other_value(name, value)}
    given = {k: v for k, v in change.items() if k != name}
    base = repr(sorted(given.items()))
    if base not in bases:
      bases[base] = see(make_method(changed(case, given)))
    if same(bases[base], see(make_method(changed(case, change)))):
      idle.append(name)
  return idle


def test_every_option_changes_the_program(case):
  batch = case.told.make_batch(0)
  see = lambda method: program(method, batch)
  assert same(see(case.method), see(make_method(case.make_config())))
  assert not idle_options(case, see)


@pytest.mark.slow
def test_every_option_changes_the_loss_or_the_state(case):
  rounds = getattr(case.told, 'ROUNDS', 1)
  see = lambda method: outcome(method, case.told.make_batch, rounds)
  assert not idle_options(case, see)


def test_bfloat16_runs_and_keeps_float32_state(case):
  config = case.make_config()
  config.bfloat16 = True
  method = make_method(config)

  @jax.jit
  def first_step(batch):
    variables = method.init(jax.random.key(0), batch)
    return variables, method.loss(*variables, jax.random.key(1), batch, None)

  variables, (loss, aux) = first_step(case.told.make_batch(0))
  assert np.isfinite(loss) and loss.dtype == jnp.float32
  for tree in (variables, aux.model_state, aux.target_state):
    assert all(x.dtype != jnp.bfloat16 for x in jax.tree.leaves(tree))
