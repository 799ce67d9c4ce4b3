import json
import pathlib

import pytest

from ecgjax.evaluation import readme

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize('page', readme.PAGES)
def test_figures_come_from_results_files(page):
  text = (ROOT / page).read_text()
  assert text.count('<!-- results: ') >= 1
  assert readme.fill(text, ROOT / 'results', readme.PAGES[page]) == text


def test_a_typed_figure_is_replaced():
  text = (ROOT / 'README.md').read_text()
  block = readme._BLOCK.search(text)
  typed = text.replace(block[0], f'{block[1]}| probe | 0.999 |\n{block[3]}')
  assert readme.fill(typed, ROOT / 'results', False) == text


def test_every_result_stands_on_a_page():
  pages = ''.join((ROOT / page).read_text() for page in readme.PAGES)
  for path in (ROOT / 'results').glob('*.json'):
    assert f'<!-- results: {path.stem} -->' in pages
    assert '/tmp/' not in json.dumps(json.loads(path.read_text()))
