"""Checkpoints: orbax for the arrays, a sha256 manifest against bit rot.

`<directory>/<step>/` holds `state/` (arrays), `meta/` (JSON: config, input
contract, position in the data, data set fingerprint, code version, metrics)
and `sha256.json`, the digests of all other files, written last. Orbax alone
restores a file with a flipped bit without a word; here a step counts only if
every digest holds, and the newest such step is used.

The only file that imports orbax.
"""

import hashlib
import json
import logging
import math
import os
import pathlib
from typing import Any

import jax
import numpy as np

from ecgjax.runtime import processes

MANIFEST = 'sha256.json'

logger = logging.getLogger(__name__)


class CheckpointError(ValueError):
  """A checkpoint is missing, damaged, or does not fit; one line."""


def _orbax():
  import orbax.checkpoint as ocp

  logging.getLogger('absl').setLevel(logging.ERROR)  # orbax notices
  return ocp


def _alone(ocp, state_handler):
  """Orbax's checkpointer of this process, which waits for no other."""
  me = jax.process_index()
  options = ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'{me}'
  )
  handler = ocp.CompositeCheckpointHandler(
    composite_options=ocp.CompositeOptions(multiprocessing_options=options),
    state=state_handler(multiprocessing_options=options),
    meta=ocp.JsonCheckpointHandler(multiprocessing_options=options),
  )
  return ocp.Checkpointer(handler, multiprocessing_options=options)


class Checkpointer:
  """Saves and restores the state of one run.

  Attributes:
    directory: folder with one sub-folder per step.
    keep_latest: number of newest steps kept; the best one is kept as well.
    best_metric: key of the saved metrics that makes a step the best, or ''.
    best_mode: 'min' or 'max'.
  """

  def __init__(
    self,
    directory,
    *,
    keep_latest: int = 3,
    best_metric: str = '',
    best_mode: str = 'min',
  ):
    self.directory = pathlib.Path(directory).resolve()
    self.keep_latest = keep_latest
    self.best_metric = best_metric
    self.best_mode = best_mode
    self._valid: dict[int, dict] = {}  # step -> metadata, verified once

  def steps(self) -> list[int]:
    """Steps with a folder, newest first, whether valid or not."""
    if not self.directory.is_dir():
      return []
    names = [p.name for p in self.directory.iterdir() if p.is_dir()]
    numbers = (int(n) for n in names if n.isascii() and n.isdecimal())
    return sorted((n for n in numbers if str(n) in names), reverse=True)

  def valid_steps(self) -> list[int]:
    """Steps whose every digest holds, newest first; warns of the others."""
    found = []
    for step in self.steps():
      if step not in self._valid:
        try:
          self._valid[step] = self._verify(step)
        except CheckpointError as error:
          logger.warning('Checkpoint skipped: %s', error)
          continue
      found.append(step)
    return found

  def latest_step(self) -> int | None:
    """Newest valid step, or None."""
    return next(iter(self.valid_steps()), None)

  def best_step(self) -> int | None:
    """Valid step with the best `best_metric` (latest among equals).

    None if no step has a finite one: NaN is never the best.
    """
    sign = 1 if self.best_mode == 'min' else -1
    scored = []
    for step in self.valid_steps():
      value = self.metadata(step)['metrics'].get(self.best_metric)
      if value is not None and math.isfinite(value):
        scored.append((sign * value, -step))
    return -min(scored)[1] if scored else None

  def metadata(self, step: int) -> dict:
    """JSON saved beside the arrays of a valid step."""
    if step not in self._valid:
      self._valid[step] = self._verify(step)
    return self._valid[step]

  def _verify(self, step: int) -> dict:
    folder = self.directory / str(step)
    metadata = verify(folder)
    saved = metadata.get('step', step)  # old ones do not say
    if saved != step:
      raise CheckpointError(f'{folder} is step {saved} under another name')
    return metadata

  def save(self, state, metadata: dict, metrics: dict[str, float]) -> None:
    """Saves one step and removes those that are neither latest nor best.

    A step that exists (a run killed between this save and its manifest, or one
    that was found damaged) is replaced. Every process must call this.

    Args:
      state: TrainState, on devices of this process.
      metadata: JSON-able; see the module docstring.
      metrics: validation metrics of this step, may be empty.
    """
    step = int(state.step)
    metadata = metadata | {'step': step, 'metrics': metrics}
    metadata = json.loads(json.dumps(metadata))
    processes.from_first(lambda: self._write(state, step, metadata))
    self._valid[step] = metadata

  def _write(self, state, step: int, metadata: dict) -> None:
    folder = self.directory / str(step)
    if folder.exists():
      _remove(folder)
    arrays = state.replace(rng=jax.random.key_data(state.rng))
    ocp = _orbax()
    with _alone(ocp, ocp.StandardCheckpointHandler) as saver:
      saver.save(
        folder,
        args=ocp.args.Composite(
          # As NumPy arrays: orbax refuses arrays on devices of one process
          # among several.
          state=ocp.args.StandardSave(jax.device_get(arrays)),
          meta=ocp.args.JsonSave(metadata),
        ),
      )
    _write_manifest(folder)
    self._valid[step] = metadata
    self._retain()

  def _retain(self) -> None:
    valid = self.valid_steps()
    keep = set(valid[: self.keep_latest])
    if self.best_metric and (best := self.best_step()) is not None:
      keep.add(best)
    for step in self.steps():
      if step not in keep and step <= valid[0]:
        self._valid.pop(step, None)
        _remove(self.directory / str(step))

  def restore(self, state, step: int):
    """Restores one step into a state of the same structure.

    Args:
      state: a TrainState with the expected shapes and types.
      step: a valid step.

    Raises:
      CheckpointError: if a digest, name, shape or type differs; names it.
    """
    self.metadata(step)
    folder = self.directory / str(step)
    arrays = state.replace(rng=jax.random.key_data(state.rng))
    arrays = fit(_plain(arrays), load_arrays(folder), where=f'{folder}')
    rng = jax.random.wrap_key_data(arrays.rng, impl='threefry2x32')
    return arrays.replace(rng=rng)


