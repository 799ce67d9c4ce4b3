"""Command line: `python -m ecgjax.main --config=... --workdir=...`."""

import importlib
import os

from absl import app, flags

from ecgjax.runtime import console, process

MODES = {
  # mode: module and function, called with (config, workdir)
  'train': ('ecgjax.train', 'train_and_evaluate'),
  'eval': ('ecgjax.evaluate', 'evaluate_checkpoint'),
  'study': ('ecgjax.studies.study', 'run_study'),
  'generate': ('ecgjax.generation.generate', 'generate'),
}
EXIT_BAD_INPUT, EXIT_NON_FINITE, EXIT_INTERRUPTED = 2, 4, 75

FLAGS = flags.FLAGS


def parse_flags(argv):
  """Parses flags; a mistake is one line and exit code 2."""
  from ml_collections import config_flags

  config_flags.DEFINE_config_file('config', lock_config=True)
  flags.DEFINE_string('workdir', None, 'Folder of this run.')
  flags.DEFINE_enum('mode', None, list(MODES), "What to do: the config's own.")
  flags.mark_flags_as_required(['config', 'workdir'])
  try:
    rest = FLAGS(argv)
    if len(rest) > 1:
      raise ValueError(f'unexpected argument {rest[1]!r}')
    values = config_flags.get_override_values(FLAGS['config'])
    for name, value in values.items():
      if hasattr(value, 'items'):  # ml_collections would drop the other fields
        raise ValueError(
          f'--config.{name} is a group of fields; set them one by one, e.g. '
          f'--config.{name}.{next(iter(value), "field")}=...'
        )
    return rest
  except (flags.Error, AttributeError, KeyError, ValueError, OSError) as error:
    console.fail(error, EXIT_BAD_INPUT)


def main(argv):
  del argv
  from ecgjax import train
  from ecgjax.config import check
  from ecgjax.runtime import parallel

  console.set_up_logging()
  process.compute_in_calling_thread()
  parallel.keep_compiled_programs()
  config, workdir = FLAGS.config, os.path.expanduser(FLAGS.workdir)
  try:
    mode = FLAGS.mode or config.mode
    check.expand_home(config)
    check.check(config, mode)
    if config.distributed and mode != 'train':
      raise ValueError(
        f'--mode={mode} runs in one process; leave config.distributed False'
      )
    if config.distributed:
      parallel.initialise_distributed()
    module, function = MODES[mode]
    getattr(importlib.import_module(module), function)(config, workdir)
  except train.NonFiniteLoss as error:
    console.fail(error, EXIT_NON_FINITE)
  except train.Interrupted as error:
    console.fail(error, EXIT_INTERRUPTED)
  except (ValueError, OSError) as error:
    if not console.raised_by_us(error):
      raise
    console.fail(error, EXIT_BAD_INPUT)


if __name__ == '__main__':
  process.stop_on_signals(EXIT_INTERRUPTED)
  process.ensure_allocator()
  app.run(main, flags_parser=parse_flags)
