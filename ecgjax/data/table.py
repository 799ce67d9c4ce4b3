"""The record table: every field of a split but the signal, as NumPy arrays.

A prepared data set is a TFDS folder of TFRecord shards with the record schema
of `ecgjax.data.base`. Everything that has to know the records without their
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
from collections.abc import Iterator, Sequence

import numpy as np

SIGNAL = 'ecg'
BATCH = 256  # records parsed at a time
READ_AHEAD = 4 << 20  # bytes of a shard read at a time


class CorruptShard(ValueError):
  """A shard that is missing, damaged or of another length than recorded."""


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
      f'data set {builder.info.full_name} has no split {split!r}; it has '
      + ', '.join(splits)
    )
  info = splits[split]
  files = tuple(str(path) for path in info.filepaths)
  return files, tuple(int(length) for length in info.shard_lengths)


def read_shard(
  features, file: str, length: int, names: Sequence[str]
) -> Iterator[dict[str, np.ndarray]]:
  """Reads some fields of one shard, in order.

  Args:
    features: the `FeaturesDict` of the data set.
    file: path of the TFRecord file.
    length: number of records that it has to hold.
    names: fields to parse; the bytes of others are skipped.

  Yields:
    name -> [b, ...] with b <= `BATCH`, of the type stated in `features`
    (strings as objects of type bytes).

  Raises:
    CorruptShard: if the file is missing, fails a checksum, or holds more or
      fewer records.
  """
  import tensorflow as tf

  spec, decode = _parser(features, names)
  dataset = tf.data.TFRecordDataset(file, buffer_size=READ_AHEAD)
  # Parsing whole batches is twice as fast as parsing record by record.
  dataset = dataset.batch(BATCH).map(
    lambda serialized: decode(tf.io.parse_example(serialized, spec)),
    num_parallel_calls=2,
    deterministic=True,
  )
  count = 0
  try:
    for batch in dataset.prefetch(2).as_numpy_iterator():
      count += len(batch[names[0]])
      if count > length:
        break
      yield batch
  except tf.errors.OpError as error:
    reason = error.message.splitlines()[0]
    raise CorruptShard(
      f'shard {file} is damaged or missing ({reason}); prepare the data set '
      'again'
    ) from None
  if count != length:
    found = 'more' if count > length else f'only {count}'
    raise CorruptShard(
      f'shard {file} should hold {length} records and holds {found}; prepare '
      'the data set again'
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
    CorruptShard: see `read_shard`.
  """
  shards(builder, split)  # the errors that name the builder
  return dict(_read_table(str(builder.data_path), split))


@functools.lru_cache(maxsize=16)
def _read_table(data_path: str, split: str) -> dict[str, np.ndarray]:
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(data_path)
  features = builder.info.features
  names = [name for name in features if name != SIGNAL]
  parts = {name: [] for name in names}
  for file, length in zip(*shards(builder, split)):
    for batch in read_shard(features, file, length, names):
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


def _parser(features, names: Sequence[str]):
  """What `parse_example` needs for some fields, and how to decode them.

  `tfds` would decode record by record; this is its wire format, batched:
  floats as float32, integers and booleans as int64, and an `Encoding.BYTES`
  tensor as one string.
  """
  import tensorflow as tf

  spec, raw, cast = {}, {}, {}
  for name in names:
    stored = features[name].get_serialized_info()
    tensor = features[name].get_tensor_info()
    wire = stored.tf_dtype
    if wire == tf.string and tensor.tf_dtype != tf.string:
      raw[name] = tensor
    elif wire.is_integer or wire.is_bool:
      cast[name], wire = wire, tf.int64
    spec[name] = tf.io.FixedLenFeature(stored.shape, wire)

  def decode(parsed):
    for name, tensor in raw.items():
      flat = tf.io.decode_raw(parsed[name], tensor.tf_dtype)
      # Not -1: a data set without labels stores [0].
      parsed[name] = tf.reshape(flat, (tf.shape(flat)[0], *tensor.shape))
    for name, dtype in cast.items():
      parsed[name] = tf.cast(parsed[name], dtype)
    return parsed

  return spec, decode
