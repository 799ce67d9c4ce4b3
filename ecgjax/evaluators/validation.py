"""Figures on validation while a model is trained."""

import jax
import numpy as np

from ecgjax.ecg.contract import InputContract, to_model_input
from ecgjax.evaluators import named
from ecgjax.evaluators.run import Run
from ecgjax.metrics import metrics
from ecgjax.model import Model, over_split, untrained


def validation_metrics(method) -> tuple[str, ...]:
  """Names of what `make_validate` computes."""
  if method.logits_loss is None:
    return ('validation_loss',)
  return ('validation_loss', 'validation_macro_auroc')


def make_validate(method, contract: InputContract, split, batches):
  """Returns `state -> {'validation_...': figure}` for the training loop.

  A classifier reports its loss and the macro AUROC over all labelled validation
  records, in inference mode; any other method its loss on the validation
  batches with one fixed key.

  Args:
    method: of the run.
    contract: its input contract.
    split: the validation `Split`.
    batches: () -> full validation batches, see `run_data.Batches`.
  """
  if method.logits_loss is not None:
    labels = split.columns['label']
    mask = split.columns['label_mask']
    model = Model(method, contract, {}, {})

    def validate(state):
      said = over_split(model.of(state), split, 'validate')
      auroc = metrics.auroc(labels, said.probabilities, mask)
      return {
        'validation_loss': float(method.logits_loss(said.logits, labels, mask)),
        'validation_macro_auroc': metrics.macro(auroc),
      }

    return validate

  key = jax.random.key(0, impl='threefry2x32')

  @jax.jit
  def loss_of(params, model_state, target, batch):
    batch = to_model_input(batch, contract)
    return method.loss(params, model_state, target, key, batch, None)[0]

  def validate(state):
    values = [
      float(loss_of(state.params, state.model_state, state.target, batch))
      for batch in batches()
    ]
    return {'validation_loss': float(np.mean(values))}

  return validate


def watch(validate, model: Model, data):
  """Returns `validate` that also runs the evaluators every so many steps.

  Validation takes the place of the test split, which stays unseen. So these
  figures are for watching a run: probes choose their C on the same records.

  Args:
    validate: from `make_validate`.
    model: without weights; `config.evaluators_every` steps, 0: at the end only.
    data: `data.batches.run_data.RunData` of the run.
  """
  config = model.config
  if not (config.evaluators_every and config.data.task):
    return validate
  held_out = data.labelled['validation']
  if model.method.logits_loss:
    model = model._replace(class_names=held_out.class_names)
  data = data._replace(labelled=data.labelled | {'test': held_out})
  names, options = named.of_config(config, model, model.method.evaluators)
  named.check_data(names, options, data)
  label, mask = held_out.columns['label'], held_out.columns['label_mask']
  before = untrained(model)
  probed = {} if model.class_names else {'probe': 'model'}

  def watched(state):
    figures = validate(state)
    if int(state.step) % config.evaluators_every:
      return figures
    now = model.of(state)._replace(figures=dict(figures))
    models = {'model': now, 'untrained': before}
    recipe, draws = config.probe.recipe, config.bootstrap_draws
    run = Run(models, data, probed, options, recipe, draws)
    found = named.find(names, run)
    figures |= {
      f'validation_{name}': entry['value']
      for name, entry in found.metrics.items()
      if entry['value'] is not None
    }
    return figures | {
      f'validation_{arm}_auroc': metrics.macro(metrics.auroc(label, x, mask))
      for arm, (_, x) in found.arms.items()
    }

  return watched