def load_arrays(folder) -> Any:
  """All arrays of one step as nested dicts of NumPy arrays."""
  ocp = _orbax()
  folder = pathlib.Path(folder).resolve()
  with _alone(ocp, ocp.PyTreeCheckpointHandler) as loader:
    tree = loader.metadata(folder).item_metadata['state'].tree
    args = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
    )
    state = ocp.args.PyTreeRestore(restore_args=args)
    return loader.restore(folder, args=ocp.args.Composite(state=state))['state']


def load(directory, step: int | None = None) -> tuple[dict, dict]:
  """Arrays and metadata of a checkpoint, for evaluation or `init_from`.

  Args:
    directory: a work folder, its `checkpoints` folder, or one step in it.
    step: None for the step that a folder stands for: the one that the run's
      own `config.evaluate_checkpoint` means, the best or the newest.

  Returns:
    Nested dicts of NumPy arrays as in `TrainState`, and the metadata.

  Raises:
    CheckpointError: if there is no valid checkpoint.
  """
  directory = pathlib.Path(directory).expanduser().resolve()
  if (directory / 'checkpoints').is_dir():
    directory = directory / 'checkpoints'
  if (directory / MANIFEST).is_file() and step is None:
    metadata = verify(directory)
    return load_arrays(directory), metadata
  checkpointer = Checkpointer(directory)
  if step is None:
    step = chosen_step(checkpointer)
  if step is None:
    raise CheckpointError(f'{directory} holds no valid checkpoint')
  metadata = checkpointer.metadata(step)
  return load_arrays(directory / str(step)), metadata


def chosen_step(checkpointer: Checkpointer) -> int | None:
  """What `evaluate_checkpoint` of a run's config means; None without a step.

  Raises:
    CheckpointError: if the best step is meant and no figure is finite.
  """
  latest = checkpointer.latest_step()
  if latest is None:
    return None
  config = checkpointer.metadata(latest).get('config', {})
  if config.get('evaluate_checkpoint') != 'best':
    return latest
  checkpointer.best_metric = config['best_metric']
  checkpointer.best_mode = best_mode(config['best_metric'])
  best = checkpointer.best_step()
  if best is None:
    raise CheckpointError(
      f'{checkpointer.directory} holds no step with a finite '
      f'{config["best_metric"]}, so that none is the best; name one step, e.g. '
      f'{checkpointer.directory / str(latest)}'
    )
  return best


