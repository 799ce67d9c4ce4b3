"""The folder of a run: it belongs to one config."""

import json
import os
import pathlib

import jax

from ecgjax import config as config_lib


def prepare_workdir(config, workdir) -> pathlib.Path:
  """Creates a work folder, or accepts that of the same config.

  Raises:
    ValueError: if the folder belongs to another config or is not a work
      folder; names the first field that differs.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / 'config.json'
  fields = config_lib.to_json(config)
  if path.is_file():
    for name in ('dir', 'raw_dir'):  # where the data lie is not what they are
      fields['data'].pop(name, None)
    old = json.loads(path.read_text())
    for name in ('dir', 'raw_dir'):
      old['data'].pop(name, None)
    difference = _first_difference(old, fields)
    if difference:
      raise ValueError(
        f'{workdir} belongs to another config ({difference}); choose another '
        '--workdir'
      )
    return workdir
  if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
    raise ValueError(
      f'{workdir} exists and is not the work folder of a run (no config.json);'
      ' choose another --workdir'
    )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(fields, indent=2) + '\n')
    os.replace(temporary, path)
  return workdir


def _first_difference(old: dict, new: dict, prefix: str = '') -> str:
  for name in sorted(old.keys() | new.keys()):
    a, b = old.get(name), new.get(name)
    if isinstance(a, dict) and isinstance(b, dict):
      inner = _first_difference(a, b, f'{prefix}{name}.')
      if inner:
        return inner
    elif a != b:
      return f'{prefix}{name} is {a} there, {b} here'
  return ''
