"""A run with several seeds: intervals over patients and seeds.

  python -m ecgjax.main --mode=study \\
    --config=configs/study_seeds.py:of=lcd,evaluate_on=ptbxl \\
    --workdir=runs/lcd_seeds

What one run says of one seed, this says of the method: the same config, three
seeds (--config.study.seeds), one results.json whose intervals and p values
cover retraining. Takes as long as that many runs; resumes run by run.

Arguments: of=lcd|longitudinal|supervised (a file beside this one), dataset= and
preset= of that file, evaluate_on= another data set on which every checkpoint is
judged too (eval_<dataset>.json; fields in --config.study.evaluation).
"""

import importlib.util
import pathlib

from ecgjax import config as config_lib
from ecgjax.runtime.resolve import choose

_FILES = ('lcd', 'longitudinal', 'supervised')


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, of='lcd', dataset='', preset='', evaluate_on=''
  )
  name = choose('of', choice['of'], {n: n for n in _FILES})
  given = [f'{k}={choice[k]}' for k in ('dataset', 'preset') if choice[k]]
  config = _load(name)(','.join(given)).copy_and_resolve_references().unlock()
  config_lib.make_study(config, 'seeds')
  if choice['evaluate_on']:
    other = _load('evaluate')(f'dataset={choice["evaluate_on"]}')
    config.study.evaluation = other.copy_and_resolve_references()
  return config.lock()


def _load(name: str):
  """`get_config` of the config file of that name."""
  path = pathlib.Path(__file__).with_name(f'{name}.py')
  spec = importlib.util.spec_from_file_location(f'configs_{name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config
