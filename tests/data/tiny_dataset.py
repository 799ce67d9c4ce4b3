"""A prepared data set of a few made-up records, in as many shards as wanted.

TFDS chooses the number of shards by size, so the shards and the metadata are
written here; the schema is that of the builders.
"""

import hashlib
import json
import os

import numpy as np

LENGTH = 50
LABEL_NAMES = ('a', 'b', 'c')


def make_example(number: int, **changes) -> dict:
  """Record `number`: its samples, labels and ids all follow from it."""
  rng = np.random.Generator(np.random.Philox(number))
  ecg = rng.integers(-999, 999, (LENGTH, 12)).astype(np.int16)
  example = {
    'ecg': ecg,
    'gain': np.arange(12, dtype=np.float32) + 1000,
    'baseline': np.arange(12, dtype=np.float32) + number,
    'fs': np.float32(100),
    'lead_mask': np.ones(12, bool),
    'valid_start': 0,
    'valid_len': LENGTH - number % 7,
    'record': number,
    'record_id': f'r{number:03d}',
    'patient': number // 2,
    'patient_id': f'p{number // 2:03d}',
    'time': np.float32(number),
    'age': np.float32(40),
    'sex': number % 2,
    'labels': np.array([number % 2, number % 3 == 0, 0], np.uint8),
    'label_mask': np.array([1, 1, number % 5 != 0], np.uint8),
    'fold': -1,
    'limb_residual': np.float32(0),
    'content_hash': hashlib.sha256(ecg.tobytes()).hexdigest(),
    'source': 'tiny',
  }
  assert changes.keys() <= example.keys()
  return example | changes


def write(
  directory,
  splits: dict[str, list[dict]],
  num_shards: int = 3,
  label_names=LABEL_NAMES,
  length=LENGTH,
):
  """Writes examples as a TFDS folder and returns its builder.

  Args:
    directory: new folder.
    splits: split name -> examples in stored order.
    num_shards: shards per split, of nearly equal length.
    label_names: names of the stored labels.
    length: samples of the examples.
  """
  import tensorflow as tf
  import tensorflow_datasets as tfds

  from ecgjax.data.store import schema

  os.makedirs(directory)
  features = schema.record_features(length, len(label_names))
  infos = []
  for split, examples in splits.items():
    parts = np.array_split(np.arange(len(examples)), num_shards)
    template = tfds.core.ShardedFileTemplate(
      data_dir=directory,
      dataset_name='tiny',
      split=split,
      filetype_suffix='tfrecord',
    )
    for shard, part in enumerate(parts):
      path = template.sharded_filepath(shard_index=shard, num_shards=num_shards)
      with tf.io.TFRecordWriter(str(path)) as writer:
        for i in part:
          writer.write(features.serialize_example(examples[i]))
    infos.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(part) for part in parts],
        num_bytes=0,
        filename_template=template,
      )
    )
  tfds.folder_dataset.write_metadata(
    data_dir=directory, features=features, split_infos=infos
  )
  with open(os.path.join(directory, 'metadata.json'), 'w') as file:
    json.dump({'label_names': list(label_names)}, file)
  return tfds.builder_from_directory(directory)
