"""TFRecords that have the same bytes whenever and wherever they are written."""

from tensorflow_datasets.core import writer


class SameBytesWriter(writer.ExampleWriter):
  """Writes the same bytes in every process.

  A record is a protocol buffer map, whose order changes from run to run.
  """

  def write(self, path, examples):
    from tensorflow.train import Example

    def sorted_maps():
      for key, data in examples:
        example = Example.FromString(data)
        yield key, example.SerializeToString(deterministic=True)

    return super().write(path, sorted_maps())
