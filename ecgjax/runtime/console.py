"""What a person sees on the terminal: one line per event or mistake."""

import logging
import sys

import tqdm
from absl import logging as absl_logging


def fail(error, code: int):
  """Prints one line and exits."""
  print(f'ecgjax: {one_line(error)}', file=sys.stderr)
  sys.exit(code)


def one_line(error) -> str:
  """Returns the message of an error without its traceback."""
  text = str(error.args[0] if isinstance(error, KeyError) else error)
  if 'Traceback (most recent call last)' in text:  # of a config file
    text = text.strip().splitlines()[-1]
  return ' '.join(text.split())


def raised_by_us(error) -> bool:
  """True if ecgjax itself found the input wrong; else it is a defect."""
  frame = error.__traceback__
  while frame.tb_next:
    frame = frame.tb_next
  names = frame.tb_frame.f_globals
  spec = names.get('__spec__')  # knows what __main__ is with `python -m`
  module = spec.name if spec else names.get('__name__', '')
  return isinstance(error, OSError) or module.startswith('ecgjax')


def set_up_logging() -> None:
  """Logs our lines above the progress bar, and only warnings of others."""
  absl_logging.set_verbosity(absl_logging.WARNING)
  logger = logging.getLogger('ecgjax')
  logger.setLevel(logging.INFO)
  logger.propagate = False
  logger.addHandler(_TqdmHandler())


class _TqdmHandler(logging.Handler):
  """Writes to stderr without tearing a progress bar."""

  def emit(self, record):
    tqdm.tqdm.write(record.getMessage(), file=sys.stderr)
