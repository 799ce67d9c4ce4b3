"""Speed of the rasteriser: ECG pages per second, beside a NumPy twin.

  python -m benchmarks.raster [--rounds=5]

A page is '3x4+1' of 10 s, from millivolts in memory to grey levels in memory,
batches of 128, compilation apart. The twin (`raster_twin`) draws one page after
the other on one thread.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import raster_twin, timing
from ecgjax.ecg import page, raster
from ecgjax.simulator import simulator

BATCH = 128
TWIN_PAGES = 16
# px/mm -> pages/s: must, aim.
_WANTED = {1: ('', '14,600'), 2: ('1,000', '6,900'), 4: ('', '1,600')}
RESOLUTIONS = tuple(_WANTED)
RATE = 100  # Hz


def simulate(rate: int) -> np.ndarray:
  """[BATCH, L, 12] mV."""
  names = [simulator.CLASSES[k % 11] for k in range(BATCH)]
  factors = np.stack([simulator.factors(name) for name in names])
  ids = np.arange(BATCH)
  config = simulator.Config(rate, 10 * rate)
  return np.asarray(simulator.batch(0, ids, 0 * ids, factors, config)[0])


def make_tasks(ecg, rate: int, resolution: int):
  """Functions that draw a batch: by the library, and `TWIN_PAGES` by NumPy."""
  paper = page.make(resolution=resolution)
  draw = jax.jit(
    lambda ecg: raster.to_grey(
      jax.vmap(lambda one: raster.render(one, rate, paper))(ecg)
    )
  )
  on_device = jnp.asarray(ecg)
  library = lambda: draw(on_device).block_until_ready()

  def twin():
    for one in ecg[:TWIN_PAGES]:
      raster_twin.page(one, resolution)

  return lambda: timing.sample(library), lambda: timing.sample(twin)


def measure(options: timing.Options) -> list[timing.Row]:
  ecg = simulate(RATE)
  tasks = {}
  for m in RESOLUTIONS:
    tasks[m, 'library'], tasks[m, 'twin'] = make_tasks(ecg, RATE, m)
  samples = timing.interleaved(tasks, options.rounds)
  rows = []
  for m in RESOLUTIONS:
    library = timing.median(samples[m, 'library'])
    speed = BATCH / library.wall
    twin = TWIN_PAGES / timing.median(samples[m, 'twin']).wall
    print(f'{m} px/mm: {BATCH / library.cpu:,.0f} pages per CPU second')
    must, aim = _WANTED[m]
    rows.append(
      timing.Row(
        f'ECG pages/s, {m} px/mm ({250 * m} x {120 * m}); and / NumPy on one '
        'thread',
        f'{speed:,.0f}; {speed / twin:.1f}',
        must,
        aim,
      )
    )
  return rows


if __name__ == '__main__':
  timing.run(measure, __doc__)
