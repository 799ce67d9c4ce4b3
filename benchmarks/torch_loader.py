"""Views for the PyTorch twin, made as LCD's authors make them.

Worker processes of a DataLoader read an .npy of records, augment all eight
leads with SciPy, three times, and hand over float32. See `end_to_end`.
"""

import numpy as np
import scipy.signal
import torch

from benchmarks import torch_twin


class Views(torch.utils.data.Dataset):
  """Three augmented views [3, 8, L] of every record."""

  def __init__(self, path: str):
    self.records = np.load(path, mmap_mode='r')  # [N, 8, L] float32

  def __len__(self):
    return len(self.records)

  def __getitem__(self, i):
    # A DataLoader gives every worker of every epoch another seed.
    seed = (torch.initial_seed() + i) % 2**63
    rng = np.random.default_rng(seed)
    record = np.asarray(self.records[i])
    return np.stack([augment(record, rng) for _ in range(3)])


def augment(record, rng):
  """Random resized crop and time-out of all leads: [8, L] -> [8, L]."""
  length = record.shape[1]
  size = int(rng.uniform(0.5, 1) * length)
  start = rng.integers(0, length - size + 1)
  crop = record[:, start : start + size]
  view = scipy.signal.resample(crop, length, axis=1).astype(np.float32)
  span = int(rng.uniform(0, 0.5) * length)
  start = rng.integers(0, length - span + 1)
  view[:, start : start + span] = 0
  return view


def make_parts(path: str, num_workers: int, batch_size: int):
  """One epoch of training, by name `epoch`."""
  data = Views(path)
  loader = torch.utils.data.DataLoader(
    data, batch_size, shuffle=True, num_workers=num_workers, drop_last=True
  )
  twin = torch_twin.Twin()
  rng = np.random.default_rng(0)

  def epoch():
    count = 0
    for views in loader:  # [B, 3, 8, L]
      a, b = rng.choice(views.shape[2], 2, replace=False)
      twin.train(views[:, 0, a], views[:, 1, b], views[:, 2, a])
      count += len(views)
    return {'records': count}

  return {'epoch': epoch}
