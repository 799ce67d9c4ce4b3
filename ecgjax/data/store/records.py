"""The record table: every field of a split but the signal, as NumPy arrays.

A prepared data set is a TFDS folder of TFRecord shards with the record schema
of `data.store.schema`. Everything that has to know the records without their
signals (label tasks, label subsets, the leakage audit, the patient sampler,
the metadata of a batch) reads this table instead of decoding shards again: it
parses the records and leaves the signal's bytes alone.

The order is that of the shards; row i of the table is record i of the split
everywhere in the project. Reading checks every record's TFRecord checksum and
every shard's record count; a damaged shard is an error that names it, never a
shorter data set.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np

SIGNAL = 'ecg'
BATCH = 256  # records parsed at a time
READ_AHEAD = 4 << 20  # bytes of a shard read at a time


class CorruptShard(ValueError):
  """A shard that is missing, damaged or of another length than recorded."""


def open_folder(path):
  """The builder of a prepared data set, from its TFDS folder alone."""
  import tensorflow_datasets as tfds

  return tfds.builder_from_directory(str(path))


def shards(builder, split: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
  """Paths and record counts of a split's shards.

  Args:
    builder: a prepared TFDS builder.
    split: 'train', 'validation' or 'test'.

  Raises:
    ValueError: if the data set is not prepared or lacks the split.
  """
  splits = builder.info.splits
  if not splits:
    raise ValueError(
      f'data set {builder.info.full_name} is not prepared in '
      f'{builder.data_path}; run python -m ecgjax.data.prepare '
      f'--dataset={builder.name}'
    )
  if split not in splits:
    raise ValueError(
      f'data set {builder.info.full_name} has no record in split {split!r}, '
      f'only in {", ".join(splits)}; it is too small to be used'
    )
  info = splits[split]
  files = tuple(str(path) for path in info.filepaths)
  return files, tuple(int(length) for length in info.shard_lengths)


def read_shards(
  files: Sequence[str], lengths: Sequence[int], names: Sequence[str]
) -> Iterator[dict[str, np.ndarray]]:
  """Reads some fields of all records of some shards, in order.

  Args:
    files: paths of TFRecord files in the folders of prepared data sets, those
      of a folder in a row.
    lengths: number of records that each has to hold.
    names: fields to parse; the bytes of others are skipped.

  Yields:
    name -> [b, ...] with b <= `BATCH`, of the type stated in the schema
    (strings as objects of type bytes).

  Raises:
    CorruptShard: if a file is missing, fails a checksum, or holds more or
      fewer records.
  """
  end = 0
  for _, part in itertools.groupby(files, os.path.dirname):
    start, end = end, end + len(list(part))
    yield from _read_folder(files[start:end], lengths[start:end], names)


def _read_folder(files, lengths, names):
  """`read_shards` of files that share one schema, at least one of them."""
  import tensorflow as tf

  parse = _parser(os.path.dirname(files[0]), tuple(names))
  # Parsing whole batches is twice as fast as parsing record by record.
  dataset = (
    tf.data.TFRecordDataset(list(files), buffer_size=READ_AHEAD)
    .batch(BATCH)
    .map(parse, num_parallel_calls=2, deterministic=True)
    .prefetch(2)
  )
  missing = sum(lengths)
  try:
    for batch in dataset.as_numpy_iterator():
      missing -= len(batch[names[0]])
      if missing < 0:
        break
      yield batch
  except tf.errors.OpError as error:
    _check_shards(files, lengths)
    raise CorruptShard(
      f'records of {os.path.dirname(files[0])} do not have the schema that its '
      f'features.json states ({error.message.splitlines()[0]}); prepare the '
      'data set again'
    ) from None
  if missing:
    _check_shards(files, lengths)


def _check_shards(files: Sequence[str], lengths: Sequence[int]) -> None:
  """Raises a `CorruptShard` that names the first damaged shard."""
  import tensorflow as tf

  for file, length in zip(files, lengths):
    try:
      records = tf.data.TFRecordDataset(file).batch(BATCH).as_numpy_iterator()
      found = f'holds {sum(map(len, records))} records'
    except tf.errors.OpError as error:
      found = f'is missing or damaged ({error.message.splitlines()[0]})'
    if found != f'holds {length} records':
      raise CorruptShard(
        f'shard {file} should hold {length} records and {found}; prepare the '
        'data set again'
      )


def read_table(builder, split: str) -> dict[str, np.ndarray]:
  """All fields but the signal of every record of a split.

  The table is read once per process and shared, so its arrays are read-only.

  Args:
    builder: a prepared TFDS builder.
    split: 'train', 'validation' or 'test'.

  Returns:
    field name -> [N, ...]; strings as NumPy strings.

  Raises:
    ValueError: see `shards`.
    CorruptShard: see `read_shards`.
  """
  shards(builder, split)  # the errors that name the builder
  return dict(_read_table(str(builder.data_path), split))


@functools.lru_cache(maxsize=16)
def _read_table(data_path: str, split: str) -> dict[str, np.ndarray]:
  builder = open_folder(data_path)
  features = builder.info.features
  names = [name for name in features if name != SIGNAL]
  parts = {name: [] for name in names}
  for batch in read_shards(*shards(builder, split), names):
    for name in names:
      parts[name].append(batch[name])
  table = {}
  for name in names:
    info = features[name].get_tensor_info()
    empty = np.zeros((0, *info.shape), object)
    column = np.concatenate(parts[name] or [empty])
    if info.tf_dtype.name == 'string':
      column = np.array([value.decode() for value in column], np.str_)
    else:
      column = column.astype(info.np_dtype)
    column.setflags(write=False)
    table[name] = column
  return table


@functools.cache
def _parser(data_path: str, names: tuple[str, ...]):
  """TensorFlow function: serialized records [b] -> name -> [b, ...].

  `tfds` would decode record by record; this is its wire format, batched:
  floats as float32, integers and booleans as int64, and an `Encoding.BYTES`
  tensor as one string.
  """
  import tensorflow as tf

  features = open_folder(data_path).info.features
  stored = {name: features[name].get_serialized_info() for name in names}
  tensors = {name: features[name].get_tensor_info() for name in names}
  spec = {}
  for name, info in stored.items():
    whole = info.tf_dtype.is_integer or info.tf_dtype.is_bool
    dtype = tf.int64 if whole else info.tf_dtype
    spec[name] = tf.io.FixedLenFeature(info.shape, dtype)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
  def parse(serialized):
    parsed = tf.io.parse_example(serialized, spec)
    for name, tensor in tensors.items():
      if stored[name].tf_dtype == tensor.tf_dtype:
        parsed[name] = tf.cast(parsed[name], tensor.tf_dtype)
      else:
        flat = tf.io.decode_raw(parsed[name], tensor.tf_dtype)
        # Not -1: a data set without labels stores [0].
        shape = (tf.shape(serialized)[0], *tensor.shape)
        parsed[name] = tf.reshape(flat, shape)
    return parsed

  return parse.get_concrete_function()
