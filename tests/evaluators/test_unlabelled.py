"""Runs on recordings without labels end with results, too."""

import types

import numpy as np
import pytest

from configs import evaluate as evaluate_config
from configs import lcd as lcd_config
from configs import study_label_efficiency as study_config
from ecgjax import evaluate
from ecgjax.model import Model
from ecgjax.report import results as results_lib
from ecgjax.studies import study


class Validation:
  columns = {'patient': np.array([1, 1, 2])}

  def __len__(self):
    return 3


def test_the_validation_loss_is_the_result(tmp_path):
  config = lcd_config.get_config('dataset=wfdb_folder')
  config = config.copy_and_resolve_references()
  config.data.task = ''
  model = Model(
    types.SimpleNamespace(evaluators=('identity',)), None, {'w': np.ones(5)},
    {}, step=7, config=config,
  )  # fmt: skip
  trained = types.SimpleNamespace(
    model=model, initial=model, examples_per_second=1.0, wall_seconds=2.0,
    checkpointer=types.SimpleNamespace(
      metadata=lambda step: {'metrics': {'validation_loss': 0.25 * step}}
    ),
  )  # fmt: skip
  data = types.SimpleNamespace(
    labelled={'validation': Validation()}, split_hash='0' * 64,
    manifest_hash='1' * 64, synthetic=False,
  )  # fmt: skip
  evaluate.evaluate_run(config, trained, data, tmp_path)
  results = results_lib.read(tmp_path / 'results.json')
  assert results['metrics'] == {
    'validation_loss': {'value': 1.75, 'ci95': None}
  }
  assert results['split'] == 'validation' and results['num_patients'] == 2
  assert results['arms'] == {} and results['num_parameters'] == 5
  assert 'validation_loss' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize(
  'module, function',
  [
    (evaluate_config, evaluate.evaluate_checkpoint),
    (study_config, study.run_study),
  ],
)
def test_what_needs_labels_says_so(tmp_path, module, function):
  config = module.get_config().copy_and_resolve_references()
  config.data.task = ''
  with pytest.raises(ValueError, match='task is empty'):
    function(config, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
