"""Speed of the simulator: ECGs per second, end to end.

  python -m benchmarks.simulator

End to end means from ids and class names to a NumPy array in millivolts with
ground truth, batches of 256, compilation apart. If neurokit2 is installed, its
multi-lead simulator is timed beside it (10 s at 100 Hz, one record at a time).
"""

import importlib.util
import time

import jax
import numpy as np

from benchmarks import timing
from ecgjax.simulator import simulator

BATCH = 256
SECONDS = 5  # per figure


def measure_ours(rate: int) -> tuple[float, float, float]:
  """ECGs per second of wall time and of CPU time, and compilation in s."""
  config = simulator.Config(rate, 10 * rate)

  def run(first):
    names = [simulator.CLASSES[k % 11] for k in range(BATCH)]
    factors = np.stack([simulator.factors(name) for name in names])
    ids = first + np.arange(BATCH)
    result = simulator.batch(0, ids, np.zeros(BATCH), factors, config)
    return jax.tree.map(np.asarray, result)

  start = time.perf_counter()
  run(0)
  compilation = time.perf_counter() - start
  batches, wall, cpu = 0, time.perf_counter(), time.process_time()
  while time.perf_counter() - wall < SECONDS:
    batches += 1
    run(batches * BATCH)
  cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
  return batches * BATCH / wall, batches * BATCH / cpu, compilation


def measure_neurokit2() -> float:
  """ECGs per second of neurokit2's 12-lead simulator."""
  import neurokit2

  count, start = 0, time.perf_counter()
  while not count or time.perf_counter() - start < SECONDS:
    neurokit2.ecg_simulate(
      duration=10, sampling_rate=100, method='multileads', random_state=count
    )
    count += 1
  return count / (time.perf_counter() - start)


def measure(options: timing.Options) -> list[timing.Row]:
  del options  # what is counted here is throughput over seconds
  rows, speed = [], {}
  for rate in (100, 500):
    wall, cpu, compilation = measure_ours(rate)
    speed[rate] = wall
    print(
      f'ecgjax, {rate} Hz x 10 s: {wall:.0f} ECG/s, {cpu:.0f} per CPU second; '
      f'compilation {compilation:.1f} s'
    )
    rows.append(timing.Row(f'simulator, {rate} Hz, ECG/s', f'{wall:,.0f}'))
  if importlib.util.find_spec('neurokit2'):
    ratio = speed[100] / measure_neurokit2()
    rows.append(timing.Row('simulator / neurokit2', f'{ratio:.0f}'))
  return rows


if __name__ == '__main__':
  timing.run(measure, __doc__)
