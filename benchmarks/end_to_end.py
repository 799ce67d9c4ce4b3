"""From a raw folder to trained epochs, against the PyTorch twin.

  python -m benchmarks.end_to_end --raw_dir=DIR [--torch_python=PYTHON]

DIR is a folder of PTB-XL; LCD trains on its training records at 100 Hz. ecgjax
runs `train.py`'s own parts: checked TFRecords, batches gathered on the device,
augmentation in the step. The twin does as LCD's authors do: wfdb to .npy, then
SciPy augmentation of all eight leads in the worker processes of a DataLoader.
An epoch of ecgjax and one of every setting of the twin are timed in turn.
"""

import os
import sys
import tempfile

from benchmarks import timing, worker
from ecgjax.data.store import prepared

BATCH = 256
WORKERS = (0, 2, 4)
EPOCHS = 100  # of the run whose duration is extrapolated


def make_config(raw_dir: str, data_dir: str):
  from configs import lcd as lcd_config

  config = lcd_config.get_config('dataset=ptbxl').unlock()
  config.batch_size = BATCH
  config.data.raw_dir, config.data.dir = raw_dir, data_dir
  return config


def write_npy(data_dir: str, raw_dir: str, path: str) -> None:
  """The twin's file: read by wfdb, standardised per record, [N, 8, L]."""
  import numpy as np
  import wfdb

  from ecgjax.ecg import leads

  builder = prepared.make_builder('ptbxl', data_dir)
  columns = list(leads.indices(leads.LCD_LEADS))
  records = [
    wfdb.rdrecord(os.path.join(raw_dir, entry.path)).p_signal[:, columns].T
    for entry in builder.plan(raw_dir).entries
    if entry.split == 'train'
  ]
  ecg = np.asarray(records, np.float32)
  ecg -= ecg.mean((1, 2), keepdims=True)
  np.save(path, ecg / (ecg.std((1, 2), keepdims=True) + 1e-5))


def jax_parts(raw_dir: str, data_dir: str):
  """One epoch of training, by name `epoch`."""
  import jax

  from benchmarks import lcd_step
  from ecgjax.data.batches import run_data, shuffle

  config = make_config(raw_dir, data_dir)
  data = run_data.open_data(config.data)
  batches = run_data.make_batches(
    data.splits['train'],
    data.splits['validation'],
    shuffle.Order(config.batch_size, config.seed),
    on_device=True,
  )
  iterator = batches.train(0)
  _, state, step = lcd_step.make_step(config, next(iterator))

  def epoch():
    nonlocal state
    for _ in range(batches.steps_per_epoch):
      state, _ = step(state, next(iterator))
    jax.block_until_ready(state)
    return {'records': BATCH * batches.steps_per_epoch}

  return {'epoch': epoch}


def prepare_both(options: timing.Options, data_dir: str, path: str):
  """Seconds of ecgjax and of the twin from raw files to what they train on."""

  build = lambda: prepared.build(
    'ptbxl', data_dir, 100, options.raw_dir, workers=os.cpu_count()
  )
  convert = lambda: write_npy(data_dir, options.raw_dir, path)
  return timing.sample(build).wall, timing.sample(convert).wall


def measure(options: timing.Options) -> list[timing.Row]:
  if not options.raw_dir:
    return [timing.Row('LCD end to end', 'not measured: no --raw_dir')]
  if not options.torch_version():
    return [timing.Row('LCD end to end', 'not measured: no PyTorch')]
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'records.npy')
    prepared = prepare_both(options, folder, path)
    workers = {
      'ecgjax': worker.Worker(
        'benchmarks.end_to_end', ['jax', options.raw_dir, folder]
      )
    }
    for count in WORKERS:
      workers[count] = worker.Worker(
        'benchmarks.end_to_end',
        ['torch', path, count],
        python=options.torch_python,
        kept=False,
      )
    records = {k: each.ask('epoch')['records'] for k, each in workers.items()}
    samples = timing.interleaved(
      {k: lambda w=each: w.sample('epoch') for k, each in workers.items()},
      options.rounds,
    )
    for each in workers.values():
      with each:
        pass
  seconds = {k: timing.median(taken).wall for k, taken in samples.items()}
  rates = {k: records[k] / s for k, s in seconds.items()}
  for name, rate in rates.items():
    label = name if name == 'ecgjax' else f'twin, {name} workers'
    walls = ' '.join(f'{s.wall:.2f}' for s in samples[name])
    print(f'{label}: {rate:.0f} records/s ({walls} s)')
  ours = rates.pop('ecgjax')
  best = max(rates, key=rates.get)
  whole = [
    start + EPOCHS * seconds[k] for start, k in zip(prepared, ('ecgjax', best))
  ]
  where = f'LCD end to end, L = 1000, {ours:.0f} records/s; / the twin with'
  return [
    timing.Row(f'{where} 2 workers', f'{ours / rates[2]:.2f}', '1.8', '3'),
    timing.Row(
      f'{where} its best number of workers ({best})',
      f'{ours / rates[best]:.2f}',
      '1.5',
      '2.5',
    ),
    timing.Row(
      f'raw folder to {EPOCHS} epochs of {records["ecgjax"]} records, the twin '
      f'/ ecgjax (preparation measured once, {prepared[1]:.0f} s / '
      f'{prepared[0]:.0f} s)',
      f'{whole[1] / whole[0]:.2f}',
    ),
  ]


if __name__ == '__main__':
  if sys.argv[1:2] == ['--worker']:
    side, *arguments = sys.argv[2:]
    if side == 'torch':
      from benchmarks import torch_loader

      path, count = arguments
      worker.serve(torch_loader.make_parts(path, int(count), BATCH))
    else:
      worker.serve_jax(jax_parts, *arguments)
  else:
    timing.run(measure, __doc__)
