"""Several devices: cost of the collectives, and what a pod should do.

  python -m benchmarks.scaling

Virtual devices of one machine share its cores, so that the same global batch
takes the same time at best: what is measured is the overhead of 1, 2, 4 and 8
of them, for pmap and for jit over a mesh. The cost model is on paper: nothing
in it was measured on an accelerator.
"""

import sys

from benchmarks import timing, worker

LENGTH, BATCH = 1000, 64
DEVICES = (1, 2, 4, 8)
# On paper: peak bfloat16 FLOP/s and bytes/s of memory of one chip, bytes/s of
# its links to the others, and the share of a peak that is assumed.
CHIPS = {
  'TPU v5e': (197e12, 0.82e12, 0.2e12),
  'H100 SXM': (990e12, 3.35e12, 0.45e12),
}
SHARE = 0.4
# Read and written per ECG by one step in bfloat16, half of the 2.9 GB of
# activations that a float32 step of 256 ECGs moves.
BYTES_PER_ECG = 2.9e9 / 256 / 2
FLOP_PER_ECG = 140e6
PER_CHIP = 2048  # ECGs of one chip and step


def jax_parts(mode: str):
  import jax

  from benchmarks import lcd_step
  from ecgjax.ecg.contract import InputContract
  from ecgjax.runtime import parallel
  from ecgjax.training import optimizers, train_step

  config = lcd_step.make_config(LENGTH)
  config.batch_size = BATCH
  batch = lcd_step.random_batch(config)
  method, state, _ = lcd_step.make_step(config, batch)
  compiled = parallel.data_parallel(
    train_step.make_train_step(
      method,
      optimizers.make_optimizer(config.optimizer, 100),
      InputContract.from_config(config),
    ),
    mode,
  )

  def step():
    nonlocal state
    state, metrics = compiled(state, batch)
    return {'loss': float(jax.block_until_ready(metrics['loss']))}

  return {'step': step}


def reduced_bytes() -> int:
  """What one step reduces over the devices: gradients and statistics."""
  import jax

  from benchmarks import lcd_step

  config = lcd_step.make_config(LENGTH)
  config.batch_size = 2
  _, state, _ = lcd_step.make_step(config, lcd_step.random_batch(config))
  reduced = (state.params, state.model_state)
  return sum(leaf.nbytes for leaf in jax.tree.leaves(reduced))


def cost_model(chip: str, chips: int, reduced: int) -> str:
  """Predicted ECG/s of all chips, efficiency, and input rate per host of 8."""
  flops, memory, link = CHIPS[chip]
  compute = PER_CHIP * FLOP_PER_ECG / (flops * SHARE)
  traffic = PER_CHIP * BYTES_PER_ECG / (memory * SHARE)
  # Ring all-reduce, once over the links; the correlation matrix gathers
  # projections of 2 x 512 float32 numbers per ECG.
  gathered = PER_CHIP * chips * 1024 * 4
  communication = (chips > 1) * (2 * reduced + gathered) / link
  step = max(compute, traffic) + communication
  rate = chips * PER_CHIP / step
  per_host = rate * min(8, chips) / chips
  return (
    f'{rate:,.0f} ECG/s; {max(compute, traffic) / step:.0%}; '
    f'{per_host:,.0f} records/s = {per_host * 16e3 / 1e9:.1f} GB/s per host'
  )


def measure(options: timing.Options) -> list[timing.Row]:
  workers = {
    (mode, count): worker.Worker(
      'benchmarks.scaling',
      [mode],
      environ={'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}'},
    )
    for count in DEVICES
    for mode in ('pmap', 'jit')
  }
  losses = {name: each.ask('step')['loss'] for name, each in workers.items()}
  samples = timing.interleaved(
    {k: lambda w=each: w.sample('step') for k, each in workers.items()},
    options.rounds,
  )
  for each in workers.values():
    with each:
      pass
  spread = max(losses.values()) - min(losses.values())
  print(f'first losses differ by {spread:.1e} at most')
  times = {k: 1e3 * timing.median(taken).wall for k, taken in samples.items()}
  rows = [
    timing.Row(
      f'LCD step, {mode}, global B = {BATCH}, on {DEVICES} virtual devices, ms',
      ' / '.join(f'{times[mode, count]:.0f}' for count in DEVICES),
    )
    for mode in ('pmap', 'jit')
  ]
  reduced = reduced_bytes()
  rows += [
    timing.Row(
      f'on paper, not measured: {chips} x {chip}, B = {PER_CHIP} per chip: all '
      f'ECGs; efficiency; input ({reduced / 1e6:.1f} MB reduced per step)',
      cost_model(chip, chips, reduced),
    )
    for chip in CHIPS
    for chips in (1, 8, 64)
  ]
  return rows


if __name__ == '__main__':
  if sys.argv[1:2] == ['--worker']:
    worker.serve_jax(jax_parts, sys.argv[2])
  else:
    timing.run(measure, __doc__)
