"""Who may import whom, and life without TensorFlow."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'ecgjax'
COMMON = {
  'leads', 'paper', 'collectives', 'inputs', 'resolve', 'config',
  'config_check', '',
}  # fmt: skip
TOP = {
  'methods', 'data', 'training', 'evaluation', 'models', 'synthesis',
  'evaluate', 'train', 'study', 'studies', 'losses', 'augment', 'contrastive',
  'console', 'process_env', 'restored', 'evaluate_checkpoint',
  'evaluate_attribution', 'evaluate_identity', 'evaluate_codec',
  'evaluate_unlabelled',
}  # fmt: skip
MAY_IMPORT = {
  # room: rooms it may import, beside COMMON and itself
  'losses': set(),
  'contrastive': {'losses'},
  'augment': set(),
  'models': {'losses'},
  'synthesis': {'augment', 'models', 'methods', 'data', 'training'},
  'training': {'methods', 'models'},
  'methods': {'models', 'losses', 'contrastive', 'augment', 'synthesis'},
  'data': {'synthesis'},
  'evaluation': {'data', 'synthesis'},
}
# An entry point of `main` like `train` and `study`, in the room of its subject.
ENTRY = (
  'synthesis/generate.py',
  'synthesis/generate_inputs.py',
  'data/facts.py',
)
HEAVY = {'tensorflow', 'tensorflow_datasets', 'wfdb', 'h5py'}


def modules():
  return sorted(PACKAGE.rglob('*.py'))


def room(path: pathlib.Path) -> str:
  place = path.relative_to(PACKAGE)
  if place.as_posix() in ENTRY:
    return place.stem
  parts = place.with_suffix('').parts
  return parts[0] if parts[0] != '__init__' else ''


def imported(path: pathlib.Path):
  """(module name, whether the import is at the top level)."""
  tree = ast.parse(path.read_text())
  top = {id(node) for node in tree.body}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, id(node) in top
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        yield f'{node.module}.{alias.name}', id(node) in top


@pytest.mark.parametrize('path', modules(), ids=lambda p: p.stem)
def test_directions(path):
  here = room(path)
  allowed = MAY_IMPORT.get(here, TOP) | COMMON | {here}
  for name, _ in imported(path):
    parts = name.split('.')
    if parts[0] == 'ecgjax' and len(parts) > 1 and parts[1] != '__version__':
      if here == 'methods' and parts[1:3] == ['training', 'checkpoints']:
        continue  # a second stage reads the checkpoint of the first
      assert parts[1] in allowed, f'{path.stem} imports {name}'
      if here == parts[1] == 'methods':
        assert parts[2] == 'base', 'methods never import each other'


def is_builder(path: pathlib.Path) -> bool:
  """Modules that define TFDS builders import it to derive from it."""
  return any(
    name.startswith('tensorflow_datasets')
    for name, top in imported(path)
    if top
  )


@pytest.mark.parametrize('path', modules(), ids=lambda p: p.stem)
def test_heavy_imports_stay_in_data(path):
  for name, at_top in imported(path):
    if name.split('.')[0] in HEAVY:
      assert room(path) == 'data'
      assert not at_top or is_builder(path)
    if name.split('.')[0] == 'orbax':
      assert path.name == 'checkpoints.py'
    if name.split('.')[0] == 'flax' and 'linen' in name:
      assert room(path) == 'models'


def test_files_are_short():
  long = {
    p.name: n for p in modules() if (n := len(p.read_text().splitlines())) > 400
  }
  assert not long


BLOCKED = """
import importlib, pathlib, sys
sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None
root = pathlib.Path(sys.argv[1])
for path in sorted(root.rglob('*.py')):
  if str(path) in sys.argv[3:]:
    continue  # a builder module
  name = '.'.join(path.relative_to(root.parent).with_suffix('').parts)
  importlib.import_module(name.removesuffix('.__init__'))
import numpy as np
from configs import lcd
from ecgjax import train
from ecgjax.models import vgg1d
vgg1d.STAGES = ((64, 1), (512, 1))  # compiles fast
config = lcd.get_config('preset=smoke').copy_and_resolve_references()
config.data.leads, config.data.length = ('II', 'V1'), 64
config.batch_size, config.num_steps, config.best_metric = 4, 1, 'train_loss'
def batches(start):
  while True:
    yield {'ecg': np.random.default_rng(0).normal(size=(4, 64, 2))}
trained = train.train(config, sys.argv[2], batches)
assert int(trained.state.step) == 1
print('trained without TensorFlow')
"""


def builders() -> list[str]:
  """Modules that import TensorFlow at the top, directly or through others."""
  found = {p for p in modules() if is_builder(p)}
  while True:
    names = {'.'.join(p.relative_to(ROOT).with_suffix('').parts) for p in found}
    more = {
      p for p in modules() if any(n in names and top for n, top in imported(p))
    }
    if more <= found:
      return [str(p) for p in sorted(found)]
    found |= more


def test_everything_but_builders_works_without_tensorflow(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', BLOCKED, str(PACKAGE), str(tmp_path / 'run')]
    + builders(),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert 'trained without TensorFlow' in done.stdout
