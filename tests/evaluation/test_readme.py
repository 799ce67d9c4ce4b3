import pathlib

from ecgjax.evaluation import readme

ROOT = pathlib.Path(__file__).parents[2]


def test_readme_figures_come_from_results_files():
  text = (ROOT / 'README.md').read_text()
  assert text.count('<!-- results: ') >= 1
  assert readme.fill(text, ROOT / 'results') == text


def test_a_typed_figure_is_replaced():
  text = (ROOT / 'README.md').read_text()
  block = readme._BLOCK.search(text)
  typed = text.replace(block[0], f'{block[1]}| probe | 0.999 |\n{block[3]}')
  assert readme.fill(typed, ROOT / 'results') == text
