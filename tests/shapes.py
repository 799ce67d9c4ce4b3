"""Shapes that signatures of `ecg`, `losses` and `models` name, checked."""

import importlib.util
import typing

ROOMS = ('ecgjax.ecg', 'ecgjax.losses', 'ecgjax.models')
INSTALLED = all(map(importlib.util.find_spec, ('beartype', 'jaxtyping')))


def install() -> None:
  """Checks every call from now on; before the rooms are imported."""
  if INSTALLED:
    import jaxtyping

    jaxtyping.install_import_hook(ROOMS, 'tests.shapes.check_arrays')


def check_arrays(function):
  """The function with its arrays checked; other types are mypy's business."""
  from beartype import beartype

  types = getattr(function, '__annotations__', {})
  if isinstance(function, type):
    return function
  arrays = {name: kind for name, kind in types.items() if _is_array(kind)}
  if not arrays:
    return function
  function.__annotations__ = arrays
  return beartype(function)


def _is_array(kind) -> bool:
  from jaxtyping import AbstractArray

  parts = typing.get_args(kind)
  if isinstance(kind, type) and issubclass(kind, AbstractArray):
    return True
  return any(map(_is_array, parts))