def compare(expected: dict, found: dict, where: str) -> None:
  """Refuses a checkpoint whose names, shapes or types differ.

  Args:
    expected: path -> array that the model has.
    found: path -> array that the checkpoint has.
    where: named in the error.

  Raises:
    CheckpointError: names the first parameter that differs.
  """
  for name in sorted(expected.keys() | found.keys()):
    if name not in found:
      raise CheckpointError(f'{where}: no {name} in the checkpoint')
    if name not in expected:
      raise CheckpointError(f'{where}: the model has no {name}')
    a, b = expected[name], found[name]
    if a.shape != b.shape or a.dtype != b.dtype:
      raise CheckpointError(
        f'{where}: {name} is {b.dtype}{list(b.shape)}, the model has '
        f'{a.dtype}{list(a.shape)}'
      )


def fit(expected, found, where: str):
  """Arrays of a checkpoint in the structure of those that a model has.

  Raises:
    CheckpointError: see `compare`.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(expected)
  wanted, arrays = {_name(path): x for path, x in leaves}, dict(_flat(found))
  compare(wanted, arrays, where)
  values = [jax.numpy.asarray(arrays[name]) for name in wanted]
  return jax.tree_util.tree_unflatten(tree, values)


def digest(tree) -> str:
  """sha256 of names, types, shapes and bytes of all arrays of a tree."""
  sha = hashlib.sha256()
  for name, value in sorted(_flat(_plain(tree))):
    value = np.ascontiguousarray(value)
    sha.update(f'{name}|{value.dtype}|{value.shape}|'.encode())
    sha.update(value.tobytes())
  return sha.hexdigest()


def verify(folder) -> dict:
  """Checks every digest of one step.

  Returns:
    The metadata of the step.

  Raises:
    CheckpointError: names the file that is damaged, missing or unknown.
  """
  folder = pathlib.Path(folder)
  try:
    text = (folder / MANIFEST).read_bytes()
  except FileNotFoundError:
    raise CheckpointError(f'{folder} is incomplete: no {MANIFEST}') from None
  body, _, own = text.rpartition(b'\n')
  if hashlib.sha256(body).hexdigest().encode() != own:
    raise CheckpointError(f'{folder / MANIFEST} is damaged')
  manifest = json.loads(body)
  files = _files(folder)
  for name in sorted(manifest.keys() | files.keys()):
    if name not in files:
      raise CheckpointError(f'{folder / name} is missing')
    if name not in manifest:
      raise CheckpointError(f'{folder / name} is not in the manifest')
    if _sha256(files[name]) != manifest[name]:
      raise CheckpointError(f'{folder / name} is damaged (sha256 differs)')
  path = folder / 'meta' / 'metadata'
  try:
    metadata = json.loads(path.read_bytes())
    if not isinstance(metadata.get('metrics'), dict):
      raise ValueError('no metadata of a checkpoint')
    return metadata
  except (OSError, ValueError, AttributeError) as error:
    raise CheckpointError(f'{path} cannot be read: {error}') from None


def _write_manifest(folder: pathlib.Path) -> None:
  digests = {name: _sha256(path) for name, path in _files(folder).items()}
  body = json.dumps(digests, indent=0, sort_keys=True).encode()
  own = hashlib.sha256(body).hexdigest().encode()
  temporary = folder.with_name(f'{folder.name}.{MANIFEST}')
  with open(temporary, 'wb') as file:
    file.write(body + b'\n' + own)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, folder / MANIFEST)


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  return {
    path.relative_to(folder).as_posix(): path
    for path in folder.rglob('*')
    if path.is_file() and path != folder / MANIFEST
  }


def _sha256(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _remove(folder: pathlib.Path) -> None:
  """Removes a step, its manifest first: a half-removed step is not valid."""
  import shutil

  (folder / MANIFEST).unlink(missing_ok=True)
  shutil.rmtree(folder)


def _name(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _flat(tree):
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return [(_name(path), np.asarray(leaf)) for path, leaf in leaves]


def _plain(tree):
  """Typed keys as their data, so that every leaf is a plain array."""

  def plain(x):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      return jax.random.key_data(x)
    return x

  return jax.tree.map(plain, tree)


def best_mode(metric: str) -> str:
  """Whether the best value of a metric is the highest or the lowest."""
  return 'max' if metric.endswith('auroc') else 'min'
