"""The LCD training step against its PyTorch twin, on the CPU of this machine.

  python -m benchmarks.lcd_step [--lengths=1000,2048,2500,5000] [--rounds=5]
    [--torch_python=PYTHON]

Prints, per length, medians of rounds taken in turn and their ratios. Each side
runs in processes of its own, with glibc's default allocator and with the
setting of `ecgjax.process_env` ('kept': freed memory stays in the process;
`main.py` sets it, users of PyTorch would have to know of it). Both sides start
from the same parameters and views, and their first losses are compared.

'step' is forward, backward, Adam and EMA on given views, as the twin does it.
'training step' is what `train.py` runs: that and, before it, normalisation and
the three augmented views. PyTorch (extra: bench) may live in an environment of
its own; --torch_python names its interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

from benchmarks import timing
from ecgjax import process_env

BATCH = 256
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Worker:
  """A process that does one thing whenever it is told to."""

  def __init__(self, python: str, task: tuple[str, int, str], kept: bool):
    side, length, path = task
    environ = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    if kept:
      environ['GLIBC_TUNABLES'] = process_env.allocator_tunables('')
    environ['JAX_PLATFORMS'] = 'cpu'
    environ['JAX_COMPILATION_CACHE_DIR'] = os.path.dirname(path)
    command = [python, '-m', 'benchmarks.lcd_step']
    self.process = subprocess.Popen(
      [*command, '--worker', side, str(length), path],
      env=environ,
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def ask(self, part: str) -> dict[str, float]:
    """Does `part` once; seconds, processor seconds and what it returns."""
    self.process.stdin.write(part + '\n')
    self.process.stdin.flush()
    answer = self.process.stdout.readline()
    if not answer:
      raise RuntimeError(f'a worker ended with exit code {self.process.wait()}')
    return json.loads(answer)

  def sample(self, part: str) -> timing.Sample:
    answer = self.ask(part)
    return timing.Sample(answer['wall'], answer['cpu'])

  def close(self):
    self.process.stdin.close()
    self.process.wait()


def work(side: str, length: int, path: str) -> None:
  """Answers every line of standard input by doing what it names."""
  if side == 'torch':
    from benchmarks import torch_twin

    parts = torch_twin.make_parts(path)
  else:
    parts = jax_parts(length, path, augmented=side == 'training')
  for line in sys.stdin:
    part, returned = parts[line.strip()], {}
    taken = timing.sample(lambda p=part, r=returned: r.update(p() or {}))
    answer = {'wall': taken.wall, 'cpu': taken.cpu, **returned}
    print(json.dumps(answer), flush=True)


def jax_parts(length: int, path: str, augmented: bool):
  """Forward, gradient and whole step; writes start values and views once."""
  import jax
  import numpy as np

  from configs import lcd as lcd_config
  from ecgjax import augment
  from ecgjax.inputs import InputContract
  from ecgjax.methods import lcd
  from ecgjax.training import optimizers, train_state, train_step

  config = lcd_config.get_config('dataset=ptbxl').unlock()
  config.batch_size, config.data.length = BATCH, length
  if not augmented:
    config.data.normalisation = 'none'
    augment.make_random_resized_crop = lambda *_, **__: lambda key, ecg: ecg
    augment.time_out = lambda key, ecg, **_: ecg
  method = lcd.make(config)
  optimizer = optimizers.make_optimizer(config, 100)
  contract = InputContract.from_config(config)
  rng = np.random.default_rng(0)
  shape = (BATCH, length, len(config.data.leads))
  ecg = rng.normal(size=shape).astype(np.float32)
  batch = {'ecg': jax.numpy.asarray(ecg)}
  state = jax.jit(
    lambda: train_state.create_train_state(method, optimizer, 0, batch)
  )()

  key = jax.random.fold_in(state.rng, state.step)
  if not os.path.exists(path):
    pair_key = jax.random.split(key, 4)[0]  # as in `lcd.loss`
    a, b = lcd.draw_lead_pair(pair_key, shape[2])
    names = lambda p: '/'.join(part.key for part in p)
    arrays = {names(p): v for p, v in jax.tree.leaves_with_path(state.params)}
    views = ecg[:, :, [int(a), int(b), int(a)]].transpose(2, 0, 1)
    np.savez(path, views=views, **arrays)

  def value(params):
    return method.loss(
      params, state.model_state, state.target, key, batch, None
    )

  forward = jax.jit(value)
  gradient = jax.jit(jax.value_and_grad(value, has_aux=True))
  params = state.params
  step = jax.jit(
    train_step.make_train_step(method, optimizer, contract), donate_argnums=0
  )
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
  }


def compare(length: int, rounds: int, torch_python: str) -> list[str]:
  """Lines of the report on one length."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'start.npz')
    start = lambda python, side, kept: Worker(
      python, (side, length, path), kept
    )
    workers = {('jax', True): start(sys.executable, 'jax', True)}
    losses = [workers['jax', True].ask('step')['loss']]  # and `path` is there
    for kept in (False, True):
      workers['torch', kept] = start(torch_python, 'torch', kept)
      losses.append(workers['torch', kept].ask('step')['loss'])
    for side, kept in (('jax', False), ('training', True)):
      workers[side, kept] = start(sys.executable, side, kept)
    tasks = {
      (side, kept, 'step'): lambda w=worker: w.sample('step')
      for (side, kept), worker in workers.items()
    }
    for part in ('forward', 'gradient'):
      for side in ('jax', 'torch'):
        worker = workers[side, True]
        tasks[side, True, part] = lambda w=worker, p=part: w.sample(p)
    samples = timing.interleaved(tasks, rounds)
    for worker in workers.values():
      worker.close()
  medians = {name: timing.median(taken) for name, taken in samples.items()}
  return report(length, medians, losses)


