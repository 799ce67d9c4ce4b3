"""Files and log of every run, evaluation and study."""

import logging

import numpy as np
import pytest

from ecgjax.metrics import compare_arms, metrics
from ecgjax.report import ending, results
from ecgjax.report.tables import Table

NAMES = ('a', 'b')
MORE = Table(['more'], [['42']])


def record(labelled: bool, **fields):
  rng = np.random.default_rng(0)
  labels = (rng.random((60, 2)) < 0.4).astype(int)
  arms = {name: rng.random((60, 2)) for name in ('random_probe', 'probe')}
  predictions = {
    'arms': arms, 'labels': labels, 'patients': np.arange(60),
    'class_names': NAMES,
    'thresholds': {
      name: metrics.f1_thresholds(labels, x) for name, x in arms.items()
    },
  }  # fmt: skip
  loss = {'validation_loss': {'value': 0.25, 'ci95': None}}
  evaluation = (
    compare_arms.evaluate_arms(**predictions, method='probe', draws=50)
    if labelled
    else {'metrics': loss, 'per_class': {}, 'arms': {}, 'differences': {}}
  )
  made = results.assemble(
    evaluation, method='lcd', dataset='synthetic', protocol='x',
    split='test' if labelled else 'validation', seed=0, step=1,
    num_examples=60, num_patients=60, device='1 x cpu',
    hashes=dict.fromkeys(results.HASHES, '0a' * 32), synthetic=True,
    examples_per_second=1.0, wall_seconds=1.0, **fields,
  )  # fmt: skip
  return made, predictions if labelled else None


@pytest.mark.parametrize(
  ('name', 'files'),
  [
    ('results.json', {'report.html', 'predictions.npz', 'results.md'}),
    ('eval_x.json', {'eval_x.html', 'eval_x.npz', 'eval_x.md'}),
  ],
)
def test_files_of_an_ending(tmp_path, name, files):
  made, predictions = record(True)
  found = ending.publish(
    tmp_path / 'new' / name,
    ending.Ending(made, predictions, title='A title', text='Some words'),
  )
  assert found == made == results.read(tmp_path / 'new' / name)
  assert {p.name for p in (tmp_path / 'new').iterdir()} == {name, *files}
  page = next((tmp_path / 'new').glob('*.html')).read_text()
  assert 'A title' in page and 'Curves' in page
  assert next((tmp_path / 'new').glob('*.md')).read_text() == 'Some words\n'


def test_results_come_last(tmp_path, monkeypatch):
  """A folder with results is finished: no report, no results."""
  made, _ = record(False)

  def fail(*_, **__):
    raise OSError('disk full')

  monkeypatch.setattr(ending.page, 'write_report', fail)
  with pytest.raises(OSError, match='disk full'):
    ending.publish(tmp_path / 'results.json', ending.Ending(made))
  assert not (tmp_path / 'results.json').exists()


def test_log_lines(tmp_path, caplog):
  caplog.set_level(logging.INFO)
  made, predictions = record(True, extra=1)
  path = tmp_path / 'results.json'
  ending.publish(path, ending.Ending(made, predictions, tables=[MORE]))
  first, *rest = caplog.messages
  assert first.startswith('Test macro_auroc of 60 SYNTHETIC ECGs of 60 patien')
  assert 'probe-random_probe' in first and '| 42 |' in first
  assert rest == [f'Results: {path}', f'Report:  {tmp_path / "report.html"}']
  made, _ = record(False)
  assert ending.summary(made) == (
    'Validation, 60 SYNTHETIC ECGs of 60 patients:\n'
    '  validation_loss          0.250'
  )
