import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax import checkpoints
from ecgjax.training import train_state


def make_state(step=0, value=1.0):
  weights = {'kernel': jnp.full((64, 3), value), 'bias': jnp.arange(3.0)}
  return train_state.TrainState(
    step=jnp.asarray(step, jnp.int32),
    params={'encoder': weights},
    model_state={'encoder': {}},
    opt_state=(weights, ()),
    target=None,
    rng=jax.random.key(7, impl='threefry2x32'),
  )


def save(folder, steps, values=None, **options):
  checkpointer = checkpoints.Checkpointer(
    folder, best_metric='validation_loss', **options
  )
  for i, step in enumerate(steps):
    metrics = {'validation_loss': values[i]} if values else {}
    checkpointer.save(
      make_state(step, float(step)), {'fingerprint': 'f'}, metrics
    )
  return checkpointer


def test_round_trip(tmp_path):
  save(tmp_path, [5])
  checkpointer = checkpoints.Checkpointer(tmp_path)
  assert checkpointer.latest_step() == 5
  assert checkpointer.metadata(5)['fingerprint'] == 'f'
  restored = checkpointer.restore(make_state(), 5)
  expected = make_state(5, 5.0)
  assert jax.tree.structure(restored) == jax.tree.structure(expected)
  assert checkpoints.digest(restored) == checkpoints.digest(expected)
  assert checkpoints.digest(restored) != checkpoints.digest(make_state(5, 6.0))


def test_keeps_latest_and_best(tmp_path):
  checkpointer = save(
    tmp_path, [1, 2, 3, 4, 5], [0.5, 0.1, 0.9, 0.7, 0.6], keep_latest=2
  )
  assert checkpointer.steps() == [5, 4, 2]
  assert checkpointer.best_step() == 2
  again = checkpoints.Checkpointer(tmp_path, best_metric='validation_loss')
  assert (again.latest_step(), again.best_step()) == (5, 2)


@pytest.mark.parametrize('mode, best', [('min', 2), ('max', 3)])
def test_nan_is_never_the_best(tmp_path, mode, best):
  values = [float('nan'), 0.1, 0.9, float('nan'), float('inf')]
  checkpointer = save(
    tmp_path, [1, 2, 3, 4, 5], values, keep_latest=5, best_mode=mode
  )
  assert checkpointer.best_step() == best
  again = checkpoints.Checkpointer(
    tmp_path, best_metric='validation_loss', best_mode=mode
  )
  assert again.best_step() == best


def test_no_step_is_the_best_without_a_figure(tmp_path):
  checkpointer = save(tmp_path, [1, 2], [float('nan')] * 2)
  assert checkpointer.best_step() is None
  assert checkpointer.latest_step() == 2


def test_incomplete_steps_are_skipped(tmp_path, caplog):
  save(tmp_path, [1, 2])
  (tmp_path / '2' / 'sha256.json').unlink()
  (tmp_path / '7').mkdir()
  (tmp_path / '9.orbax-checkpoint-tmp').mkdir()
  checkpointer = checkpoints.Checkpointer(tmp_path)
  assert checkpointer.latest_step() == 1
  assert 'incomplete' in caplog.text
  checkpointer.save(make_state(2, 3.0), {'fingerprint': 'f'}, {})
  assert checkpointer.latest_step() == 2


def test_renamed_and_unreadable_steps_are_skipped(tmp_path, caplog):
  save(tmp_path, [1, 2, 3])
  (tmp_path / '3').rename(tmp_path / '100')
  (tmp_path / '2' / 'meta' / 'metadata').unlink()
  checkpoints._write_manifest(tmp_path / '2')
  for name in ('²', '007'):
    (tmp_path / name).mkdir()
  checkpointer = checkpoints.Checkpointer(tmp_path)
  assert checkpointer.latest_step() == 1
  assert '100 is step 3 under another name' in caplog.text
  assert 'metadata cannot be read' in caplog.text


def flip_bit(path, rng):
  data = bytearray(path.read_bytes())
  data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  path.write_bytes(data)


def test_every_bit_flip_is_found(tmp_path):
  """100 flips over all files of a step; a file is as likely as its bytes."""
  save(tmp_path, [1, 2])
  files = [
    p for p in (tmp_path / '2').rglob('*') if p.is_file() and p.stat().st_size
  ]
  assert len(files) > 5
  rng = random.Random(0)
  sizes = [p.stat().st_size for p in files]
  chosen = rng.choices(files, sizes, k=100 - len(files)) + files
  for path in chosen:
    content = path.read_bytes()
    flip_bit(path, rng)
    with pytest.raises(checkpoints.CheckpointError, match=path.name):
      checkpoints.verify(tmp_path / '2')
    assert checkpoints.Checkpointer(tmp_path).latest_step() == 1
    path.write_bytes(content)
  checkpoints.verify(tmp_path / '2')


def test_missing_truncated_and_stray_files(tmp_path):
  save(tmp_path, [1])
  step = tmp_path / '1'
  for path in [p for p in step.rglob('*') if p.is_file()]:
    content = path.read_bytes()
    for damaged in (None, content[:-1], content + b'x'):
      path.unlink()
      if damaged is not None:
        path.write_bytes(damaged)
      if damaged != content:
        with pytest.raises(checkpoints.CheckpointError):
          checkpoints.verify(step)
      path.write_bytes(content)
  (step / 'stray').write_text('x')
  with pytest.raises(checkpoints.CheckpointError, match='not in the manifest'):
    checkpoints.verify(step)


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda p: p | {'extra': jnp.zeros(1)}, 'no params/extra in the checkp'),
    (lambda p: {}, 'the model has no params/encoder'),
    (
      lambda p: jax.tree.map(lambda x: x[:2], p),
      r'params/encoder/bias is float32\[3\]',
    ),
    (
      lambda p: jax.tree.map(lambda x: x.astype(jnp.bfloat16), p),
      'the model has bfloat16',
    ),
  ],
  ids=['missing', 'unknown', 'shape', 'type'],
)
def test_restore_names_what_differs(tmp_path, change, message):
  checkpointer = save(tmp_path, [1])
  state = make_state()
  with pytest.raises(checkpoints.CheckpointError, match=message):
    checkpointer.restore(state.replace(params=change(state.params)), 1)


def test_load_from_workdir_folder_or_step(tmp_path):
  save(tmp_path / 'checkpoints', [3, 4])
  for path in ('', 'checkpoints', 'checkpoints/4'):
    arrays, metadata = checkpoints.load(tmp_path / path)
    assert metadata['fingerprint'] == 'f'
    kernel = arrays['params']['encoder']['kernel']
    np.testing.assert_array_equal(kernel, np.full((64, 3), 4.0))
  with pytest.raises(checkpoints.CheckpointError, match='no valid checkpoint'):
    checkpoints.load(tmp_path / 'nowhere')
