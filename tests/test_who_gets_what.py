"""Which records, labels, encoder, checkpoint and threshold each part is given.

What is computed is replaced by names, so that a figure of the wrong split, seed
or network is seen at once.
"""

import types

import numpy as np
import pytest
from sklearn import metrics as sk

from configs import lcd as lcd_config
from configs import supervised as supervised_config
from ecgjax import evaluate, train
from ecgjax import model as model_lib
from ecgjax.evaluators import arms, validation
from ecgjax.evaluators import run as run_lib
from ecgjax.methods import method as method_lib
from ecgjax.metrics import metrics, probe
from ecgjax.model import make_method

PARTS = ('train', 'validation', 'test')


def make_split(name, rows=40, seed=0):
  """Two labels and masks that differ from those of any other split."""
  rng = np.random.default_rng([seed, *name.encode()])
  columns = {
    'label': np.float32(rng.random((rows, 2)) < 0.4),
    'label_mask': np.float32(rng.random((rows, 2)) < 0.9),
    'patient': np.arange(rows),
  }
  return types.SimpleNamespace(
    name=name, columns=columns, class_names=('a', 'b'),
    record_ids=np.array([f'{name}{i}' for i in range(rows)]),
  )  # fmt: skip


@pytest.fixture
def splits():
  return {name: make_split(name) for name in PARTS}


def config_of(module, **fields):
  config = module.get_config().copy_and_resolve_references()
  config.update(fields)
  return config.lock()


def test_thresholds_are_of_validation_and_scores_of_test(splits):
  rng = np.random.default_rng(1)
  scores = {
    arm: (rng.random((40, 2)), rng.random((40, 2)))
    for arm in ('random_probe', 'probe')
  }
  evaluation, predictions = arms.compare(scores, splits, 'probe', draws=40)
  val, test = splits['validation'].columns, splits['test'].columns
  for arm, (val_scores, tested) in scores.items():
    np.testing.assert_array_equal(predictions['arms'][arm], tested)
    for k in range(2):
      keep = val['label_mask'][:, k] > 0
      truth, values = val['label'][keep, k], val_scores[keep, k]
      f1 = lambda cut, truth=truth, values=values: sk.f1_score(
        truth, values >= cut
      )
      best = max(f1(cut) for cut in values)
      assert f1(predictions['thresholds'][arm][k]) == pytest.approx(best)
  for field, name in (
    ('labels', 'label'), ('label_mask', 'label_mask'), ('patients', 'patient'),
  ):  # fmt: skip
    np.testing.assert_array_equal(predictions[field], test[name])
  keep = test['label_mask'][:, 0] > 0
  found = evaluation['per_class']['a']
  expected = sk.roc_auc_score(
    test['label'][keep, 0], scores['probe'][1][keep, 0]
  )
  assert found['auroc']['value'] == pytest.approx(expected)
  cut = predictions['thresholds']['probe'][0]
  expected = sk.f1_score(
    test['label'][keep, 0], scores['probe'][1][keep, 0] >= cut
  )
  assert found['f1']['value'] == pytest.approx(expected)


def test_a_probe_is_fitted_on_train_and_chosen_on_validation(splits):
  """Against `standardised_lr`, given each split by hand."""
  rng = np.random.default_rng(2)
  features = {
    name: rng.normal(size=(40, 5)) + split.columns['label'][:, :1]
    for name, split in splits.items()
  }
  found = arms.probe_scores(
    'standardised_lr', *(features[name] for name in PARTS), splits
  )
  train_columns, val = (splits[n].columns for n in ('train', 'validation'))
  fitted = probe.standardised_lr(
    features['train'], train_columns['label'],
    features['validation'], val['label'],
    train_label_mask=train_columns['label_mask'],
    val_label_mask=val['label_mask'],
  )  # fmt: skip
  for scores, name in zip(found, ('validation', 'test')):
    np.testing.assert_array_equal(scores, fitted.predict(features[name]))


def test_predictions_are_in_stored_order_without_padding(monkeypatch):
  """Rows with mask 0 go; state and outputs are those that were asked for."""

  def eval_batches(split, size):
    for start in range(0, 8, 4):
      rows = np.arange(start, start + 4)
      yield {'record': rows, 'mask': np.float32(rows < 6)}

  def predict(params, model_state, batch):
    rows = batch['record'].astype('f4')[:, None]
    return {
      'features': params * rows + model_state, 'probabilities': rows / 10,
    }  # fmt: skip

  monkeypatch.setattr(model_lib.stream, 'eval_batches', eval_batches)
  monkeypatch.setattr(model_lib, 'to_model_input', lambda batch, _: batch)
  method = method_lib.Method(None, None, predict)
  contract = model_lib.InputContract(100.0, 1, ('II',))
  model = model_lib.Model(method, contract, 2.0, 100.0)
  split = type('Split', (), {'name': 'test', '__len__': lambda self: 6})()
  found = model_lib.over_split(model, split)
  np.testing.assert_allclose(found.features[:, 0], 100 + 2 * np.arange(6))
  np.testing.assert_allclose(found.probabilities[:, 0], np.arange(6) / 10)


