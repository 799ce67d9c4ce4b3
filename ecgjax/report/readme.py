"""Tables of README.md and docs/*.md, from `results/*.json`, never typed.

  python -m ecgjax.report.readme

A block between `<!-- results: NAME -->` and `<!-- end -->` holds the tables of
`results/NAME.json`: the main ones in the README, all of them elsewhere.
`<!-- results: NAME PART -->` is one table of a file that
`python -m ecgjax.data.facts --out` wrote.
"""

import json
import pathlib
import re

from ecgjax.report import attribution as attribution_report
from ecgjax.report import (
  augmentation,
  codec_tables,
  efficiency_tables,
  facts_tables,
  tables,
)
from ecgjax.report.generated import overview
from ecgjax.report.results import read

# Page: whether its blocks hold every table.
PAGES = {'README.md': False, 'docs/results.md': True, 'docs/data.md': True}
_BLOCK = re.compile(
  r'(<!-- results: (?P<name>\w+)(?: (?P<part>\w+))? -->\n).*?(<!-- end -->)',
  re.DOTALL,
)


def render(results: dict, full: bool = True) -> str:
  """Markdown of one result; its main tables where not `full`."""
  if 'label_efficiency' in results:
    found = results['label_efficiency']
    built = efficiency_tables.efficiency_tables(found)
    told = '\n'.join(f'* {text}' for text in efficiency_tables.claims(found))
    parts = [results['budget'], told] + [
      table.markdown() for table in built if full or table.header[0] != 'label'
    ]
  elif 'augmentation' in results:
    parts = [augmentation.brief(results, full)]
  elif 'reconstruction' in results or 'pages' in results:
    parts = [_codec_table(results).markdown()]
    if full:
      coded = results.get('reconstruction') or results['pages']
      codebook = codec_tables.codebook_table(coded['codebook'])
      parts += [_arms_table(results), codebook.markdown()]
  else:
    parts = [_arms_table(results)]
  if full:
    parts += [
      attribution_report.size_table(by_size, examples, 'finetune').markdown()
      for examples, by_size in results.get('attribution', {}).items()
    ]
  if 'identity' in results:
    built = tables.identity_tables(results['identity'])
    parts += [table.markdown() for table in built]
  head = [tables.ONE_SEED] if tables.num_seeds(results) == 1 else []
  return '\n\n'.join([*head, *parts, provenance(results)])


def _arms_table(results: dict) -> str:
  """Headline metrics of every arm, and differences."""
  rows = ['| | ' + ' | '.join(_HEADLINES.values()) + ' |']
  rows.append('| --- |' + ' --- |' * len(_HEADLINES))
  for name, arm in results['arms'].items():
    cells = [tables.cell(arm['metrics'].get(m)) for m in _HEADLINES]
    rows.append(f'| {name} | ' + ' | '.join(cells) + ' |')
  for name, row in results['differences'].items():
    cells = [tables.difference_cell(row.get(m)) for m in _HEADLINES]
    rows.append(f'| {name} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(rows)


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
    f' {kind} of {results["num_patients"]} patients; '
    f'{tables.seeds_text(tables.num_seeds(results))}; 95 % intervals over '
    f'{tables.resampled(results.get("bootstrap", {}))}; {results["device"]}, '
    f'{results["wall_seconds"] / 60:.0f} min, '
    f'{results["examples_per_second"]:.0f} ECG/s in training; split '
    f'{results["hashes"]["split"][:12]}, checkpoint '
    f'{results["hashes"]["checkpoint"][:12]}.'
  )


def fill(text: str, folder: pathlib.Path, full: bool) -> str:
  """A page with every block made anew."""

  def block(match):
    path = folder / f'{match["name"]}.json'
    summary = json.loads(path.read_text())
    if 'operator' in summary:  # of a generate run
      text = overview(summary).markdown()
    elif match['part']:
      text = facts_tables.PARTS[match['part']](summary).markdown()
    else:
      text = render(read(path), full)
    return f'{match[1]}{text}\n{match[4]}'

  return _BLOCK.sub(block, text)


def main() -> None:
  for name, full in PAGES.items():
    path = pathlib.Path(name)
    path.write_text(fill(path.read_text(), pathlib.Path('results'), full))


if __name__ == '__main__':
  main()
