"""Tables of the README, generated from `results/*.json`, never typed.

  python -m ecgjax.evaluation.readme

A block of the README between `<!-- results: NAME -->` and `<!-- end -->` holds
the tables of `results/NAME.json`.
"""

import json
import pathlib
import re

from ecgjax.evaluation import augmentation, codec_tables, generated, tables
from ecgjax.evaluation import results as results_lib

_BLOCK = re.compile(
  r'(<!-- results: (?P<name>\w+) -->\n).*?(<!-- end -->)', re.DOTALL
)


def render(results: dict) -> str:
  """Markdown of one result: headline arms, differences, provenance."""
  if 'label_efficiency' in results:
    built = tables.efficiency_tables(results['label_efficiency'])
    body = '\n\n'.join(table.markdown() for table in built)
    return f'{results["budget"]}\n\n{body}\n\n{provenance(results)}'
  if 'augmentation' in results:
    return f'{augmentation.brief(results)}\n\n{provenance(results)}'
  rows = ['| | ' + ' | '.join(_HEADLINES.values()) + ' |']
  rows.append('| --- |' + ' --- |' * len(_HEADLINES))
  for name, arm in results['arms'].items():
    cells = [tables.cell(arm['metrics'].get(m)) for m in _HEADLINES]
    rows.append(f'| {name} | ' + ' | '.join(cells) + ' |')
  for name, row in results['differences'].items():
    cells = [tables.difference_cell(row.get(m)) for m in _HEADLINES]
    rows.append(f'| {name} | ' + ' | '.join(cells) + ' |')
  parts = ['\n'.join(rows)]
  coded = results.get('reconstruction') or results.get('pages')
  if coded:
    parts = [_codec_table(results).markdown()] + parts
    parts.append(codec_tables.codebook_table(coded['codebook']).markdown())
  if 'identity' in results:
    built = tables.identity_tables(results['identity'])
    parts += [table.markdown() for table in built]
  return '\n\n'.join([*parts, provenance(results)])


def _codec_table(results: dict) -> tables.Table:
  """What a codec does to the test ECGs."""
  rows = [
    [name, tables.cell(entry)]
    for name, entry in results['metrics'].items()
    if not name.startswith('macro_')
  ]
  return tables.Table(['of the reconstructions', 'test'], rows)


_HEADLINES = {
  'macro_auroc': 'macro AUROC',
  'macro_auprc': 'macro AUPRC',
  'macro_f1': 'macro F1',
}


def provenance(results: dict) -> str:
  """Where a figure comes from, in one line."""
  kind = 'synthetic ECGs' if results['synthetic'] else 'ECGs'
  return (
    f'{results["dataset"]}, split {results["split"]}: {results["num_examples"]}'
    f' {kind} of {results["num_patients"]} patients; 95 % intervals by patient '
    f'bootstrap; seed {results["seed"]}; {results["device"]}, '
    f'{results["wall_seconds"] / 60:.0f} min, '
    f'{results["examples_per_second"]:.0f} ECG/s in training; split '
    f'{results["hashes"]["split"][:12]}, checkpoint '
    f'{results["hashes"]["checkpoint"][:12]}.'
  )


def fill(text: str, folder: pathlib.Path) -> str:
  """The README with every block made anew."""

  def block(match):
    path = folder / f'{match["name"]}.json'
    summary = json.loads(path.read_text())
    if 'operator' in summary:  # of a generate run
      table = generated.overview(summary).markdown()
      return f'{match[1]}{table}\n{match[3]}'
    found = results_lib.read(path)
    return f'{match[1]}{render(found)}\n{match[3]}'

  return _BLOCK.sub(block, text)


def main() -> None:
  path = pathlib.Path('README.md')
  path.write_text(fill(path.read_text(), pathlib.Path('results')))


if __name__ == '__main__':
  main()
