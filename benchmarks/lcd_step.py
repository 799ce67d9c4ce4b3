"""The LCD training step against its PyTorch twin, on the CPU of this machine.

  python -m benchmarks.lcd_step [--rounds=5] [--torch_python=PYTHON]

Prints, per length, medians of rounds taken in turn and their ratios. Each side
runs in processes of its own, with glibc's default allocator and with the
setting of `ecgjax.runtime.process` ('kept': freed memory stays in the process;
`main.py` sets it, users of PyTorch would have to know of it). Both sides start
from the same parameters and views, and their first losses are compared. Forward
and backward alone are only printed: two rounds.

'step' is forward, backward, Adam and EMA on given views, as the twin does it.
'training step' is what `train.py` runs: that and, before it, normalisation and
the three augmented views. PyTorch (extra: bench) may live in an environment of
its own; --torch_python names its interpreter.
"""

import os
import sys
import tempfile

from benchmarks import timing, worker

BATCH = 256
LENGTHS = (1000, 2048, 2500, 5000)
PARTS = [
  (side, True, part)
  for side in ('jax', 'torch')
  for part in ('forward', 'gradient')
]
# Length -> ratio to the twin in its default environment, and with the
# allocator setting: at least, and aimed at.
TARGETS = {
  1000: (('1.25', '1.8'), ('1.1', '1.5')),
  2500: (('1.25', '1.8'), ('1.0', '1.5')),
  5000: (('2.5', '4'), ('0.85', '1.5')),
}


def make_config(length: int):
  from configs import lcd as lcd_config

  config = lcd_config.get_config('dataset=ptbxl').unlock()
  config.batch_size, config.data.length = BATCH, length
  return config


def random_batch(config):
  """Float millivolts [B, L, C], the same every time."""
  import jax
  import numpy as np

  shape = (config.batch_size, config.data.length, len(config.data.leads))
  ecg = np.random.default_rng(0).normal(size=shape)
  return {'ecg': jax.numpy.asarray(ecg, jax.numpy.float32)}


def make_step(config, batch):
  """Method, start state and the compiled step of a config."""
  import jax

  from ecgjax.ecg.contract import InputContract
  from ecgjax.model import make_method
  from ecgjax.training import optimizers, train_state, train_step

  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, 100)
  contract = InputContract.from_config(config)
  example = train_step.to_model_input(
    {k: v[:1] for k, v in batch.items()}, contract
  )
  state = jax.jit(
    lambda: train_state.create_train_state(method, optimizer, 0, example)
  )()
  step = jax.jit(
    train_step.make_train_step(method, optimizer, contract), donate_argnums=0
  )
  return method, state, step


def jax_parts(length: int, path: str, augmented: bool):
  """Forward, gradient and whole step; writes start values and views once."""
  import jax
  import numpy as np

  from ecgjax.ecg import augment

  config = make_config(length)
  if not augmented:
    config.data.normalisation = 'none'
    augment.make_random_resized_crop = lambda *_, **__: lambda key, ecg: ecg
    augment.time_out = lambda key, ecg, **_: ecg
  batch = random_batch(config)
  method, state, step = make_step(config, batch)
  key = jax.random.fold_in(state.rng, state.step)
  if not os.path.exists(path):
    from ecgjax.methods import lcd

    pair_key = jax.random.split(key, 4)[0]  # as in `lcd.loss`
    a, b = lcd.draw_lead_pair(pair_key, batch['ecg'].shape[2])
    names = lambda p: '/'.join(part.key for part in p)
    arrays = {names(p): v for p, v in jax.tree.leaves_with_path(state.params)}
    views = np.asarray(batch['ecg'])[:, :, [int(a), int(b), int(a)]]
    np.savez(path, views=views.transpose(2, 0, 1), **arrays)

  def value(params):
    return method.loss(
      params, state.model_state, state.target, key, batch, None
    )

  forward = jax.jit(value)
  gradient = jax.jit(jax.value_and_grad(value, has_aux=True))
  params = state.params
  current = jax.tree.map(jax.numpy.copy, state)

  def whole():
    nonlocal current
    current, metrics = step(current, batch)
    jax.block_until_ready(current)
    return {'loss': float(metrics['loss'])}

  def wait(function):
    jax.block_until_ready(function(params))

  return {
    'step': whole,
    'forward': lambda: wait(forward),
    'gradient': lambda: wait(gradient),
    'views': make_views(config, batch, key),
  }


