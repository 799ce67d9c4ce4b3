"""Schedules: pure functions of the step (updates, not epochs)."""

from collections.abc import Callable

import optax


def make_learning_rate(
  peak: float, schedule: str, warmup_steps: int, num_steps: int
) -> Callable:
  """Learning rate against the step.

  Args:
    peak: rate after the warm-up.
    schedule: 'constant', or 'cosine' decay to zero at `num_steps`.
    warmup_steps: updates of linear warm-up from zero.
    num_steps: updates of the whole run.

  Raises:
    ValueError: if the warm-up is too long.
  """
  if warmup_steps >= num_steps > 0:
    raise ValueError(
      f'config.optimizer.warmup_steps is {warmup_steps}, but the run has only '
      f'{num_steps} steps'
    )
  if schedule == 'constant':
    main = optax.constant_schedule(peak)
  else:
    main = optax.cosine_decay_schedule(peak, num_steps - warmup_steps)
  if not warmup_steps:
    return main
  warmup = optax.linear_schedule(0.0, peak, warmup_steps)
  return optax.join_schedules([warmup, main], [warmup_steps])
