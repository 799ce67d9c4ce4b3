"""Random access to the signals of TFRecords, by an index of offsets.

A TFRecord is framed by its length and two checksums, and the signal of a
record is one run of T x 12 int16 in it: the stored bytes of an
`Encoding.BYTES` tensor. The index holds where that run begins; reading a
record is then one read of exactly its signal, from the page cache where the
operating system has it there. 800,000 records take 10 MB of index and no
second copy of the corpus.

The checksums of the records are not looked at here: `records.read_table` has
verified all of them when the split was opened.
"""

import mmap
import os
import struct

import numpy as np

from ecgjax.data.store import records


class Signals:
  """The signals of a split.

  Args:
    split: an open `data.batches.split.Split` on a local disk.

  Raises:
    ValueError: if the data set is not on a local disk.
    CorruptShard: if a shard does not have the records it should.
  """

  def __init__(self, split):
    self._files = split.shards[0]
    self._leads, self._length = list(split.leads), split.length
    self._descriptors = {}
    if '://' in self._files[0]:
      raise ValueError(
        f'{self._files[0]}: a split of this size needs random access; copy the '
        'data set to a local disk and set config.data.dir'
      )
    samples, self._stored_leads = split.stored
    num_bytes = 2 * samples * self._stored_leads
    parts = [
      signal_offsets(file, length, num_bytes)
      for file, length in zip(*split.shards)
    ]
    shard = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    self._shard = shard[split.position].astype(np.int32)
    self._offset = np.concatenate(parts)[split.position]

  def read(self, rows: np.ndarray) -> np.ndarray:
    """[b] rows of the split -> [b, L, C] int16."""
    ecg = np.empty((len(rows), self._length, len(self._leads)), np.int16)
    size = 2 * self._length * self._stored_leads
    for i, row in enumerate(rows):
      data = os.pread(self._open(self._shard[row]), size, self._offset[row])
      signal = np.frombuffer(data, '<i2').reshape(self._length, -1)
      ecg[i] = signal[:, self._leads]
    return ecg

  def _open(self, shard: int) -> int:
    if shard not in self._descriptors:
      self._descriptors[shard] = os.open(self._files[shard], os.O_RDONLY)
    return self._descriptors[shard]

  def __del__(self):
    for descriptor in self._descriptors.values():
      os.close(descriptor)


def _varint(value: int) -> bytes:
  """Protocol buffers' base 128 integer."""
  out = bytearray()
  while value > 127:
    out.append(value & 127 | 128)
    value >>= 7
  return bytes([*out, value])


def _marker(num_bytes: int) -> bytes:
  """What precedes the signal in a serialized `tf.train.Example`.

  An entry of the map of features: key 1 is its name and key 2 a `Feature`,
  whose key 1 is a `BytesList`, whose key 1 is the bytes.
  """
  data = b'\x0a' + _varint(num_bytes)  # key 1, then the bytes themselves
  value = b'\x0a' + _varint(len(data) + num_bytes) + data
  feature = b'\x12' + _varint(len(value) + num_bytes) + value
  name = records.SIGNAL.encode()
  return b'\x0a' + _varint(len(name)) + name + feature


def signal_offsets(file: str, length: int, num_bytes: int) -> np.ndarray:
  """[length] int64 offset of the signal of every record of a shard."""
  marker = _marker(num_bytes)
  found = np.empty(length, np.int64)
  error = records.CorruptShard(
    f'shard {file} does not hold {length} records with signals; prepare the '
    'data set again'
  )
  try:
    with open(file, 'rb') as handle:
      content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
  except (OSError, ValueError):  # absent, or empty
    raise error from None
  with content:
    start = 0
    for i in range(length):
      if start + 12 > len(content):
        raise error
      (size,) = struct.unpack_from('<Q', content, start)
      end = start + 12 + size
      at = content.find(marker, start + 12, end)
      if at < 0 or at + len(marker) + num_bytes > end:
        raise error
      found[i] = at + len(marker)
      start = end + 4
    if start != len(content):
      raise error
  return found
