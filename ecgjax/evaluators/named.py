"""Which evaluators are meant, what they are told, and running them."""

from collections.abc import Mapping, Sequence

from ecgjax.evaluators.run import Run
from ecgjax.model import Model
from ecgjax.report.finding import Finding, merge
from ecgjax.runtime.resolve import resolve

# Fields of `config.evaluation` that name an evaluator where they are set.
_FIELDS = {
  'reduced_leads': 'reduced_leads',
  'chains': 'chains',
  'readers_csv': 'human_readers',
  'attribution': 'attribution',
}


def choose(
  fields: Mapping, further: Sequence[str], first: Sequence[str]
) -> tuple[str, ...]:
  """Names of evaluators, each once.

  Args:
    fields: `config.evaluation`, {} without.
    further: `config.evaluators`.
    first: those that come first.

  Raises:
    ValueError: if there is no evaluator of a name, or an option is set of one
      that is not named.
  """
  names = [*first, *(n for f, n in _FIELDS.items() if fields.get(f)), *further]
  for name in (*names, *_FIELDS.values()):
    for field, default in _options(name).items():
      if name not in names and fields.get(field, default) != default:
        raise ValueError(
          f'config.evaluation.{field} needs config.evaluation.{name}=True'
        )
  return tuple(dict.fromkeys(names))


def of_config(config, model: Model, own: Sequence[str] = ()) -> tuple:
  """Evaluators of a config, and their options; opens no data.

  Args:
    config: of a run or of an evaluation.
    model: with weights and classes or, before training, without.
    own: evaluators of its method, for a run with labels.

  Returns:
    Their names, and the options of all of them.

  Raises:
    ValueError: if there is no such evaluator, or one refuses the model.
  """
  fields, trained = config.get('evaluation', {}), model.config
  first = ('arms', *own) if config.data.task else ('unlabelled',)
  names = choose(fields, config.evaluators, first)
  found = options(names, trained.get(trained.method, {}), fields)
  check(names, found, model)
  return names, found


def options(names: Sequence[str], *groups: Mapping) -> dict:
  """The options of evaluators: their own, or as a group has them.

  Args:
    names: files of `ecgjax/evaluators/`.
    *groups: groups of a config; the last one that has a field counts.
  """
  found = {k: v for name in names for k, v in _options(name).items()}
  for group in groups:
    found |= {field: group[field] for field in found if field in group}
  return found


def check(names: Sequence[str], options: Mapping, model: Model) -> None:
  """Refuses evaluators that cannot judge a model; opens no data.

  Args:
    names: files of `ecgjax/evaluators/`.
    options: what `options` returned.
    model: with weights and classes or, before training, without.

  Raises:
    ValueError: names the field and the remedy.
  """
  for name in names:
    module = _evaluator(name)
    if hasattr(module, 'check'):
      module.check(options, model)


def check_data(names: Sequence[str], options: Mapping, data) -> None:
  """Refuses evaluators that need other data; computes nothing."""
  for name in names:
    module = _evaluator(name)
    if hasattr(module, 'check_data'):
      module.check_data(options, data)


def find(names: Sequence[str], run: Run) -> Finding:
  """Runs evaluators, what they need of the data being looked at first."""
  check_data(names, run.options, run.data)
  return merge({name: _evaluator(name).evaluate(run) for name in names})


def _evaluator(name: str):
  return resolve('evaluators', name, 'evaluate')


def _options(name: str) -> Mapping:
  return getattr(_evaluator(name), 'OPTIONS', {})
