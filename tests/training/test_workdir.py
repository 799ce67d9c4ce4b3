"""The run's own files, damaged or not of this run: one line each."""

import json

import pytest

from configs import lcd as lcd_config
from ecgjax.training import metric_writers, workdir


@pytest.mark.parametrize('content', [b'', b'{"seed": 0', b'[]', b'{}', b'\xff'])
def test_damaged_config_is_named(tmp_path, content):
  config = lcd_config.get_config()
  workdir.create(config, tmp_path)
  workdir.check(config, tmp_path)
  (tmp_path / 'config.json').write_bytes(content)
  with pytest.raises(ValueError, match='config.json is damaged') as caught:
    workdir.check(config, tmp_path)
  assert workdir.__name__ == caught.traceback[-1].frame.f_globals['__name__']


@pytest.mark.parametrize('content', [b'', b'{"arms": ', b'[]', b'{}', b'\xff'])
def test_damaged_results_are_named(tmp_path, content):
  assert workdir.read_results(tmp_path) is None
  (tmp_path / 'results.json').write_bytes(content)
  with pytest.raises(ValueError, match='results.json.* remove it') as caught:
    workdir.read_results(tmp_path)
  assert workdir.__name__ == caught.traceback[-1].frame.f_globals['__name__']


ROWS = b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'


@pytest.mark.parametrize(
  'content, line',
  [
    (b'\xff' + ROWS, 1),
    (ROWS.replace(b'2}', b'2'), 2),
    (ROWS.replace(b'{"step": 2}', b'7'), 2),
    (ROWS.replace(b'step": 2', b'loss": 2'), 2),
  ],
)
def test_damaged_metrics_are_named(tmp_path, content, line):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f'metrics.jsonl, line {line} is damag'):
    metric_writers.MetricWriter(tmp_path, 3)
  assert path.read_bytes() == content  # nothing is lost


def test_a_torn_last_line_is_cut_off(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(ROWS + b'{"st')
  with metric_writers.MetricWriter(tmp_path, 2):
    pass
  steps = [json.loads(line)['step'] for line in path.read_text().splitlines()]
  assert steps == [1, 2]


def test_lost_metrics_are_said(tmp_path, caplog):
  with metric_writers.MetricWriter(tmp_path, 0):
    assert not caplog.text
  with metric_writers.MetricWriter(tmp_path, 24):
    assert 'has no row up to step 24' in caplog.text


def test_a_folder_from_before_a_field_is_still_its_own(tmp_path):
  config = lcd_config.get_config().copy_and_resolve_references()
  workdir.create(config, tmp_path)
  fields = json.loads((tmp_path / 'config.json').read_text())
  del fields['evaluators']
  (tmp_path / 'config.json').write_text(json.dumps(fields))
  workdir.check(config, tmp_path)
  config.evaluators = ('chains',)
  with pytest.raises(ValueError, match='another config .evaluators is'):
    workdir.check(config, tmp_path)
