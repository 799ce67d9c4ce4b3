"""The benchmarks' common shape; what they measure is not a test."""

import concurrent.futures
import multiprocessing
import pathlib

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import timing

FOLDER = pathlib.Path(benchmarks.__file__).parent


def test_every_module_that_measures_is_in_the_table():
  found = {
    path.stem
    for path in FOLDER.glob('*.py')
    if '\ndef measure(options: timing.Options)' in path.read_text()
  }
  assert found == set(benchmarks.MODULES)


def test_a_new_process_can_measure():
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, context) as process:
    found = process.submit(timing.measure, 'prepare', timing.Options())
    assert 'no --raw_dir' in found.result()[0].found
  assert timing.measure.__module__ != benchmarks.__name__


@pytest.mark.parametrize('name', ['prepare', 'end_to_end'])
def test_what_lacks_its_folder_says_so(name):
  (row,) = timing.measure(name, timing.Options())
  assert row.found == 'not measured: no --raw_dir'


def test_interleaved_rounds_take_turns_and_drop_the_first():
  calls = []

  def task(name):
    calls.append(name)
    return timing.Sample(len(calls), 0.0)

  samples = timing.interleaved(
    {name: lambda name=name: task(name) for name in 'ab'}, rounds=3
  )
  assert calls == list('abababab')
  assert timing.median(samples['a']) == timing.Sample(5, 0.0)  # of 3, 5, 7


def test_table():
  row = timing.Row('speed', '2.0', '1', '3')
  lines = timing.table([row]).splitlines()
  assert lines[0] == '| measure | must | aim | found |'
  assert lines[2] == '| speed | 1 | 3 | 2.0 |'
