"""Command line: `python -m ecgjax.main --config=... --workdir=...`."""

import importlib
import logging
import sys

from absl import app, flags

from ecgjax import process_env

MODES = {
  # mode: module and function, called with (config, workdir)
  'train': ('ecgjax.train', 'train_and_evaluate'),
  'eval': ('ecgjax.evaluate', 'evaluate_checkpoint'),
  'study': ('ecgjax.study', 'run_study'),
  'generate': ('ecgjax.synthesis.generate', 'generate'),
}
EXIT_BAD_INPUT, EXIT_NON_FINITE, EXIT_INTERRUPTED = 2, 4, 75

FLAGS = flags.FLAGS


def parse_flags(argv):
  """Parses flags; a mistake is one line and exit code 2."""
  from ml_collections import config_flags

  config_flags.DEFINE_config_file('config', lock_config=True)
  flags.DEFINE_string('workdir', None, 'Folder of this run.')
  flags.DEFINE_enum('mode', 'train', list(MODES), 'What to do.')
  flags.mark_flags_as_required(['config', 'workdir'])
  try:
    rest = FLAGS(argv)
    if len(rest) > 1:
      raise ValueError(f'unexpected argument {rest[1]!r}')
    check_overrides()
    return rest
  except (flags.Error, AttributeError, KeyError, ValueError, OSError) as error:
    fail(error, EXIT_BAD_INPUT)


def check_overrides():
  """Refuses overrides that replace a whole group of fields."""
  from ml_collections import config_flags

  values = config_flags.get_override_values(FLAGS['config'])
  for name, value in values.items():
    if hasattr(value, 'items'):
      raise ValueError(
        f'--config.{name}={value} would replace a whole group; set its fields '
        f'one by one, e.g. --config.{name}.{next(iter(value), "field")}=...'
      )


def fail(error, code: int):
  """Prints one line and exits."""
  text = ' '.join(str(error).split())
  print(f'ecgjax: {text}', file=sys.stderr)
  sys.exit(code)


def main(argv):
  del argv
  from ecgjax import train

  logging.basicConfig(level=logging.INFO, format='%(message)s')
  module, function = MODES[FLAGS.mode]
  try:
    getattr(importlib.import_module(module), function)(
      FLAGS.config, FLAGS.workdir
    )
  except train.NonFiniteLoss as error:
    fail(error, EXIT_NON_FINITE)
  except train.Interrupted as error:
    fail(error, EXIT_INTERRUPTED)
  except (ValueError, OSError) as error:
    if not raised_by_us(error):
      raise
    fail(error, EXIT_BAD_INPUT)


def raised_by_us(error) -> bool:
  """Whether ecgjax itself found the input wrong; else it is a defect."""
  frame = error.__traceback__
  while frame.tb_next:
    frame = frame.tb_next
  module = frame.tb_frame.f_globals.get('__name__', '')
  return isinstance(error, OSError) or module.startswith('ecgjax')


if __name__ == '__main__':
  process_env.ensure_allocator()
  app.run(main, flags_parser=parse_flags)
