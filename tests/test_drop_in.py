"""A method, an encoder, a data set and an evaluator are one file each."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def test_what_is_dropped_in_is_prepared_trained_and_evaluated(tmp_path):
  done = subprocess.run(
    [sys.executable, 'tests/drop_in.py', str(tmp_path)],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert '4 dropped in, 0 other edits' in done.stdout