def make_views(config, batch, key):
  """What the training step does before the encoder: three augmented views."""
  import jax
  import jax.numpy as jnp

  from ecgjax.ecg import augment
  from ecgjax.ecg.contract import InputContract
  from ecgjax.training import train_step

  contract = InputContract.from_config(config)
  crop = augment.make_random_resized_crop(config.data.length)

  @jax.jit
  def views(batch):
    ecg = train_step.to_model_input(batch, contract)['ecg']
    leads = jnp.concatenate([ecg[:, :, k : k + 1] for k in range(3)])
    keys = jax.random.split(key, len(leads))
    one = lambda key, lead: augment.time_out(key, crop(key, lead))
    return jax.vmap(one)(keys, leads)

  def wait():
    views(batch).block_until_ready()

  return wait


def compare(length: int, options: timing.Options):
  """Median samples by (side, allocator kept, part), and the first losses."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'start.npz')
    workers = {}

    def start(side, kept):
      workers[side, kept] = worker.Worker(
        'benchmarks.lcd_step',
        [side, length, path],
        python=options.torch_python if side == 'torch' else sys.executable,
        kept=kept,
        cache=folder,
      )
      return workers[side, kept].ask('step').get('loss')

    losses = [start('jax', True)]  # and `path` is there
    losses += [start('torch', False), start('torch', True)]
    start('jax', False)
    start('training', True)

    def interleaved(names, rounds):
      task = lambda name: lambda: workers[name[:2]].sample(name[2])
      return timing.interleaved({name: task(name) for name in names}, rounds)

    compared = [(*name, 'step') for name in workers]
    compared.append(('training', True, 'views'))
    samples = interleaved(compared, options.rounds)
    samples |= interleaved(PARTS, 2)  # printed, not compared
    for each in workers.values():
      with each:
        pass
  return {k: timing.median(taken) for k, taken in samples.items()}, losses


def report(length: int, medians: dict, losses: list[float]) -> list[timing.Row]:
  """Prints times; returns the ratios."""
  milliseconds = lambda *name: 1e3 * medians[name].wall
  names = {True: 'kept', False: 'default'}
  print(f'L = {length}, B = {BATCH}; first losses:', end='')
  print(*(f' {loss:.4f}' for loss in losses))
  print('| | allocator | ms | CPU ms | ECG/s |\n|---|---|---|---|---|')
  for (side, kept, part), taken in medians.items():
    if part == 'step':
      label = 'ecgjax training step' if side == 'training' else f'{side} step'
      print(
        f'| {label} | {names[kept]} | {1e3 * taken.wall:.0f} | '
        f'{1e3 * taken.cpu:.0f} | {BATCH / taken.wall:.0f} |'
      )
  for side in ('torch', 'jax'):
    forward, gradient, step = (
      milliseconds(side, True, part) for part in ('forward', 'gradient', 'step')
    )
    print(
      f'| {side}: forward / backward / optimizer and EMA | kept | '
      f'{forward:.0f} / {gradient - forward:.0f} / {step - gradient:.0f} | | |'
    )
  print(flush=True)
  ours = milliseconds('jax', True, 'step')
  default, kept = TARGETS.get(length, (('', ''), ('', '')))
  theirs, theirs_kept = (
    milliseconds('torch', kept, 'step') for kept in (False, True)
  )
  ours_default = milliseconds('jax', False, 'step')
  where = f'LCD step, B = {BATCH}, L = {length}, PyTorch'
  rows = [
    timing.Row(f'{where} / ecgjax', f'{theirs / ours:.2f}', *default),
    timing.Row(
      f'{where} with the allocator setting / ecgjax',
      f'{theirs_kept / ours:.2f}',
      *kept,
    ),
    timing.Row(
      f'{where} / ecgjax, both with the default allocator',
      f'{theirs / ours_default:.2f}',
    ),
  ]
  views = medians['training', True, 'views']
  step = medians['training', True, 'step']
  rows.append(
    timing.Row(
      f'augmentation and normalisation, share of the step, L = {length}',
      f'{views.wall / step.wall:.1%}',
      *(('<= 5 %', '2 %') if length == 1000 else ()),
    )
  )
  return rows


def measure(options: timing.Options) -> list[timing.Row]:
  torch = options.torch_version()
  if not torch:
    return [timing.Row('LCD step', 'not measured: no PyTorch')]
  print(f'torch {torch}\n')
  rows = []
  for length in LENGTHS:
    rows += report(length, *compare(length, options))
  return rows


if __name__ == '__main__':
  if sys.argv[1:2] == ['--worker']:
    side, length, path = sys.argv[2:]
    if side == 'torch':
      from benchmarks import torch_twin

      worker.serve(torch_twin.make_parts(path))
    else:
      worker.serve_jax(jax_parts, int(length), path, side == 'training')
  else:
    timing.run(measure, __doc__)
