"""Breaks one line at a time and asks whether the tests notice.

  python tests/mutants/run.py [--only TEXT] [--check] [--jobs 2]

`mutants.toml` lists the broken lines: a module, a piece of its text that occurs
once, what stands there instead, and the tests that must fail. Each mutant runs
in a copy of the project, so that nothing here changes. First all the tests must
pass unbroken. Exit code 0: all were caught.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ('ecgjax', 'configs', 'tests', 'benchmarks', 'pyproject.toml')
LIMIT = 600  # seconds of one mutant


def read() -> list[dict]:
  path = pathlib.Path(__file__).with_name('mutants.toml')
  return tomllib.loads(path.read_text())['mutant']


def source_of(module: str, root: pathlib.Path) -> pathlib.Path:
  return root.joinpath(*module.split('.')).with_suffix('.py')


def problems(mutants) -> list[str]:
  """What is off with the list itself; empty where it fits the code."""
  found = []
  names = [mutant['name'] for mutant in mutants]
  found += [
    f'{n}: twice' for n in sorted({n for n in names if names.count(n) > 1})
  ]
  for mutant in mutants:
    name, path = mutant['name'], source_of(mutant['module'], ROOT)
    if not path.is_file():
      found.append(f'{name}: no module {mutant["module"]}')
      continue
    count = path.read_text().count(mutant['old'])
    if count != 1:
      found.append(f'{name}: the old text occurs {count} times in {path.name}')
    if mutant['old'] == mutant['new']:
      found.append(f'{name}: nothing changes')
    for test in mutant['tests']:
      if not (ROOT / test.split('::')[0]).is_file():
        found.append(f'{name}: no file {test}')
  return found


def copy_project(target: pathlib.Path) -> None:
  for name in FOLDERS:
    source = ROOT / name
    if source.is_dir():
      shutil.copytree(
        source, target / name, ignore=shutil.ignore_patterns('__pycache__')
      )
    elif source.is_file():
      shutil.copy(source, target / name)


def run_tests(root: pathlib.Path, tests) -> subprocess.CompletedProcess:
  command = [
    sys.executable, '-m', 'pytest', '-n', '0', '-q', '-x', '-m', 'not slow',
    '-p', 'no:cacheprovider', *tests,
  ]  # fmt: skip
  return subprocess.run(
    command, cwd=root, capture_output=True, text=True, timeout=LIMIT,
    env=os.environ | {'PYTHONPATH': str(root)},
  )  # fmt: skip


def outcome(mutant) -> str:
  """'caught', 'survived', or why it counts for neither."""
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    copy_project(root)
    path = source_of(mutant['module'], root)
    text = path.read_text()
    path.write_text(text.replace(mutant['old'], mutant['new']))
    try:
      done = run_tests(root, mutant['tests'])
    except subprocess.TimeoutExpired:
      return f'did not end in {LIMIT} s'
  if done.returncode == 0:
    return 'survived'
  if done.returncode == 1:
    return 'caught'
  return f'pytest ended with {done.returncode}:\n{done.stdout[-600:]}'


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--only', default='', help='part of the name or module')
  parser.add_argument('--check', action='store_true', help='the list alone')
  parser.add_argument('--jobs', type=int, default=1)
  options = parser.parse_args()
  mutants = read()
  found = problems(mutants)
  if found or options.check:
    print('\n'.join(found) or f'{len(mutants)} mutants fit the code')
    return bool(found)
  mutants = [
    m
    for m in mutants
    if options.only in m['name'] or options.only in m['module']
  ]
  tests = sorted({test for mutant in mutants for test in mutant['tests']})
  done = run_tests(ROOT, tests)
  if done.returncode:
    print(f'unbroken, the tests do not pass:\n{done.stdout[-3000:]}')
    return 1
  with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
    caught = 0
    for mutant, result in zip(mutants, pool.map(outcome, mutants)):
      caught += result == 'caught'
      print(f'{mutant["name"]:48} {result}', flush=True)
  print(f'{caught} of {len(mutants)} caught')
  return int(caught < len(mutants))


if __name__ == '__main__':
  sys.exit(main())
