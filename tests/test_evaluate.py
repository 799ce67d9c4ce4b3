"""`--mode=eval`: contracts, arms, shared classes, one evaluation per file."""

import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from configs import evaluate as evaluate_config
from ecgjax import evaluate
from ecgjax import model as model_lib
from ecgjax.data.batches import run_data
from ecgjax.data.store import leakage, prepared
from ecgjax.ecg import delineation
from ecgjax.evaluators import attribution
from ecgjax.report import results as results_lib
from tests import tiny_runs
from tests.data import raw_corpora

LEADS = ('II', 'V1', 'V5')
NUM = 90


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A prepared folder of recordings, two labels that the signal shows."""
  root = tmp_path_factory.mktemp('raw')
  with open(root / 'labels.csv', 'w') as file:
    writer = csv.writer(file)
    writer.writerow(['record', 'AF', 'MI'])
    for number in range(NUM):
      af, mi = number % 2, number // 2 % 2
      ecg = raw_corpora.ecg(number, 100)
      ecg[:, 6:] *= 1 + af  # the chest leads grow
      ecg[:, 6] *= 1 - 2 * mi
      raw_corpora.write_record(root / f'r{number:02d}', ecg, 100)
      writer.writerow([f'r{number:02d}', af, mi])
  target = tmp_path_factory.mktemp('data')
  prepared.build(
    'wfdb_folder', str(target), 100, raw_dir=str(root), workers=1,
    labels_csv=str(root / 'labels.csv'), max_rejected=0.0,
  )  # fmt: skip
  return target


@pytest.fixture(scope='module')
def lcd(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('lcd')
  tiny_runs.write_lcd(
    workdir, leads=LEADS, length=64, name='wfdb_folder', size='', task='all'
  )
  return workdir


@pytest.fixture(scope='module')
def model(lcd):
  return model_lib.load(lcd)


def make_config(run, data_dir, **evaluation):
  config = evaluate_config.get_config('dataset=wfdb_folder')
  config = config.copy_and_resolve_references()
  config.init_from = str(run)
  config.data.dir = str(data_dir)
  config.evaluation.update(evaluation)
  config.bootstrap_draws = 1000
  return config.lock()


@pytest.fixture(scope='module')
def evaluated(lcd, data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('evaluation')
  config = make_config(lcd, data_dir, reduced_leads=True)
  return workdir, evaluate.evaluate_checkpoint(config, workdir)


def test_probe_of_a_pretrained_model(evaluated, model):
  workdir, results = evaluated
  path = workdir / 'eval_wfdb_folder.json'
  assert results_lib.read(path) == json.loads(json.dumps(results))
  assert set(results['arms']) == {'random_probe', 'probe'}
  assert set(results['differences']) == {'probe-random_probe'}
  assert results['hashes']['checkpoint'] == model.digest
  assert results['config']['data']['leads'] == list(LEADS)
  assert results['contract']['length'] == 64
  # This 'run' has not learnt anything: the arms are the same encoder.
  assert model_lib.untrained(model).digest == model.digest
  difference = results['differences']['probe-random_probe']
  assert difference['macro_auroc_all']['value'] == 0
  stored = results_lib.read_predictions(workdir / 'eval_wfdb_folder.npz')
  expected = np.mean([
    roc_auc_score(stored['labels'][:, k], stored['arms']['probe'][:, k])
    for k in (0, 1)
  ])  # fmt: skip
  found = results['metrics']['macro_auroc_all']['value']
  assert found == pytest.approx(expected, abs=1e-12) and found > 0.8
  text = (workdir / 'eval_wfdb_folder.html').read_text()
  assert 'Fewer leads' in text and 'Most confident errors' in text


def test_reduced_leads(evaluated):
  _, results = evaluated
  part = results['reduced_leads']
  assert part['leads'] == list(LEADS) and part['num_conditions'] == 7
  whole = '+'.join(LEADS)
  name = part['metric']
  for variant in ('retrained', 'zero_filled'):
    entry = part[variant]['conditions'][whole]
    assert entry == {k: results['metrics'][name][k] for k in ('value', 'ci95')}
  # AF changes V1 and V5 alike, MI V1 alone; II knows nothing of either but
  # through the normalisation over all leads.
  found = part['retrained']['conditions']
  assert found['V1']['value'] > found['II']['value']


def test_finished_foreign_and_changed(evaluated, lcd, model, data_dir):
  workdir, results = evaluated
  path = workdir / 'eval_wfdb_folder.json'
  before = path.stat().st_mtime_ns
  config = make_config(lcd, data_dir, reduced_leads=True)
  again = evaluate.evaluate_checkpoint(config, workdir)
  assert again == json.loads(json.dumps(results))
  assert path.stat().st_mtime_ns == before
  other = make_config(lcd, data_dir)
  with pytest.raises(ValueError, match='evaluation.reduced_leads is True ther'):
    evaluate.evaluate_checkpoint(other, workdir)
  completed = evaluate.complete(config, model.contract)
  with pytest.raises(ValueError, match='step 1 of the run was evaluated there'):
    evaluate.read_finished(path, completed, 'another digest')


@pytest.mark.parametrize(
  'field, value, found',
  [
    ('rate', 500.0, 'rate is 500.0; the model was trained with 100.0'),
    ('length', 1000, 'length is 1000; the model was trained with 64'),
    ('leads', ('II', 'V1'), 'leads is .* the model was trained with'),
    ('leads', ('V1', 'II', 'V5'), 'leads is'),
    ('normalisation', 'lead', 'the model was trained with record'),
  ],
)
def test_another_contract_is_refused(lcd, model, data_dir, field, value, found):
  config = make_config(lcd, data_dir).copy_and_resolve_references()
  config.data[field] = value
  with pytest.raises(ValueError, match=found):
    evaluate.complete(config, model.contract)


def test_same_contract_is_accepted(lcd, model, data_dir):
  config = make_config(lcd, data_dir).copy_and_resolve_references()
  config.data.update({'rate': 100.0, 'leads': ('ii', 'v1', 'V5')})
  completed = evaluate.complete(config, model.contract)
  assert completed.data.leads == LEADS and completed.data.length == 64


def test_data_at_another_rate_are_asked_for(data_dir, tmp_path):
  tiny_runs.write_classifier(tmp_path / 'run', ('AF', 'MI'), rate=128.0)
  config = make_config(tmp_path / 'run', data_dir)
  with pytest.raises(ValueError, match='raw_dir'):
    evaluate.evaluate_checkpoint(config, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def complete(config, run):
  contract = model_lib.load(run).contract
  return evaluate.complete(config, contract)


def said_on_test(config, run):
  """The model, the test split, and what its classifier says of it."""
  model = model_lib.load(run)
  data = run_data.open_data(complete(config, run).data)
  test = data.labelled['test']
  assert test.class_names == ('AF', 'MI')
  return model, test, model_lib.over_split(model, test).probabilities


def test_classifier_that_knows_one_class(data_dir, tmp_path, monkeypatch):
  monkeypatch.setattr(evaluate, 'publish', lambda _, ending: ending.results)
  run = tmp_path / 'run'
  tiny_runs.write_classifier(run, ('MI', 'X'))
  config = make_config(run, data_dir, readers_csv=str(tmp_path / 'r.csv'))
  test = run_data.open_data(complete(config, run).data).labelled['test']
  lines = [
    f'{record},{reader},general,{label[1]:.0f}'
    for record, label in zip(test.record_ids, test.columns['label'])
    for reader in ('Ann', 'Bo')
  ]
  text = '\n'.join(['record_id,reader,group,MI', *lines])
  (tmp_path / 'r.csv').write_text(text + '\n')
  results = evaluate.evaluate_checkpoint(config, tmp_path / 'out')
  assert set(results['arms']) == {'random_probe', 'probe'}
  part = results['shared_classes']
  assert part['class_names'] == ['MI'] and set(part['per_class']) == {'MI'}
  _, test, said = said_on_test(config, run)
  auroc = part['arms']['scratch']['per_class']['MI']['auroc']['value']
  expected = roc_auc_score(test.columns['label'][:, 1], said[:, 0])
  assert auroc == pytest.approx(expected, abs=1e-12)
  probe = part['arms']['probe']['per_class']['MI']['auroc']
  assert probe == results['per_class']['MI']['auroc']
  # Readers who are always right, beside the arm that knows all classes.
  assert results['readers']['arm'] == 'probe'
  model, *readers = results['readers']['rows']
  probe = results['per_class']['MI']['sensitivity']['value']
  assert model['per_class']['MI']['sensitivity']['value'] == probe
  for row in readers:
    assert set(row['per_class']) == {'MI'}
    assert row['macro']['f1']['value'] == 1


def test_classifier_that_knows_all_and_where_it_looks(data_dir, tmp_path):
  """AF and MI are classes of the simulator, so that it can be measured."""
  tiny_runs.write_classifier(tmp_path / 'run', ('MI', 'NORM', 'AF'))
  shutil.copytree(tmp_path / 'run', tmp_path / 'other')
  config = make_config(
    tmp_path / 'run', data_dir, attribution=True,
    compare_with=str(tmp_path / 'other'),
  )  # fmt: skip
  results = evaluate.evaluate_checkpoint(config, tmp_path / 'out')
  model, _, said = said_on_test(config, tmp_path / 'run')
  stored = results_lib.read_predictions(tmp_path / 'out/eval_wfdb_folder.npz')
  np.testing.assert_array_equal(stored['arms']['scratch'], said[:, [2, 0]])
  assert 'scratch-random_probe' in results['differences']
  assert 'shared_classes' not in results
  part = results['attribution']['simulator']
  entry = part['classes']['MI']
  assert 0 < entry['attribution']['value'] < 1
  assert entry['other'] == entry['attribution']  # the same weights
  assert entry['minus_other'] == {'value': 0.0, 'ci95': [0.0, 0.0]}
  assert part['completeness_gap']['model'] < 0.1
  text = (tmp_path / 'out' / 'eval_wfdb_folder.html').read_text()
  assert 'Where the classifier looks' in text
  assert text.count('integrated gradients| of its logit') >= 2

  # What the simulator's waves say is in its signal: QRS is steep.
  examples = attribution.simulated_examples(model.contract, model.class_names)
  normal = [k for k, names in enumerate(examples.labels) if 'NORM' in names]
  hits = []
  for k in normal:
    inside, span = delineation.masks(
      examples.known[k], ('qrs',), ('II', 'V1'), 100.0, 64
    )
    assert span.all() and inside.mean() < 0.4
    slope = np.abs(np.gradient(examples.ecg[k][:, 0]))
    if inside.any():
      hits.append(inside[np.argmax(slope), 0])
  assert len(hits) > 5 and np.mean(hits) > 0.9


def test_what_cannot_be_done_is_said_first(lcd, data_dir, tmp_path):
  run = tmp_path / 'run'
  tiny_runs.write_classifier(run, ('AF', 'MI'), branches='joint')
  for config, found in (
    (make_config('', data_dir), 'names no run'),
    (make_config(tmp_path, data_dir), 'holds no valid checkpoint'),
    (make_config(run, data_dir, reduced_leads=True), 'all leads at once'),
    (make_config(lcd, data_dir, attribution=True), 'no classifier'),
    (make_config(lcd, data_dir, ludb_dir='x'), 'needs config.evaluation.attr'),
    (
      make_config(run, data_dir, attribution=True, ludb_dir='x'),
      'ludb.csv is missing',
    ),
  ):
    with pytest.raises(ValueError, match=found) as error:
      evaluate.evaluate_checkpoint(config, tmp_path / 'out')
    assert '\n' not in str(error.value)
  assert not (tmp_path / 'out').exists()


def test_test_patients_in_the_training_data(
  lcd, data_dir, tmp_path, monkeypatch
):
  model = model_lib.load(lcd)  # its config will be changed
  config = make_config(lcd, data_dir)
  builder = prepared.make_builder('wfdb_folder', str(data_dir), 100.0)
  audit = evaluate.audit_training_data(config, model, builder)
  assert audit.startswith('not done: training data')  # not where it was
  model.config.unlock()
  model.config.data.dir = str(data_dir)
  audit = evaluate.audit_training_data(config, model, builder)
  assert audit.endswith('also the training data')
  seen = []

  def leak(*builders, allow):
    seen.append((len(builders), allow))
    raise leakage.Leak('planted')

  monkeypatch.setattr(leakage, 'audit', leak)
  shutil.copytree(data_dir, tmp_path / 'elsewhere')
  model.config.data.dir = str(tmp_path / 'elsewhere')
  with pytest.raises(leakage.Leak):
    evaluate.audit_training_data(config, model, builder)
  assert seen == [(2, False)]


def test_another_signal_of_ptbxl_is_warned_about(model, lcd, data_dir, caplog):
  config = make_config(lcd, data_dir)
  assert evaluate.warn_of_signal(config, model) == ''
  trained = model.config.copy_and_resolve_references().unlock()
  trained.data.update(name='ptbxl', rate=100.0, sources=('records500',))
  config = config.copy_and_resolve_references().unlock()
  config.data.update(name='ptbxl', rate=100.0)
  warning = evaluate.warn_of_signal(config, model._replace(config=trained))
  assert 'records500' in warning and warning in caplog.text
  trained.data.sources = ()
  model = model._replace(config=trained)
  assert evaluate.warn_of_signal(config, model) == ''


def test_chains_of_a_table(lcd, data_dir, tmp_path):
  """The chest leads of every second record are larger: features show it."""
  path = tmp_path / 'chains.csv'
  rows = [f'r{n:02d},{"even" if n % 2 else "odd"}' for n in range(NUM)]
  path.write_text('\n'.join(['record,recorder', *rows]))
  config = make_config(lcd, data_dir, chains=f'{path}:recorder')
  results = evaluate.evaluate_checkpoint(config, tmp_path)
  part = results['chains']
  assert part['unknown'] == 0 and set(part['chains']) == {'even', 'odd'}
  metrics = part['arms']['probe']['metrics']
  assert metrics['macro_auroc_all']['value'] > 0.8
  assert set(part['arms']) == {'random_probe', 'probe'}
  text = (tmp_path / 'eval_wfdb_folder.html').read_text()
  assert 'Which corpus, which chain' in text
  # One source: nothing to tell apart, said before anything is computed.
  config = make_config(lcd, data_dir, chains='source')
  with pytest.raises(ValueError, match='fewer than two chains'):
    evaluate.evaluate_checkpoint(config, tmp_path / 'other')