@pytest.fixture
def judged(monkeypatch, splits, tmp_path):
  """`evaluate_run` on names; returns (config, classifier?) -> its scores."""

  def judged(config, classifier):
    def named(name):
      classes = ('b', 'a') if classifier else ()
      return model_lib.Model(
        types.SimpleNamespace(evaluators=()), None, np.array(name), {}, classes,
        config=config,
      )  # fmt: skip

    def over_split(model, split, name=''):
      said = [f'{x}({model.params}, {split.name})' for x in model.class_names]
      return model_lib.Outputs(
        f'{model.params} {split.name}', np.array([said]) if classifier else None
      )

    seen = {}

    def compare(scores, splits, arm, draws, also=()):
      seen.update(scores=scores, arm=arm, splits=splits)
      assert draws == config.bootstrap_draws
      return {'metrics': {}}, {}

    monkeypatch.setattr(run_lib, 'over_split', over_split)
    monkeypatch.setattr(
      run_lib, 'probe_scores',
      lambda recipe, train, val, test, splits: (train, val, test),
    )  # fmt: skip
    monkeypatch.setattr(arms, 'compare', compare)
    monkeypatch.setattr(arms, 'errors_section', lambda *_: None)
    monkeypatch.setattr(evaluate, 'choose_model', lambda *_: named('chosen'))
    monkeypatch.setattr(evaluate, 'publish', lambda *_: None)

    def facts(config, run, split):
      seen.update(split=split, model=run.model.params)
      return {}

    monkeypatch.setattr(evaluate, 'facts', facts)
    monkeypatch.setattr(evaluate.results_lib, 'assemble', lambda *_, **__: {})
    data = types.SimpleNamespace(labelled=splits)
    trained = types.SimpleNamespace(
      initial=named('initial'), model=named('last'), start=named('start'),
      wall_seconds=0, examples_per_second=1.0,
    )  # fmt: skip
    evaluate.evaluate_run(config, trained, data, tmp_path)
    assert (seen['split'], seen['model']) == ('test', 'chosen')
    assert seen['splits'] is splits
    return seen

  return judged


def of(state):
  return tuple(f'{state} {part}' for part in PARTS)


def test_arms_of_a_pretraining_are_random_and_trained(judged):
  seen = judged(config_of(lcd_config), False)
  assert seen['arm'] == 'probe'
  assert seen['scores'] == {
    'random_probe': of('initial'), 'probe': of('chosen'),
  }  # fmt: skip


def test_arms_of_a_classifier_are_its_own_scores(judged):
  """In the order of the task's classes, which the classifier knows as b, a."""

  def own(seen, arm):
    return [part.tolist() for part in seen['scores'].pop(arm)]

  scores = [
    [[f'{x}(chosen, {part})' for x in 'ab']] for part in ('validation', 'test')
  ]
  seen = judged(config_of(supervised_config), True)
  assert seen['arm'] == 'scratch' and own(seen, 'scratch') == scores
  assert seen['scores'] == {'random_probe': of('initial')}
  seen = judged(config_of(supervised_config, init_from='run'), True)
  assert seen['arm'] == 'finetune' and own(seen, 'finetune') == scores
  assert seen['scores'] == {
    'random_probe': of('initial'), 'probe': of('start'),
  }  # fmt: skip


class Given(Exception):
  """Carries what a replaced function was given."""


@pytest.mark.parametrize(
  ('module', 'used'), [(lcd_config, 'all'), (supervised_config, 'labelled')]
)
def test_only_a_classifier_is_kept_to_labelled_records(
  module, used, monkeypatch, tmp_path
):
  from ecgjax.data.batches import run_data

  def make_batches(train, validation, order, **_):
    raise Given(train, validation)

  monkeypatch.setattr(run_data, 'make_batches', make_batches)
  names = lambda kind: {part: f'{kind} {part}' for part in PARTS}
  data = types.SimpleNamespace(
    splits=names('all'), labelled=names('labelled'), fingerprint=''
  )
  with pytest.raises(Given) as given:
    train.train_on(config_of(module), tmp_path / 'run', data)
  assert given.value.args == (f'{used} train', f'{used} validation')


def test_validation_figures_are_of_validation_labels(monkeypatch, splits):
  scores = np.random.default_rng(3).random((40, 2))
  asked = []

  def over_split(model, split, name=''):
    asked.append((model.params, split.name))
    return model_lib.Outputs(None, scores, np.log(scores / (1 - scores)))

  columns = splits['validation'].columns
  figure = metrics.macro(
    metrics.auroc(columns['label'], scores, columns['label_mask'])
  )
  monkeypatch.setattr(validation, 'over_split', over_split)
  method = make_method(config_of(supervised_config))
  validate = validation.make_validate(method, None, splits['validation'], None)
  keep = columns['label_mask'] > 0
  state = types.SimpleNamespace(params='state', model_state={}, step=1)
  assert validate(state) == {
    'validation_macro_auroc': pytest.approx(figure),
    'validation_loss': pytest.approx(
      sk.log_loss(columns['label'][keep], scores[keep]), rel=1e-5
    ),
  }
  assert asked == [('state', 'validation')]
