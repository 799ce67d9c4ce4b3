"""The notebooks run as they are, on the smallest data."""

import pathlib

import nbclient
import nbformat
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / 'colabs'


@pytest.mark.parametrize(
  'path', sorted(FOLDER.glob('*.ipynb')), ids=lambda p: p.stem
)
def test_notebook_runs(path):
  notebook = nbformat.read(path, as_version=4)
  assert all(not c.get('outputs') for c in notebook.cells), 'strip outputs'
  client = nbclient.NotebookClient(
    notebook, timeout=1200, resources={'metadata': {'path': str(FOLDER.parent)}}
  )
  client.execute()
