"""Patient contrast: planning and reading pairs, against what a step eats.

  python -m benchmarks.pairs

Planning is timed on made-up ids, reading on pairs of made-up records of 12
leads x 1000 samples in the page cache, once from memory and once by random
access to the TFRecords, and the step is that of configs/longitudinal.py.
"""

import itertools
import os
import resource
import statistics
import tempfile
import time

import jax
import numpy as np
import tensorflow_datasets as tfds

from benchmarks import input as input_benchmark
from benchmarks import timing
from configs import longitudinal as longitudinal_config
from ecgjax.data.batches import patient_index, patients, shuffle
from ecgjax.data.batches.patient_index import PatientOptions
from ecgjax.data.batches.split import GIB, arguments, open_split
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.model import make_method
from ecgjax.training import optimizers, train_state, train_step

PATIENTS = 1_000_000


def peak_memory() -> float:
  """Of this process, MB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure_planning(num_patients: int, config) -> float:
  """Prints the cost of the index and of an epoch; returns pairs/s."""
  rng = np.random.default_rng(0)
  sizes = np.minimum(rng.geometric(1 / 2.93, num_patients), 40)
  patient = rng.permutation(np.repeat(np.arange(num_patients), sizes))
  days = rng.exponential(400, len(patient)).astype(np.float32)
  content = rng.integers(1, 2**63, len(patient)).astype(np.uint64)
  before, start = peak_memory(), time.process_time()
  options = PatientOptions.from_group(config.longitudinal, 'longitudinal')
  index = patient_index.build_index(
    patient.astype(np.int32), days, content, options
  )
  built = time.process_time()
  per_batch = config.batch_size // options.ecgs_per_patient
  plan = patients.plan_epoch(index, per_batch, options, 0, 0)
  planned = time.process_time() - built
  kept = sum(x.nbytes for x in index if isinstance(x, np.ndarray)) / 1e6
  print(
    f'{num_patients:,} patients, {len(patient):,} ECGs: index in '
    f'{built - start:.1f} s, {kept:.0f} MB kept, '
    f'{peak_memory() - before:.0f} MB at most; an epoch in {planned:.1f} s, '
    f'{len(plan.rows) / planned:,.0f} pairs/s (CPU time)\n{plan.report}\n'
  )
  return len(plan.rows) / planned


def make_step(config, batch):
  """A compiled step as a function without arguments."""
  contract = InputContract.from_config(config)
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, 1000)
  example = to_model_input({k: v[:1] for k, v in batch.items()}, contract)
  state = jax.jit(
    lambda: train_state.create_train_state(method, optimizer, 0, example)
  )()
  step = jax.jit(train_step.make_train_step(method, optimizer, contract))
  return lambda: jax.block_until_ready(step(state, batch))


def measure_reading(config, rounds: int) -> dict[str, float]:
  """Name -> pairs/s, the median of interleaved rounds."""
  count, batch_size = input_benchmark.NUM_RECORDS, config.batch_size
  with tempfile.TemporaryDirectory() as directory:
    folder = os.path.join(directory, 'noise', '1.0.0')
    input_benchmark.write_dataset(folder)
    builder = tfds.builder_from_directory(folder)
    window = count // 4 * input_benchmark.LENGTH * 12 * 2 / GIB
    given = arguments(config.data)
    kept, large = (
      open_split(
        builder,
        'train',
        keep_unlabelled=True,
        **given | {'window_gib': window_gib},
      )
      for window_gib in (given['window_gib'], window)
    )
    pairing = np.random.default_rng(0).permutation(count) // 2
    sources = {}
    for name, split in (('in memory', kept), ('random access', large)):
      split.columns['patient'] = pairing.astype(np.int32)
      sources[name] = patients.train_batches(
        split,
        PatientOptions.from_group(config.longitudinal, 'longitudinal'),
        shuffle.Order(batch_size, 0),
      )
    step = make_step(config, next(sources['in memory']))
    steps = count // batch_size

    def drain(batches):
      for _ in itertools.islice(batches, steps):
        pass

    tasks = {
      name: (count // 2, lambda batches=batches: drain(batches))
      for name, batches in sources.items()
    }
    tasks['step'] = (batch_size // 2, step)
    found = {name: [] for name in tasks}
    for _, task in tasks.values():
      task()  # compiles, fills caches
    for _ in range(rounds):
      for name, (pairs, task) in tasks.items():
        found[name].append(pairs / input_benchmark.seconds(task))
  return {name: statistics.median(rates) for name, rates in found.items()}


def measure(options: timing.Options) -> list[timing.Row]:
  config = longitudinal_config.get_config('dataset=ptbxl')
  config = config.copy_and_resolve_references()
  config.data.task = 'all'
  planned = measure_planning(PATIENTS, config)
  rates = measure_reading(config, options.rounds)
  step = rates.pop('step')
  print(f'step of patient contrast: {step:,.0f} pairs/s')
  rows = [
    timing.Row(
      f'planning an epoch of {PATIENTS:,} patients, pairs per CPU second',
      f'{planned:,.0f}',
    )
  ]
  return rows + [
    timing.Row(
      f'pairs/s, {name}; and / the step of patient contrast',
      f'{rate:,.0f}; {rate / step:.0f}',
    )
    for name, rate in rates.items()
  ]


if __name__ == '__main__':
  timing.run(measure, __doc__)
