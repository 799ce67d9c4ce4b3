"""Optimizers by name, as `optax` transformations."""

import re

import jax
import optax

from ecgjax.training import schedules

OPTIMIZERS = ('adam', 'adamw', 'lars', 'sgd')


def make_optimizer(config, num_steps: int) -> optax.GradientTransformation:
  """Makes the optimizer of `config.optimizer`.

  Weight decay (adamw, lars) acts on kernels only, never on biases, BatchNorm
  or codebooks. Parameters whose path matches `config.optimizer.freeze`, a
  regular expression, stay as they are.

  Args:
    config: fields name, learning_rate, schedule, warmup_steps, weight_decay
      and freeze of `config.optimizer`.
    num_steps: updates of the whole run.

  Raises:
    ValueError: if a name is unknown.
  """
  options = config.optimizer
  rate = schedules.make_learning_rate(
    options.learning_rate, options.schedule, options.warmup_steps, num_steps
  )
  kernels = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
  makers = {
    'adam': lambda: optax.adam(rate),
    'adamw': lambda: optax.adamw(
      rate, weight_decay=options.weight_decay, mask=kernels
    ),
    'lars': lambda: optax.lars(
      rate,
      weight_decay=options.weight_decay,
      weight_decay_mask=kernels,
      trust_ratio_mask=kernels,
    ),
    'sgd': lambda: optax.sgd(rate, momentum=0.9),
  }
  if options.name not in makers:
    raise ValueError(
      f'config.optimizer.name is {options.name!r}; choose one of '
      + ', '.join(OPTIMIZERS)
    )
  optimizer = makers[options.name]()
  if not options.freeze:
    return optimizer
  labels = lambda params: label_frozen(params, options.freeze)
  return optax.multi_transform(
    {'train': optimizer, 'freeze': optax.set_to_zero()}, labels
  )


def label_frozen(params, pattern: str):
  """Labels every parameter 'freeze' if its path matches, else 'train'.

  Paths look like 'encoder/ConvNorm_0/kernel'.

  Raises:
    ValueError: if the pattern matches no parameter, or all of them.
  """
  regex = re.compile(pattern)

  def label(path, _):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return 'freeze' if regex.search(name) else 'train'

  labels = jax.tree_util.tree_map_with_path(label, params)
  found = set(jax.tree.leaves(labels))
  if len(found) < 2:
    raise ValueError(
      f'config.optimizer.freeze {pattern!r} matches '
      + ('every' if 'freeze' in found else 'no')
      + ' parameter'
    )
  return labels
