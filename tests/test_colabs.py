"""The notebooks run as they are, on the smallest data."""

import pathlib

import nbclient
import nbformat
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / 'colabs'


SLOW = ('results',)  # trains a model first


@pytest.mark.parametrize(
  'path',
  [
    pytest.param(
      path,
      id=path.stem,
      marks=[pytest.mark.slow] if path.stem in SLOW else [],
    )
    for path in sorted(FOLDER.glob('*.ipynb'))
  ],
)
def test_notebook_runs(path):
  notebook = nbformat.read(path, as_version=4)
  assert all(not c.get('outputs') for c in notebook.cells), 'strip outputs'
  client = nbclient.NotebookClient(
    notebook, timeout=1200, resources={'metadata': {'path': str(FOLDER.parent)}}
  )
  client.execute()
