"""The only file that knows devices."""

import functools
import os
from collections.abc import Callable

import jax
import numpy as np

AXIS = 'batch'
MODES = ('pmap', 'jit')


def data_parallel(
  step: Callable, mode: str = 'pmap', devices=None, whole_below: int = 0
) -> Callable:
  """Returns `step(state, batch, axis_name)` made to run on all devices.

  State and results are the same on every device and carry no device axis, so
  that checkpoints are the same for both modes and for any number of devices.

  Args:
    step: pure; everything it returns is reduced over `axis_name`.
    mode: 'pmap' splits the batch over a mapped axis; 'jit' shards it over a
      one-axis mesh and lets the compiler place the collectives. With one
      device there is nothing to split, and both are the same program.
    devices: defaults to all devices of all processes.
    whole_below: batches of fewer rows, the last ones of their epochs, are not
      split: every device computes the whole of them. One process only.

  Returns:
    `(state, batch) -> (state, metrics)`; the batch, or a tuple of batches,
    holds the rows of this process, in the order of the global batch. The
    memory of the given state is used again: it is gone.

  Raises:
    ValueError: if the mode is unknown or a batch cannot be split evenly.
  """
  if mode not in MODES:
    raise ValueError(
      f'config.parallel is {mode!r}; choose one of {", ".join(MODES)}'
    )
  devices = list(devices or jax.devices())
  if len(devices) == 1:
    return _make_alone(step, devices[0])
  mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  share = sum(d.process_index == jax.process_index() for d in devices)
  make = _make_mapped if mode == 'pmap' else _make_sharded
  on_shares = make(step, mesh, share)
  on_whole = jax.jit(
    functools.partial(step, axis_name=None),
    in_shardings=everywhere,
    out_shardings=everywhere,
    donate_argnums=0,
  )

  def run(state, batch):
    # Where the step leaves it: found elsewhere, the step is compiled again.
    # Among several processes, the step alone may put it there.
    if jax.process_count() == 1:
      state = jax.device_put(state, everywhere)
    size = len(jax.tree.leaves(batch)[0])
    if size < whole_below:
      return on_whole(state, jax.device_put(batch, everywhere))
    if size % share:
      raise ValueError(
        f'a batch of {size} rows per process cannot be split over {share} '
        'devices; change config.batch_size'
      )
    return on_shares(state, batch)

  return run


def _make_alone(step, device) -> Callable:
  """On one device: nothing to split, nothing to reduce."""
  compiled = jax.jit(step, donate_argnums=0)
  return lambda state, batch: compiled(*jax.device_put((state, batch), device))


def _make_mapped(step, mesh, share: int) -> Callable:
  """One program per device, which knows of the others by the axis alone."""
  mapped = jax.pmap(
    functools.partial(step, axis_name=AXIS),
    axis_name=AXIS,
    in_axes=(None, 0),
    out_axes=None,
    devices=list(mesh.devices),
    donate_argnums=0,
  )
  split = lambda x: x.reshape((share, -1) + x.shape[1:])
  return lambda state, batch: mapped(state, jax.tree.map(split, batch))


def _make_sharded(step, mesh, share: int) -> Callable:
  """One program of all devices; the compiler places what it must reduce."""
  del share
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  compiled = jax.jit(
    functools.partial(step, axis_name=None),
    in_shardings=(everywhere, rows),
    out_shardings=everywhere,
    donate_argnums=0,
  )
  split = functools.partial(jax.make_array_from_process_local_data, rows)
  return lambda state, batch: compiled(state, jax.tree.map(split, batch))


def local(tree):
  """Returns what a step has returned, on this process's first device.

  The state is the same everywhere; what a process does with it by itself
  (validation, checkpoints, the test split) must not wait for the others.
  """
  return jax.tree.map(lambda x: x.addressable_data(0), tree)


def keep_compiled_programs() -> None:
  """Keeps compiled programs between runs, unless JAX was told where."""
  if not jax.config.jax_compilation_cache_dir:
    folder = os.path.join(os.path.expanduser('~'), '.cache', 'ecgjax', 'xla')
    jax.config.update('jax_compilation_cache_dir', folder)


def initialise_distributed() -> None:
  """Joins the processes of a pod or cluster, before JAX is used.

  On a TPU pod, under SLURM or Open MPI everything is detected; elsewhere
  ECGJAX_COORDINATOR (host:port), ECGJAX_PROCESSES and ECGJAX_PROCESS say it.

  Raises:
    ValueError: if one of the latter two is missing or out of range.
  """
  address = os.environ.get('ECGJAX_COORDINATOR')
  if address is None:
    jax.distributed.initialize()
    return
  numbers = []
  for name in ('ECGJAX_PROCESSES', 'ECGJAX_PROCESS'):
    text = os.environ.get(name, '')
    if not text.isdecimal():
      raise ValueError(
        f'{name} is {text!r}; with ECGJAX_COORDINATOR it must be a number'
      )
    numbers.append(int(text))
  count, index = numbers
  if index >= count:
    raise ValueError(
      f'ECGJAX_PROCESS is {index}; the {count} processes of ECGJAX_PROCESSES '
      'are counted from 0'
    )
  jax.distributed.initialize(address, count, index)
