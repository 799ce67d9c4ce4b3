"""Preparation against `wfdb.rdrecord`, per core, on files in the page cache.

  python -m benchmarks.prepare --raw_dir=DIR

DIR is a folder of PTB-XL (format 16). ecgjax reads, verifies checksums, applies
every check of `data/validate` and converts to what is stored; wfdb only reads.
Both in this process, by its CPU time.
"""

import os
import tempfile

from benchmarks import timing
from ecgjax.data import ptbxl
from ecgjax.data.store import convert, prepared

RECORDS = 400


def measure_rate(rate: int, options: timing.Options) -> timing.Row:
  """CPU time of wfdb over that of ecgjax, for files of one sampling rate."""
  import wfdb

  builder = prepared.make_builder('ptbxl', tempfile.gettempdir(), rate)
  entries = builder.plan(options.raw_dir).entries
  exists = lambda path: os.path.exists(
    os.path.join(options.raw_dir, path + '.dat')
  )
  jobs = [
    (convert.Job(entry.path, entry.rules), entry.record_id)
    for entry in entries
    if exists(entry.path)
  ][:RECORDS]

  def ours():
    for result in convert.convert_all(jobs, options.raw_dir, rate):
      assert isinstance(result, convert.Converted), result

  def wfdb_only():
    for job, _ in jobs:
      wfdb.rdrecord(os.path.join(options.raw_dir, job.path))

  times = timing.medians({'ecgjax': ours, 'wfdb': wfdb_only}, options.rounds)
  speed = {name: len(jobs) / taken.cpu for name, taken in times.items()}
  must, aim = {100: ('10', '30'), 500: ('6', '20')}[rate]
  return timing.Row(
    f'prepare / wfdb.rdrecord, per core, {rate} Hz, checks included (records/s '
    f'per CPU second: {speed["ecgjax"]:,.0f} and {speed["wfdb"]:,.0f})',
    f'{speed["ecgjax"] / speed["wfdb"]:.1f}',
    must,
    aim,
  )


def measure_command(options: timing.Options) -> timing.Row:
  """The whole command at 100 Hz, with as many workers as there are cores."""
  with tempfile.TemporaryDirectory() as directory:
    built = []

    def build():
      builder, _ = prepared.build(
        'ptbxl', directory, 100, options.raw_dir, workers=os.cpu_count()
      )
      built.append(sum(s.num_examples for s in builder.info.splits.values()))

    taken = timing.sample(build)
  return timing.Row(
    f'prepare --dataset={ptbxl.__name__.split(".")[-1]} at 100 Hz, '
    f'{built[0]} records: records/s and seconds',
    f'{built[0] / taken.wall:,.0f}; {taken.wall:.1f}',
    'under 30 s',
  )


def measure(options: timing.Options) -> list[timing.Row]:
  if not options.raw_dir:
    return [timing.Row('prepare', 'not measured: no --raw_dir')]
  return [
    measure_rate(100, options),
    measure_rate(500, options),
    measure_command(options),
  ]


if __name__ == '__main__':
  timing.run(measure, __doc__)
