"""A real study with a few steps a run: `pytest -m slow`."""

import json

import pytest

from configs import lcd as lcd_config
from configs import study_label_efficiency as study_config
from ecgjax.evaluators import attribution as attribution_lib
from ecgjax.metrics import attribution
from ecgjax.studies import label_efficiency, study

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp('data'))


def on(config, data_dir, **fields):
  config = config.copy_and_resolve_references()
  config.data.dir = data_dir
  config.update(fields)
  return config.lock()


@pytest.fixture(scope='module')
def finished(tmp_path_factory, data_dir):
  workdir = tmp_path_factory.mktemp('study') / 'study'
  config = on(
    study_config.get_config('preset=smoke'), data_dir,
    study={'attribution': True},
  )  # fmt: skip
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(attribution_lib, '_PER_CLASS', attribution.MIN_RECORDS)
    return config, workdir, study.run_study(config, workdir)


def test_study_has_every_arm_with_intervals(finished):
  _, workdir, results = finished
  efficiency = results['label_efficiency']
  assert set(efficiency['curves']) == set(label_efficiency.ARMS)
  for curve in efficiency['curves'].values():
    assert len(curve) == 2
    for point in curve:
      low, high = point['ci95']
      assert 0 <= low <= point['value'] <= high <= 1
  assert set(efficiency['differences']) == set(label_efficiency.ARMS) - {
    'scratch'
  }
  assert (workdir / 'report.html').is_file()
  assert '| scratch |' in (workdir / 'results.md').read_text()


def test_study_says_where_classifiers_look(finished):
  _, workdir, results = finished
  by_size = results['attribution']['simulator']
  assert set(by_size) == {'labels50percent', 'labels100percent'}
  entry = by_size['labels50percent']['classes']['MI']
  for name in ('attribution', 'scratch', 'time', 'amplitude'):
    assert 0 < entry[name]['value'] < 1
  text = (workdir / 'results.md').read_text()
  assert 'inside the waves that define the class' in text
  assert 'ludb_dir' not in results['study']  # no path of this machine


def test_study_cells_keep_manifests_and_are_nested(finished):
  _, workdir, _ = finished
  manifests = [
    json.loads((workdir / 'runs' / name / 'manifest.json').read_text())
    for name in ('labels50percent-seed0', 'labels100percent-seed0')
  ]
  small, large = (set(m['record_ids']) for m in manifests)
  assert small < large
  cell = workdir / 'runs' / 'labels50percent-seed0' / 'results.json'
  results = json.loads(cell.read_text())
  assert results['hashes']['manifest'] == manifests[0]['sha256']


def test_study_resumes_cell_by_cell(finished):
  config, workdir, results = finished
  lost = workdir / 'runs' / 'labels50percent-seed0' / 'results.json'
  kept = workdir / 'runs' / 'labels100percent-seed0' / 'results.json'
  before, stamp = lost.read_text(), kept.stat().st_mtime_ns
  lost.unlink()
  (workdir / 'results.json').unlink()
  again = study.run_study(config, workdir)
  assert kept.stat().st_mtime_ns == stamp
  assert json.loads(lost.read_text())['arms'] == json.loads(before)['arms']
  assert again['label_efficiency'] == results['label_efficiency']


def test_study_needs_a_study_config(data_dir, tmp_path):
  config = on(lcd_config.get_config('preset=smoke'), data_dir)
  with pytest.raises(ValueError, match='needs a study config'):
    study.run_study(config, tmp_path / 'run')


def test_too_few_test_patients_are_found_before_the_first_run(
  data_dir, tmp_path
):
  config = study_config.get_config('preset=smoke')
  config = on(config, data_dir, data={'size': 'tiny'})
  with pytest.raises(ValueError, match='10 positive and 10 negative test'):
    study.run_study(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
