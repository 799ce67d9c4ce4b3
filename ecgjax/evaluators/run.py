"""What every evaluator is given."""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from ecgjax.data.batches.run_data import SPLITS, RunData
from ecgjax.evaluators.arms import probe_scores
from ecgjax.model import Model, Outputs, over_split


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """A model and data; what the model says of them is computed once.

  Attributes:
    models: 'model', the one under test; 'untrained', the same before its first
      step; 'pretrained', what its training started from, if anything.
    data: splits of the data set that it is judged on.
    probed: arm -> name of the model that a probe of frozen features reads.
    options: name -> value: the `OPTIONS` of the evaluators, as configured.
    recipe: how probes are fitted, see `arms.fit_probe`.
    draws: number of bootstrap draws over patients.
  """

  models: Mapping[str, Model]
  data: RunData
  probed: Mapping[str, str]
  options: Mapping[str, object]
  recipe: str
  draws: int
  _known: dict = dataclasses.field(default_factory=dict, repr=False)
  _passes: list = dataclasses.field(default_factory=list, repr=False)

  @property
  def model(self) -> Model:
    """The model under test."""
    return self.models['model']

  @property
  def examples_per_second(self) -> float:
    """ECGs of all splits that models have seen so far, over the time taken."""
    examples, seconds = map(sum, zip(*self._passes))
    return examples / seconds

  def outputs(self, name: str, split: str) -> Outputs:
    """What a model says of the labelled records of a split.

    Args:
      name: key of `models`.
      split: 'train', 'validation' or 'test'.
    """
    key = name, split
    if key not in self._known:
      labelled, started = self.data.labelled[split], time.monotonic()
      self._known[key] = over_split(self.models[name], labelled, name)
      seconds = time.monotonic() - started
      self._passes.append((len(labelled.record_ids), seconds))
    return self._known[key]

  def features(self, name: str) -> dict[str, np.ndarray]:
    """Split -> frozen features [N, D] of a model."""
    return {split: self.outputs(name, split).features for split in SPLITS}

  def probe(self, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Validation and test probabilities [N, K] of an arm of `probed`."""
    if arm not in self._known:
      features = self.features(self.probed[arm])
      self._known[arm] = probe_scores(
        self.recipe, *features.values(), self.data.labelled
      )
    return self._known[arm]