def report(length: int, medians: dict, losses: list[float]) -> list[str]:
  """Times in ms, records/s and ratios (above 1: ecgjax is faster)."""
  milliseconds = lambda *name: 1e3 * medians[name].wall
  names = {True: 'kept', False: 'default'}
  lines = [f'\nL = {length}, B = {BATCH}; first losses:']
  lines[0] += ''.join(f' {loss:.4f}' for loss in losses)
  lines.append('| | allocator | ms | CPU ms | ECG/s |\n|---|---|---|---|---|')
  for (side, kept, part), taken in medians.items():
    if part == 'step':
      label = 'ecgjax training step' if side == 'training' else f'{side} step'
      lines.append(
        f'| {label} | {names[kept]} | {1e3 * taken.wall:.0f} | '
        f'{1e3 * taken.cpu:.0f} | {BATCH / taken.wall:.0f} |'
      )
  for side in ('torch', 'jax'):
    forward, gradient, step = (
      milliseconds(side, True, part) for part in ('forward', 'gradient', 'step')
    )
    lines.append(
      f'| {side}: forward / backward / optimizer and EMA | kept | '
      f'{forward:.0f} / {gradient - forward:.0f} / {step - gradient:.0f} | | |'
    )
  ours = milliseconds('jax', True, 'step')
  theirs = milliseconds('torch', False, 'step')
  share = 1 - ours / milliseconds('training', True, 'step')
  both_default = theirs / milliseconds('jax', False, 'step')
  both_kept = milliseconds('torch', True, 'step') / ours
  return [
    *lines,
    '',
    '| ratio | |\n|---|---|',
    f'| torch default / jax kept | {theirs / ours:.2f} |',
    f'| torch kept / jax kept | {both_kept:.2f} |',
    f'| torch default / jax default | {both_default:.2f} |',
    f'| views and normalisation, share of training step | {share:.1%} |',
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--lengths', default='1000,2048,2500,5000')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--torch_python', default=sys.executable)
  parser.add_argument('--worker', nargs=3, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.worker:
    side, length, path = arguments.worker
    work(side, int(length), path)
    return
  torch = subprocess.run(
    [arguments.torch_python, '-c', 'import torch; print(torch.__version__)'],
    capture_output=True,
    text=True,
    check=False,
  )
  if torch.returncode:
    parser.error('no PyTorch: pip install -e .[bench], or use --torch_python')
  print(timing.machine('jax', 'flax') + f', torch {torch.stdout.strip()}')
  for length in map(int, arguments.lengths.split(',')):
    lines = compare(length, arguments.rounds, arguments.torch_python)
    print('\n'.join(lines), flush=True)


if __name__ == '__main__':
  main()
