"""An evaluator in one file: the mean length of features."""

import numpy as np

from ecgjax.metrics import bootstrap
from ecgjax.report.finding import Finding

OPTIONS = {'order': 2}


def evaluate(run) -> Finding:
  """Mean norm of the test features."""
  test = run.features('model')['test']
  norms = np.linalg.norm(test, ord=run.options['order'], axis=1)
  value = bootstrap.mean_with_interval(norms, np.arange(len(norms)), run.draws)
  return Finding(metrics={'feature_norm': value})
