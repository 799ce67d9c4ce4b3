"""One process of `test_two_processes`: plans, trains, writes what it got.

python tests/two_processes.py OUT    with the variables of
`parallel.initialise_distributed` set, or without for a single process
"""

import sys

import jax
import numpy as np

from configs import longitudinal as longitudinal_config
from ecgjax.data.batches import patient_index, patients, shuffle
from ecgjax.ecg.contract import InputContract
from ecgjax.model import make_method
from ecgjax.models import resnet1d
from ecgjax.runtime import parallel
from ecgjax.training import optimizers, train_state, train_step

NUM_STEPS = 3
LENGTH = 64


def make_config():
  config = longitudinal_config.get_config('dataset=ptbxl,preset=pclr')
  config = config.copy_and_resolve_references()
  config.data.length = LENGTH
  config.batch_size = 8
  config.model.kwargs.width = 1 / 8
  config.optimizer.name, config.optimizer.weight_decay = 'sgd', 0.0
  config.optimizer.schedule = 'constant'
  config.optimizer.warmup_steps = 0
  config.longitudinal.head_width = 6
  config.longitudinal.queue = 11
  config.longitudinal.gap_weight = 'exponential'
  return config


def make_batches(config, process_index, process_count):
  """Batches of made-up records of 20 patients with 2 to 4 ECGs."""
  rng = np.random.default_rng(0)
  patient = np.repeat(np.arange(20, dtype=np.int32), rng.integers(2, 5, 20))
  ecg = rng.normal(size=(len(patient), LENGTH, 8)).astype(np.float32)
  time = np.arange(len(patient), dtype=np.float32) * 40
  options = patient_index.PatientOptions.from_group(
    config.longitudinal, 'longitudinal'
  )
  index = patient_index.build_index(
    patient, time, np.zeros(len(patient), np.uint64), options
  )
  order = shuffle.Order(config.batch_size, 1, process_index, process_count)
  for rows, weight in patients.train_rows(index, options, order):
    yield {
      'ecg': ecg[rows],
      'patient': patient[rows],
      'record': rows.astype(np.int32),
      'time': time[rows],
      'anchor_weight': weight,
    }


def run(mode: str) -> dict[str, np.ndarray]:
  """State and losses after some steps, and the rows of this process."""
  config = make_config()
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, NUM_STEPS)
  batches = make_batches(config, jax.process_index(), jax.process_count())
  batches = [next(batches) for _ in range(NUM_STEPS)]
  example = {k: v[:1] for k, v in batches[0].items()}
  state = jax.jit(
    lambda: train_state.create_train_state(method, optimizer, 0, example)
  )()
  contract = InputContract.from_config(config)
  step = parallel.data_parallel(
    train_step.make_train_step(method, optimizer, contract), mode
  )
  found = {'rows': np.stack([batch['record'] for batch in batches])}
  for number, batch in enumerate(batches):
    state, metrics = step(state, batch)
    for name, value in metrics.items():
      found[f'{number}/{name}'] = np.asarray(value)
    if number in (0, NUM_STEPS - 1):  # after the first: the gradient
      arrays = state.replace(rng=None)
      for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        found[f'{number}/{name}'] = np.asarray(leaf)
  return found


if __name__ == '__main__':
  resnet1d.UNITS = ()  # compiles fast
  parallel.initialise_distributed()
  np.savez(sys.argv[1], **run(sys.argv[2]))
