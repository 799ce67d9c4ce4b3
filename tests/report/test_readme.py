import json
import pathlib

import pytest

from ecgjax.report import readme, tables

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize('page', readme.PAGES)
def test_figures_come_from_results_files(page):
  text = (ROOT / page).read_text()
  assert text.count('<!-- results: ') >= 1
  assert readme.fill(text, ROOT / 'results', readme.PAGES[page]) == text


def test_a_typed_figure_is_replaced():
  text = (ROOT / 'README.md').read_text()
  block = readme._BLOCK.search(text)
  typed = text.replace(block[0], f'{block[1]}| probe | 0.999 |\n{block[4]}')
  assert readme.fill(typed, ROOT / 'results', False) == text


def test_pages_say_one_seed_and_no_p_is_zero():
  text = ''.join((ROOT / page).read_text() for page in readme.PAGES)
  assert 'p 0.000' not in text and 'Holm 0.' not in text
  for block in readme._BLOCK.finditer(text):
    results = json.loads(
      (ROOT / 'results' / f'{block["name"]}.json').read_text()
    )
    if 'arms' in results:  # a model's results
      said = tables.ONE_SEED in block[0]
      assert said == (len(results.get('seeds', [0])) == 1), block['name']


def probe(results, arm):
  return results['arms'][arm]['metrics']['macro_auroc']


def recall(results, arm):
  return results['identity']['retrieval']['arms'][arm]['recall_at_1']


@pytest.mark.parametrize(
  ('config', 'name', 'entry'),
  [
    ('lcd', 'lcd_synthetic', lambda r: probe(r, 'probe')),
    ('lcd', 'lcd_synthetic', lambda r: probe(r, 'random_probe')),
    ('lcd', 'lcd_ptbxl', lambda r: probe(r, 'probe')),
    ('lcd', 'lcd_ptbxl', lambda r: probe(r, 'random_probe')),
    ('longitudinal', 'longitudinal_synthetic', lambda r: recall(r, 'trained')),
    (
      'longitudinal',
      'longitudinal_synthetic',
      lambda r: recall(r, 'untrained'),
    ),
    ('vqvae', 'codec_synthetic', lambda r: r['metrics']['prdn']),
    ('vqvae', 'codec_rvq_synthetic', lambda r: r['metrics']['prdn']),
    ('vqvae', 'codec_ptbxl', lambda r: r['metrics']['prdn']),
  ],
)
def test_figures_of_config_headers_are_those_of_the_files(config, name, entry):
  header = (ROOT / 'configs' / f'{config}.py').read_text().split('"""')[1]
  results = json.loads((ROOT / 'results' / f'{name}.json').read_text())
  figure = tables.cell(entry(results))
  assert figure in ' '.join(header.split()) and f'results/{name}.json' in header


def test_every_result_stands_on_a_page():
  pages = ''.join((ROOT / page).read_text() for page in readme.PAGES)
  for path in (ROOT / 'results').glob('*.json'):
    assert f'<!-- results: {path.stem} ' in pages
    assert '/tmp/' not in json.dumps(json.loads(path.read_text()))
