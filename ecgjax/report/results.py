"""The result record of a run: assembled, checked, written, read.

One JSON file per run (docs/design.md, Contracts). Every figure that the project
quotes is read from such a file, so that a file which breaks a rule of the
protocol is never written: a missing hash, a missing baseline arm, a point
outside its own interval, a NaN.
"""

import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence

import numpy as np

import ecgjax
from ecgjax.metrics import compare_arms

HASHES = ('split', 'manifest', 'checkpoint')
_SHA256 = re.compile('[0-9a-f]{64}')
# Rounding allowed between a point and the end of its interval.
_TOLERANCE = 1e-9
_FIELDS = {
  'method': str, 'dataset': str, 'protocol': str, 'split': str, 'seed': int,
  'step': int, 'num_examples': int, 'num_patients': int, 'metrics': dict,
  'per_class': dict, 'arms': dict, 'differences': dict, 'hashes': dict,
  'device': str, 'examples_per_second': float, 'wall_seconds': float,
  'versions': dict, 'git': str,
}  # fmt: skip
_PACKAGES = (
  'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'scipy',
  'scikit-learn',
)  # fmt: skip


def versions() -> dict[str, str]:
  """Versions of Python, ecgjax and the packages that shape a result."""
  found = {'python': platform.python_version(), 'ecgjax': ecgjax.__version__}
  for name in _PACKAGES:
    found[name] = importlib.metadata.version(name)
  return found


def git_revision() -> str:
  """Commit of the code, '-dirty' appended with uncommitted changes.

  'unknown' where the package does not run from its own git checkout.
  """
  root = pathlib.Path(ecgjax.__file__).resolve().parents[1]
  if not (root / '.git').exists():
    return 'unknown'
  try:
    return subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'],
      cwd=root, capture_output=True, text=True, check=True, timeout=30,
    ).stdout.strip()  # fmt: skip
  except (OSError, subprocess.SubprocessError):
    return 'unknown'


def describe_device() -> str:
  """Kind and number of devices, e.g. '1 x cpu'."""
  import jax

  devices = jax.devices()
  return f'{len(devices)} x {devices[0].device_kind}'


def assemble(
  evaluation: Mapping,
  *,
  method: str,
  dataset: str,
  protocol: str,
  split: str,
  seed: int,
  step: int,
  num_examples: int,
  num_patients: int,
  hashes: Mapping[str, str],
  device: str,
  examples_per_second: float,
  wall_seconds: float,
  **extra,
) -> dict:
  """Builds and checks a result record.

  Args:
    evaluation: what `compare_arms.evaluate_arms` returned, or for a task
      without labels a dict with `metrics`, `per_class`, `arms`, `differences`.
    method: name of the pretraining or training method.
    dataset: name of the evaluated data set.
    protocol: how the figures came about, e.g. 'standardised_lr'.
    split: name of the evaluated split.
    seed: training seed.
    step: training step of the checkpoint.
    num_examples: evaluated records.
    num_patients: evaluated patients.
    hashes: sha256 hex digests named by `HASHES`.
    device: description of the device.
    examples_per_second: training throughput.
    wall_seconds: wall time of the run.
    **extra: further fields, e.g. `synthetic=True`, `config`, `leads`.

  Returns:
    The record, checked by `check`.
  """
  results = {
    'method': method,
    'dataset': dataset,
    'protocol': protocol,
    'split': split,
    'seed': int(seed),
    'step': int(step),
    'num_examples': int(num_examples),
    'num_patients': int(num_patients),
    **evaluation,
    'hashes': dict(hashes),
    'device': device,
    'examples_per_second': float(examples_per_second),
    'wall_seconds': float(wall_seconds),
    'versions': versions(),
    'git': git_revision(),
    **extra,
  }
  check(results)
  return results


def check(
  results: Mapping, required_arms: Sequence[str] = (compare_arms.BASELINE,)
) -> None:
  """Refuses a record that breaks the contract or the protocol.

  Args:
    results: a result record.
    required_arms: arms that must be there if there is any arm; a table of
      label efficiency asks for 'random_probe' and 'scratch'.

  Raises:
    ValueError: one line that names the offending field.
  """
  for name, kind in _FIELDS.items():
    if name not in results:
      raise ValueError(f'results: field {name!r} is missing')
    if type(results[name]) is not kind:
      raise ValueError(
        f'results: {name} is {results[name]!r}; expected {kind.__name__}'
      )
  for name in HASHES:
    value = results['hashes'].get(name)
    if not (isinstance(value, str) and _SHA256.fullmatch(value)):
      raise ValueError(
        f'results: hashes.{name} is {value!r}; a result without its sha256 '
        'is not comparable'
      )
  missing = [name for name in required_arms if name not in results['arms']]
  if results['arms'] and missing:
    raise ValueError(
      f'results: arm {missing[0]!r} is missing; every table carries its '
      'baselines'
    )
  if not results['metrics']:
    raise ValueError('results: metrics is empty')
  for name, entry in results['metrics'].items():
    if not (isinstance(entry, Mapping) and {'value', 'ci95'} <= set(entry)):
      raise ValueError(f'results: metrics.{name} needs value and ci95')
  _check_values(results, 'results')


