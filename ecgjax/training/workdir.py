"""The folder of a run: it belongs to one config."""

import json
import os
import pathlib

import jax

from ecgjax.config import PLACES, complete, to_json


def check(config, workdir) -> None:
  """Accepts a new folder or that of the same config.

  Raises:
    ValueError: if the folder belongs to another config, naming the first field
      that differs, or is not a work folder.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / 'config.json'
  if path.is_file():
    difference = first_difference(_read(path), to_json(config))
    if difference:
      raise ValueError(
        f'{workdir} belongs to another config ({difference}); choose another '
        '--workdir'
      )
  elif workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
    raise ValueError(
      f'{workdir} exists and is not the work folder of a run (no config.json);'
      ' choose another --workdir'
    )


def create(config, workdir) -> None:
  """Creates the folder and writes `config.json`, unless it is there."""
  workdir = pathlib.Path(workdir)
  path = workdir / 'config.json'
  if jax.process_index() or path.is_file():
    return
  workdir.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix('.tmp')
  text = json.dumps(to_json(config), indent=2)
  temporary.write_text(text + '\n')
  os.replace(temporary, path)


def read_results(workdir) -> dict | None:
  """Results of a finished run, or None.

  Raises:
    ValueError: if the file is damaged; names it.
  """
  path = pathlib.Path(workdir) / 'results.json'
  if not path.is_file():
    return None
  try:
    results = json.loads(path.read_bytes())
    if not isinstance(results, dict) or not results:
      raise ValueError('no results')
    return results
  except ValueError as error:
    raise ValueError(
      f'{path} is damaged ({error}); remove it, and the same command evaluates '
      'again'
    ) from None


def _read(path: pathlib.Path) -> dict:
  """The config of the run, as JSON."""
  try:
    fields = json.loads(path.read_bytes())
    if not isinstance(fields.get('data'), dict):
      raise ValueError('no config of a run')
    return fields
  except (ValueError, AttributeError) as error:
    raise ValueError(
      f'{path} is damaged ({error}); choose another --workdir, or put back the '
      'file'
    ) from None


def first_difference(old: dict, new: dict) -> str:
  """First field in which two configs (as JSON) differ, '' if in none.

  Where the data lie is no difference, nor that an older version lacked a field
  which has its default here.
  """

  def rest(fields):
    data = {k: v for k, v in fields['data'].items() if k not in PLACES}
    return fields | {'data': data}

  return _difference(rest(complete(old)), rest(complete(new)))


def _difference(old: dict, new: dict, prefix: str = '') -> str:
  for name in sorted(old.keys() | new.keys()):
    a, b = old.get(name), new.get(name)
    if isinstance(a, dict) and isinstance(b, dict):
      inner = _difference(a, b, f'{prefix}{name}.')
      if inner:
        return inner
    elif a != b:
      return f'{prefix}{name} is {a} there, {b} here'
  return ''
