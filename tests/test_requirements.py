"""requirements-lock.txt is one of the installations that setup.cfg allows."""

import configparser
import pathlib
import re

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
VERSIONS = ('3.11', '3.12', '3.13')


def wanted() -> list[Requirement]:
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  lines = setup['options']['install_requires'].split('\n')
  lines += setup['options.extras_require']['test'].split('\n')
  return [Requirement(line) for line in filter(None, lines)]


def locked() -> list[tuple[Requirement, int]]:
  """Every entry of the lock file, and its number of hashes."""
  text = (ROOT / 'requirements-lock.txt').read_text().replace('\\\n', ' ')
  entries = [line for line in text.splitlines() if not line.startswith('#')]
  return [
    (
      Requirement(re.split(r'\s+--hash', entry)[0].strip()),
      entry.count('--hash=sha256:'),
    )
    for entry in entries
  ]


def environment(version: str) -> dict:
  return default_environment() | {
    'python_version': version,
    'python_full_version': f'{version}.0',
    'platform_system': 'Linux',
    'sys_platform': 'linux',
    'platform_machine': 'x86_64',
  }


@pytest.mark.parametrize('version', VERSIONS)
def test_lock_fits_the_requirements(version):
  here = environment(version)
  applies = lambda r: r.marker is None or r.marker.evaluate(here)
  pinned = {
    canonicalize_name(r.name): str(r.specifier).removeprefix('==')
    for r, _ in locked()
    if applies(r)
  }
  for requirement in filter(applies, wanted()):
    name = canonicalize_name(requirement.name)
    assert name in pinned, f'{name} is not locked; run .ci/lock'
    assert requirement.specifier.contains(pinned[name]), (
      f'locked is {name} {pinned[name]}, setup.cfg wants {requirement}; '
      'run .ci/lock'
    )


def test_every_entry_is_one_version_with_hashes():
  for requirement, hashes in locked():
    assert re.fullmatch(r'==[\w.+!]+', str(requirement.specifier)), requirement
    assert hashes >= 1, f'{requirement} has no hash'
    assert requirement.url is None


def test_lock_names_no_host():
  assert '://' not in (ROOT / 'requirements-lock.txt').read_text()