def _check_values(node, path: str) -> None:
  """Names in snake case, finite numbers, points inside their intervals."""
  if isinstance(node, Mapping):
    for key, value in node.items():
      if not isinstance(key, str):
        raise ValueError(f'{path}: key {key!r} is not a string')
      _check_values(value, f'{path}.{key}')
    if 'ci95' in node:
      _check_interval(node, path)
  elif isinstance(node, list | tuple):
    for position, value in enumerate(node):
      _check_values(value, f'{path}[{position}]')
  elif isinstance(node, float) and not math.isfinite(node):
    raise ValueError(f'{path} is {node}; results hold finite numbers only')
  elif not isinstance(node, str | int | float | None):
    raise ValueError(f'{path} has type {type(node).__name__}, not JSON')


def _check_interval(node: Mapping, path: str) -> None:
  """A value with `ci95` lies inside it; both are null where undefined.

  A loss, which is a mean over batches, has no interval.
  """
  value, ends = node.get('value'), node['ci95']
  if path.endswith('_loss') and value is not None and ends is None:
    return
  if value is None and ends is None and node.get('num_labels') == 0:
    return
  if value is None or ends is None or len(ends) != 2 or None in ends:
    raise ValueError(f'{path}: value {value} without an interval ({ends})')
  low, high = ends
  if not low - _TOLERANCE <= value <= high + _TOLERANCE:
    raise ValueError(
      f'{path}: the point {value:.6g} lies outside its own interval '
      f'[{low:.6g}, {high:.6g}]'
    )


def write(path: str | os.PathLike, results: Mapping) -> None:
  """Checks a record and writes it, all or nothing.

  Raises:
    ValueError: see `check`; nothing is written then.
  """
  check(results)
  text = json.dumps(results, indent=2, allow_nan=False) + '\n'
  write_text(path, text)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Replaces a file in one step, so that no reader sees half of it."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    with open(
      temporary, 'w', encoding='utf-8', errors='backslashreplace'
    ) as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def read(path: str | os.PathLike) -> dict:
  """Reads and checks a record.

  Raises:
    ValueError: if the file is not a valid result record; names the file.
  """
  try:
    results = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    check(results)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  return results


def write_predictions(
  path: str | os.PathLike,
  arms: Mapping[str, np.ndarray],
  labels: np.ndarray,
  patients: Sequence,
  class_names: Sequence[str],
  thresholds: Mapping[str, np.ndarray],
  label_mask: np.ndarray | None = None,
) -> None:
  """Keeps test predictions, so that any two arms can be compared later.

  Args:
    path: an `.npz` file, without pickled objects.
    arms: see `compare_arms.evaluate_arms`, as are the rest.
    labels: [N, K].
    patients: [N].
    class_names: K names.
    thresholds: arm -> [K] or [S, K].
    label_mask: [N, K] or None.

  Raises:
    ValueError: if patients are neither integers nor strings.
  """
  path = pathlib.Path(path)
  mask = np.ones_like(labels) if label_mask is None else label_mask
  arrays = {
    'labels': np.asarray(labels, np.uint8),
    'label_mask': np.asarray(mask, np.uint8),
    'patients': np.asarray(patients),
    'class_names': np.asarray(class_names, np.str_),
  }
  if arrays['patients'].dtype.hasobject:
    raise ValueError('patients must be integers or strings')
  for name in arms:
    arrays[f'scores/{name}'] = np.asarray(arms[name])
    arrays[f'thresholds/{name}'] = np.asarray(thresholds[name])
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.npz')
  try:
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def read_predictions(path: str | os.PathLike) -> dict:
  """Reads what `write_predictions` wrote: arguments of `evaluate_arms`."""
  with np.load(path, allow_pickle=False) as arrays:
    stored = {name: arrays[name] for name in arrays.files}
  split = {'scores': {}, 'thresholds': {}}
  for name in [name for name in stored if '/' in name]:
    kind, arm = name.split('/', 1)
    split[kind][arm] = stored.pop(name)
  return {
    'arms': split['scores'],
    'thresholds': split['thresholds'],
    'labels': stored['labels'],
    'label_mask': stored['label_mask'],
    'patients': stored['patients'],
    'class_names': [str(name) for name in stored['class_names']],
  }
