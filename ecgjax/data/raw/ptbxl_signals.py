"""Which of PTB-XL's published signals a data set was made of.

PTB-XL 1.0.3 comes at 100 Hz and at 500 Hz, and neither can be had from the
other (docs/data.md). Free of TensorFlow.
"""

from collections.abc import Sequence

# The last is the second without the value that is held at its end.
SIGNALS = ('records100', 'records500', 'records500-unheld')


def default_signal(rate: float) -> str:
  """Returns the published signal from which ECGs of a rate are made."""
  return 'records100' if rate <= 100 else 'records500'


def signal_of(name: str, rate: float, sources: Sequence[str]) -> str:
  """Returns which signal of PTB-XL a data set holds; '' if none.

  Args:
    name: module of the data set, e.g. 'ptbxl'.
    rate: Hz.
    sources: of its config; () means all, or the default.
  """
  if name == 'ptbxl':
    return tuple(sources)[0] if sources else default_signal(rate)
  if name == 'cinc2021' and (not sources or 'ptb-xl' in sources):
    return 'records500'
  return ''


def signal_warning(trained: str, judged: str) -> str:
  """Returns a line of warning if a model is judged on another signal.

  Args:
    trained: `signal_of` the data that a model was trained on.
    judged: `signal_of` the data that it is evaluated on.
  """
  if not trained or not judged or trained == judged:
    return ''
  return (
    f'trained on {trained} of PTB-XL and judged on {judged}: two published '
    'signals of the same recordings that differ in time, filter and end (see '
    f'docs/data.md); --config.data.sources="(\'{trained}\',)" takes the same '
    'of ptbxl'
  )
