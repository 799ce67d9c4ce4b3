"""Optimizers by name, as `optax` transformations."""

import re

import jax
import optax

from ecgjax.config.option import Choice, Number
from ecgjax.training import schedules

OPTIONS = {
  'name': Choice('adam', 'adamw', 'lars', 'sgd'),
  'learning_rate': Number(1e-3, 'float [0, inf)'),
  'schedule': Choice('constant', 'cosine'),
  'warmup_steps': Number(0, 'int [0, inf)'),
  'weight_decay': Number(0.0, 'float [0, inf)'),
  'freeze': '',  # regular expression of parameter paths
}
DECAYING = ('adamw', 'lars')  # those with weight decay


def make_optimizer(options, num_steps: int) -> optax.GradientTransformation:
  """Makes an optimizer.

  Weight decay acts on kernels only (see `kernels`) and as two optimizers define
  it: adamw takes rate * weight_decay * kernel from a kernel beside the step
  (Loshchilov and Hutter 2019), lars adds weight_decay * kernel to its gradient
  (You et al. 2017; stacked encoders share one trust ratio per kernel). The
  others have none and refuse it. Parameters whose path matches
  `freeze`, a regular expression, stay as they are.

  Args:
    options: `config.optimizer`, see `OPTIONS`.
    num_steps: updates of the whole run.

  Raises:
    ValueError: if weight decay is asked of an optimizer that has none.
  """
  rate = schedules.make_learning_rate(
    options.learning_rate, options.schedule, options.warmup_steps, num_steps
  )
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
  if options.weight_decay and options.name not in DECAYING:
    raise ValueError(
      f'config.optimizer.weight_decay is {options.weight_decay:g} and '
      f'{options.name} has none; set it to 0, or config.optimizer.name to '
      + ' or '.join(DECAYING)
    )
  optimizer = makers[options.name]()
  if not options.freeze:
    return optimizer
  labels = lambda params: label_frozen(params, options.freeze)
  return optax.multi_transform(
    {'train': optimizer, 'freeze': optax.set_to_zero()}, labels
  )


def kernels(params):
  """Tree of bool: which parameters are kernels, by name.

  A number of axes does not tell: where encoders are stacked, one per lead, a
  bias has two. Biases, scales and shifts of norms, embedding tables and
  codebooks are no kernels.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == 'kernel', params
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
