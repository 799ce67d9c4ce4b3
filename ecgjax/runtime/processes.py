"""What the processes of one run must agree on.

A decision that rests on files or on time may come out otherwise on another
host, and hosts that go different ways wait for each other without end. So the
first process decides and tells the others, and the error of one process ends
all of them with the same line.
"""

import json
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np

Value = TypeVar('Value')


def from_first(compute: Callable[[], Value]) -> Value:
  """Returns on every process what the first one computes.

  Args:
    compute: called on the first process alone; what it returns can be JSON.

  Raises:
    ValueError, OSError: on the first process what `compute` raises, on the
      others a ValueError with the same words.
    RuntimeError: on the others, where it raises anything else.
  """
  if jax.process_count() == 1:
    return compute()
  value = error = None
  if jax.process_index() == 0:
    value, error = _attempt(compute)
  answer, *_ = _exchange([value, *_words(error)])
  _raise(error, [answer[1:]])
  return value if jax.process_index() == 0 else answer[0]


def on_all(compute: Callable[[], Value]) -> Value:
  """Returns what each process computes; the first one begins alone.

  Args:
    compute: may find then what the first process has left in a shared folder.

  Raises:
    ValueError, OSError, RuntimeError: as `from_first`, whichever process
      failed.
  """
  if jax.process_count() == 1:
    return compute()
  value = error = None
  for turn in (True, False):
    if (jax.process_index() == 0) == turn:
      value, error = _attempt(compute)
    _raise(error, _exchange(_words(error)))
  return value


def _attempt(compute):
  try:
    return compute(), None
  except Exception as error:  # raised again by `_raise`, on every process
    return None, error


def _words(error) -> list:
  return [str(error or ''), isinstance(error, (ValueError, OSError))]


def _raise(error, words: list) -> None:
  if error is not None:
    raise error
  for text, is_input in words:
    if text:
      raise (ValueError if is_input else RuntimeError)(text)


def _exchange(message) -> list:
  """The messages (as JSON) of all processes, in their order."""
  from jax.experimental import multihost_utils

  data = json.dumps(message).encode()
  sizes = multihost_utils.process_allgather(np.asarray(len(data), np.int32))
  room = 1 << int(max(sizes)).bit_length()  # few programs are compiled
  padded = np.frombuffer(data.ljust(room), np.uint8)
  everyone = np.asarray(multihost_utils.process_allgather(padded))
  return [json.loads(row.tobytes()) for row in everyone]
