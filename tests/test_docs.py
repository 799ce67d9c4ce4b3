"""Pages of the repository link to what is there."""

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
