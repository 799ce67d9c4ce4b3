"""The LCD step in PyTorch, written from docs/methods.md.

Same network, sizes, losses, optimizer and EMA as `methods/lcd.py`; layout and
layers are those that PyTorch code uses. `lcd_step` and
`end_to_end` run it.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

STAGES = ((8, 2), (16, 2), (32, 3), (64, 3), (64, 3))
GAMMA, OFF_DIAGONAL, TAU = 0.005, 0.0051, 0.996


class Encoder(nn.Module):
  """VGG16-1D at width 0.125: [B, 1, L] -> [B, 64]."""

  def __init__(self):
    super().__init__()
    layers, inputs = [], 1
    for channels, depth in STAGES:
      for _ in range(depth):
        layers += [
          nn.Conv1d(inputs, channels, 3, padding=1),
          nn.BatchNorm1d(channels),
          nn.ReLU(inplace=True),
        ]
        inputs = channels
      layers.append(nn.MaxPool1d(2, 2))
    self.layers = nn.Sequential(*layers)

  def forward(self, x):
    return self.layers(x).mean(-1)


def mlp(inputs: int) -> nn.Sequential:
  return nn.Sequential(
    nn.Linear(inputs, 512),
    nn.BatchNorm1d(512),
    nn.ReLU(inplace=True),
    nn.Linear(512, 512),
  )


class Twin:
  """Networks, optimizer and the parts of one step."""

  def __init__(self):
    self.encoder, self.projector, self.predictor = Encoder(), mlp(64), mlp(512)
    self.standardise = nn.BatchNorm1d(1024, affine=False)
    self._copy_target()
    modules = (self.encoder, self.projector, self.predictor)
    parameters = [p for m in modules for p in m.parameters()]
    self.optimizer = torch.optim.Adam(parameters, 1e-3)

  def _copy_target(self):
    self.target = copy.deepcopy((self.encoder, self.projector))

  def load(self, arrays: dict[str, np.ndarray]):
    """Takes the JAX method's start values, names joined by '/'."""
    to_torch = lambda a: torch.from_numpy(np.ascontiguousarray(a))
    convs = [m for m in self.encoder.layers if isinstance(m, nn.Conv1d)]
    norms = [m for m in self.encoder.layers if isinstance(m, nn.BatchNorm1d)]
    with torch.no_grad():
      for i, (conv, norm) in enumerate(zip(convs, norms)):
        block = f'encoder/ConvNorm_{i}/'
        kernel = arrays[block + 'kernel'].transpose(2, 1, 0)
        conv.weight.copy_(to_torch(kernel))
        conv.bias.copy_(to_torch(arrays[block + 'bias']))
        norm.weight.copy_(to_torch(arrays[block + 'scale']))
        norm.bias.copy_(to_torch(arrays[block + 'shift']))
      for name in ('projector', 'predictor'):
        module = getattr(self, name)
        for i, linear in enumerate((module[0], module[3])):
          layer = f'{name}/Linear_{i}/'
          linear.weight.copy_(to_torch(arrays[layer + 'kernel'].T))
          linear.bias.copy_(to_torch(arrays[layer + 'bias']))
    self._copy_target()

  def loss(self, v1, v2, v3):
    """Views [B, 1, L] of leads a, b and a."""
    h1 = self.projector(self.encoder(v1))
    h2 = self.projector(self.encoder(v2))
    q1, q2 = self.predictor(h1), self.predictor(h2)
    with torch.no_grad():
      z3 = self.target[1](self.target[0](v3))
    distance = lambda q: 2 - 2 * F.cosine_similarity(q, z3, dim=-1).mean()
    h = self.standardise(torch.cat([h1, h2], dim=1))
    c = h.T @ h / len(h)
    diagonal = torch.diagonal(c)
    covariance = (diagonal - 1).pow(2).sum()
    off_diagonal = c.pow(2).sum() - diagonal.pow(2).sum()
    covariance = covariance + OFF_DIAGONAL * off_diagonal
    return distance(q1) + distance(q2) + GAMMA * covariance

  def update(self):
    self.optimizer.step()
    online = (*self.encoder.parameters(), *self.projector.parameters())
    target = (*self.target[0].parameters(), *self.target[1].parameters())
    with torch.no_grad():
      for old, new in zip(target, online):
        old.mul_(TAU).add_(new, alpha=1 - TAU)

  def train(self, *views):
    """One step on three views, each [B, L]; returns the loss."""
    self.optimizer.zero_grad()
    loss = self.loss(*(view[:, None] for view in views))
    loss.backward()
    self.update()
    return loss.item()


def make_parts(path: str):
  """The twin's forward, gradient and whole step.

  Args:
    path: .npz of `views` [3, B, L] and the start parameters.
  """
  arrays = dict(np.load(path))
  views = torch.from_numpy(arrays.pop('views'))  # [3, B, L]
  twin = Twin()
  twin.load(arrays)

  def forward():
    twin.loss(*views[:, :, None])

  def gradient():
    twin.optimizer.zero_grad()
    twin.loss(*views[:, :, None]).backward()

  def step():
    return {'loss': twin.train(*views)}

  return {'forward': forward, 'gradient': gradient, 'step': step}
