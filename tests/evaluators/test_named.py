"""Which evaluators a config means, and what each of them is told."""

import types

import pytest

from configs import evaluate as evaluate_config
from configs import longitudinal as longitudinal_config
from ecgjax.evaluators import named
from ecgjax.report import finding
from ecgjax.report.finding import Finding
from ecgjax.report.tables import Table


def model_of(config, **method):
  method = {'per_lead': True, 'logits_loss': sum} | method
  return types.SimpleNamespace(
    config=config, method=types.SimpleNamespace(**method), class_names=()
  )


def chosen(config, own=(), **method):
  return named.of_config(config, model_of(config, **method), own)


def test_evaluators_are_named_by_fields_by_name_and_by_the_method():
  config = evaluate_config.get_config().copy_and_resolve_references()
  assert chosen(config) == (('arms',), {})
  config.evaluation.reduced_leads = True
  config.evaluators = ('chains', 'reduced_leads')
  names, options = chosen(config)
  assert names == ('arms', 'reduced_leads', 'chains')
  assert options == {'chains': ''}
  config.evaluation.chains = 'records.csv:means'
  assert chosen(config)[1] == {'chains': 'records.csv:means'}
  config.evaluators = ('nothing',)
  with pytest.raises(
    ValueError, match="no 'nothing' in ecgjax.evaluators; cho"
  ):
    chosen(config)


def test_a_method_names_its_own_and_has_their_options():
  config = longitudinal_config.get_config().copy_and_resolve_references()
  config.longitudinal.gap_edges = (7.0,)
  names, options = chosen(config, ('identity',))
  assert names == ('arms', 'identity') and options == {'gap_edges': (7.0,)}
  config.data.task = ''  # nothing to probe
  assert chosen(config, ('identity',)) == (('unlabelled',), {})
  config.evaluators = ('attribution',)
  with pytest.raises(ValueError, match='no classifier'):
    chosen(config, logits_loss=None)


def test_what_an_evaluator_needs_of_the_data_is_looked_at_first(monkeypatch):
  done = []

  def refuse(options, data):
    raise ValueError(f'{options} do not fit {data}')

  modules = {
    'first': types.SimpleNamespace(evaluate=done.append),
    'second': types.SimpleNamespace(evaluate=done.append, check_data=refuse),
  }
  monkeypatch.setattr(named, '_evaluator', modules.get)
  run = types.SimpleNamespace(options='options', data='data')
  with pytest.raises(ValueError, match='options do not fit data'):
    named.find(('first', 'second'), run)
  assert not done


def test_findings_are_joined_and_never_overwritten():
  table = Table(['a'], [['1']])
  first = Finding({'m': {}}, {'f': 1}, {'probe': ()}, (('a', 'b'),))
  merged = finding.merge(
    {'arms': first, 'nearest_record': Finding(tables=[table], sections=['s'])}
  )
  assert merged.metrics == {'m': {}} and merged.fields == {'f': 1}
  assert merged.arms == {'probe': ()} and merged.comparisons == [('a', 'b')]
  assert merged.tables == [table] and merged.sections[1] == 's'
  assert merged.sections[0].title == 'Nearest record'
  for again in (
    Finding(metrics={'m': 0}), Finding(fields={'f': 0}),
    Finding(arms={'probe': 0}),
  ):  # fmt: skip
    with pytest.raises(ValueError, match='another one has given'):
      finding.merge({'arms': first, 'other': again})
