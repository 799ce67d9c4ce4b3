"""Pages link to what is there, and docstrings name what there is."""

import ast
import collections
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
  path
  for path in sorted(ROOT.rglob('*.md'))
  if not any(part.startswith('.') for part in path.relative_to(ROOT).parts)
  and path.relative_to(ROOT).parts[0] not in ('runs', 'build')
]
LINK = re.compile(r'\]\(([^)\s#]+)(?:#[^)]*)?\)|(?:src|href)="([^"#]+)')


def targets(text: str) -> list[str]:
  """Relative links and pictures of a page, also those of its HTML."""
  text = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
  found = [a or b for a, b in LINK.findall(text)]
  return [t for t in found if not re.match(r'[a-z]+:', t)]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_docs_lead_somewhere(page):
  missing = [
    t for t in targets(page.read_text()) if not (page.parent / t).exists()
  ]
  assert not missing


def test_targets_are_found():
  text = '[a](b.md#c) ![d](e.png) [f](https://g.h) <img src="i.svg">'
  assert targets(text) == ['b.md', 'e.png', 'i.svg']


PACKAGE = ROOT / 'ecgjax'
NAME = re.compile(r'`([a-z_0-9]+)\.([A-Za-z_]+)(?:\.[A-Za-z_.]+)?`')
# What stands before a dot and is no module of ours.
OTHERS = {
  *('ecgjax', 'config', 'split', 'study', 'batch', 'options'),
  *('jax', 'jnp', 'lax', 'tf', 'h5py', 'os', 'scipy', 'optax', 'np'),
}
FILES = {'csv', 'html', 'json', 'jsonl', 'md', 'npz', 'py'}


def names_of_modules() -> dict[str, set[str]]:
  """Module or room -> what it defines, imports or holds."""
  names = collections.defaultdict(set)
  for path in PACKAGE.rglob('*.py'):
    here = path.parent.name if path.name == '__init__.py' else path.stem
    names[path.parent.name].add(path.stem)
    names[path.parents[1].name].add(path.parent.name)
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        names[here].add(node.name)
      elif isinstance(node, ast.ImportFrom):
        names[here] |= {a.asname or a.name for a in node.names}
      elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        names[here] |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
  return names


def test_names_in_docstrings_exist():
  known = names_of_modules()
  absent = {
    f'{path.relative_to(ROOT)}: {module}.{name}'
    for path in PACKAGE.rglob('*.py')
    for module, name in NAME.findall(path.read_text())
    if module not in OTHERS and name not in FILES and name not in known[module]
  }
  assert not absent


def test_names_are_told_apart():
  known = names_of_modules()
  assert 'LEADS' in known['leads'] and 'labels' in known['store']
  assert NAME.findall('see `leads.LEADS`, `labels`') == [('leads', 'LEADS')]
