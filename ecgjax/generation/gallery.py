"""Pictures of the simulator's classes, for README and notebooks.

python -m ecgjax.generation.gallery docs/gallery.png
"""

import io
import sys

import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from ecgjax.ecg import plot
from ecgjax.simulator import simulator


def class_examples(seed: int = 0, rate: float = 500.0) -> dict:
  """One synthetic ECG [L, 12] (millivolts, 10 s) of each of eleven classes."""
  names = simulator.CLASSES
  config = simulator.Config(rate=rate, length=int(10 * rate))
  ecg, _ = simulator.batch(
    seed,
    patient_ids=np.arange(len(names)),
    record_ids=np.zeros(len(names)),
    factors=[simulator.factors(name) for name in names],
    recorder=config,
  )
  return dict(zip(names, np.asarray(ecg)))


def draw_gallery(examples: dict, rate: float, columns: int = 3) -> Figure:
  """12-lead plots of all examples side by side, each labelled synthetic."""
  rows = -(-len(examples) // columns)
  figure = Figure(figsize=(6 * columns, 3.4 * rows), layout='constrained')
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for axis in axes:
    axis.axis('off')
    axis.set_anchor('N')
  for axis, (name, ecg) in zip(axes, examples.items()):
    buffer = io.BytesIO()
    plot.plot_ecg(ecg, rate, title=name, synthetic=True).savefig(
      buffer, format='png', dpi=100
    )
    axis.imshow(matplotlib.image.imread(io.BytesIO(buffer.getvalue())))
  return figure


def main() -> None:
  if len(sys.argv) != 2:
    sys.exit('usage: python -m ecgjax.generation.gallery FILE.png')
  draw_gallery(class_examples(), 500.0).savefig(sys.argv[1], dpi=70)


if __name__ == '__main__':
  main()
