"""What can be said of a run on recordings without any labels.

There is nothing to probe, so that the test split stays unused: the result is
the validation loss of the checkpoint.
"""

from ecgjax.report.finding import Finding


def evaluate(run) -> Finding:
  """The validation loss that training kept with the checkpoint."""
  loss = run.model.figures['validation_loss']
  return Finding(metrics={'validation_loss': {'value': loss, 'ci95': None}})
