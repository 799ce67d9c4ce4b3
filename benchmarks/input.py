"""Input: records/s of every way to a batch, against what the LCD step eats.

  python -m benchmarks.input

Records are 12 leads x 1000 samples int16, in the page cache.
"""

import collections
import itertools
import json
import os
import statistics
import tempfile
import time

import jax
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from benchmarks import timing
from configs import lcd as lcd_config
from ecgjax.data.batches import on_device, shuffle, stream
from ecgjax.data.batches.split import GIB, arguments, open_split
from ecgjax.data.store.schema import record_features
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.model import make_method
from ecgjax.training import optimizers, train_state, train_step

NUM_RECORDS = 8192
NUM_SHARDS = 8
BATCH = 256
LENGTH = 1000
MEGABYTES = LENGTH * 12 * 2 / 1e6  # per record, as stored


def write_dataset(directory: str) -> None:
  """A prepared data set of noise with the schema of the builders."""
  os.makedirs(directory)
  features = record_features(LENGTH, 71)
  template = tfds.core.ShardedFileTemplate(
    data_dir=directory,
    dataset_name='noise',
    split='train',
    filetype_suffix='tfrecord',
  )
  rng = np.random.default_rng(0)
  numbers = np.array_split(np.arange(NUM_RECORDS), NUM_SHARDS)
  for shard, part in enumerate(numbers):
    path = template.sharded_filepath(shard_index=shard, num_shards=NUM_SHARDS)
    with tf.io.TFRecordWriter(str(path)) as writer:
      for i in part:
        ecg = rng.integers(-999, 999, (LENGTH, 12), np.int16)
        example = {
          'ecg': ecg,
          'gain': np.full(12, 1000, np.float32),
          'baseline': np.zeros(12, np.float32),
          'fs': 100.0,
          'lead_mask': np.ones(12, bool),
          'valid_start': 0,
          'valid_len': LENGTH,
          'record': i,
          'record_id': str(i),
          'patient': i,
          'patient_id': str(i),
          'time': -1.0,
          'age': 50.0,
          'sex': -1,
          'labels': rng.integers(0, 2, 71, np.uint8),
          'label_mask': np.ones(71, np.uint8),
          'fold': -1,
          'limb_residual': 0.0,
          'content_hash': str(i),
          'source': 'noise',
        }
        writer.write(features.serialize_example(example))
  split = tfds.core.SplitInfo(
    name='train',
    shard_lengths=[len(part) for part in numbers],
    num_bytes=0,
    filename_template=template,
  )
  tfds.folder_dataset.write_metadata(
    data_dir=directory, features=features, split_infos=[split]
  )
  with open(os.path.join(directory, 'metadata.json'), 'w') as file:
    json.dump({'label_names': [str(k) for k in range(71)]}, file)


def write_float_lists(path: str, count: int) -> None:
  """The usual layout: one float list per record."""
  rng = np.random.default_rng(0)
  with tf.io.TFRecordWriter(path) as writer:
    for _ in range(count):
      values = tf.train.FloatList(value=rng.random(LENGTH * 12, np.float32))
      features = {'ecg': tf.train.Feature(float_list=values)}
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())


def float_list_batches(path: str):
  spec = {'ecg': tf.io.FixedLenFeature([LENGTH, 12], tf.float32)}
  dataset = tf.data.TFRecordDataset(path).map(
    lambda record: tf.io.parse_single_example(record, spec),
    num_parallel_calls=tf.data.AUTOTUNE,
  )
  return dataset.batch(BATCH).prefetch(2).as_numpy_iterator()


def make_lcd_step(config, batch):
  """A compiled LCD step as a function without arguments."""
  contract = InputContract.from_config(config)
  method = make_method(config)
  optimizer = optimizers.make_optimizer(config.optimizer, 100)
  example = to_model_input({k: v[:1] for k, v in batch.items()}, contract)
  state = jax.jit(
    lambda: train_state.create_train_state(method, optimizer, 0, example)
  )()
  step = jax.jit(train_step.make_train_step(method, optimizer, contract))
  return lambda: jax.block_until_ready(step(state, batch))


def seconds(function) -> float:
  start = time.perf_counter()
  function()
  return time.perf_counter() - start


def measure_rates(rounds: int) -> dict[str, float]:
  """Name -> records/s, the median of interleaved rounds."""
  config = lcd_config.get_config('dataset=ptbxl').copy_and_resolve_references()
  config.unlock()
  config.data.task = 'all'
  config.data.leads = leads.LEADS
  steps = NUM_RECORDS // BATCH
  with tempfile.TemporaryDirectory() as directory:
    folder = os.path.join(directory, 'noise', '1.0.0')
    write_dataset(folder)
    builder = tfds.builder_from_directory(folder)
    given = arguments(config.data)
    kept = open_split(builder, 'train', **given)
    window_gib = NUM_RECORDS // 4 * LENGTH * 12 * 2 / GIB
    streamed = open_split(
      builder, 'train', **given | {'window_gib': window_gib}
    )
    arrays = on_device.load(kept)
    floats = os.path.join(directory, 'floats')
    write_float_lists(floats, NUM_RECORDS // 4)

    def drain(batches):
      last = collections.deque(itertools.islice(batches, steps), maxlen=1)
      jax.block_until_ready(last.pop())

    # One iterator over all rounds: start-up is not what an epoch pays.
    order = shuffle.Order(BATCH, 0)
    streaming = stream.train_batches(streamed, order)
    keeping = stream.train_batches(kept, order)
    gathering = on_device.train_batches(kept, arrays, order)
    tasks = {
      'float list, parsed one by one': (
        NUM_RECORDS // 4,
        lambda: drain(float_list_batches(floats)),
      ),
      'streamed': (NUM_RECORDS, lambda: drain(streaming)),
      'kept in memory': (NUM_RECORDS, lambda: drain(keeping)),
      'resident on the device': (NUM_RECORDS, lambda: drain(gathering)),
    }
    config.data.leads = leads.LCD_LEADS
    split = open_split(builder, 'train', **arguments(config.data))
    batch = next(stream.eval_batches(split, BATCH))
    tasks['LCD step, 8 leads'] = (BATCH, make_lcd_step(config, batch))
    found = {name: [] for name in tasks}
    for _, task in tasks.values():
      task()  # compiles, fills caches
    for _ in range(rounds):
      for name, (count, task) in tasks.items():
        found[name].append(count / seconds(task))
  return {name: statistics.median(rates) for name, rates in found.items()}


def measure(options: timing.Options) -> list[timing.Row]:
  rates = measure_rates(options.rounds)
  step = rates.pop('LCD step, 8 leads')
  print(f'LCD step, 8 leads: {step:,.0f} records/s')
  targets = {
    'streamed': ('15,000; 20', 'memory-map speed; 100'),
    'kept in memory': ('15,000; 20', 'memory-map speed; 100'),
  }
  return [
    timing.Row(
      f'input, 12 x {LENGTH} int16, {name}: records/s; and / the LCD step',
      f'{rate:,.0f}; {rate / step:.0f}',
      *targets.get(name, ()),
    )
    for name, rate in rates.items()
  ]


if __name__ == '__main__':
  timing.run(measure, __doc__)
