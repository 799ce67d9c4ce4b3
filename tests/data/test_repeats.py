"""Stretches that occur twice: at any shift, and nothing else."""

import numpy as np
import pytest

from ecgjax.data.raw import repeats

RATE = 100.0


@pytest.fixture
def signals():
  rng = np.random.default_rng(0)
  made = {
    name: rng.integers(-500, 500, (length, 12)).astype(np.int16)
    for name, length in (('a', 1000), ('b', 1337), ('c', 1000), ('d', 1000))
  }
  made['b'][700:1300] = made['a'][100:700]
  made['d'][:] = 3  # nothing happens: equal to itself everywhere
  return made


def found(signals):
  marks = {k: repeats.landmarks(v, RATE) for k, v in signals.items()}
  return repeats.repeated(
    repeats.candidates(marks), signals.__getitem__, lambda name: RATE
  )


def test_a_shifted_stretch_in_a_longer_recording(signals):
  assert found(signals) == [['a', 'b', 600, 6.0]]


def test_within_one_recording(signals):
  signals['c'][600:950] = signals['c'][50:400]
  assert ['c', 'c', 550, 3.5] in found(signals)


def test_one_lead_that_differs_is_no_repeat(signals):
  signals['b'][700:1300:150, 7] += 1  # less than two seconds stay equal
  assert found(signals) == []


def test_equal_hashes_are_verified(signals):
  """Leads exchanged so that the weighted sum stays: no repeat."""
  other = signals['a'].copy()
  other[:, 0] += 3 * 1  # weights of the leads are 1, 3, 5, ...
  other[:, 1] -= 1
  marks = [repeats.landmarks(x, RATE) for x in (signals['a'], other)]
  np.testing.assert_array_equal(marks[0][0], marks[1][0])
  assert found({'a': signals['a'], 'e': other}) == []


def test_shorter_than_a_window(signals):
  hashes, positions = repeats.landmarks(signals['a'][:150], RATE)
  assert len(hashes) == len(positions) == 0


def test_overlap_counts_the_longest_stretch():
  one = np.arange(20).reshape(10, 2)
  other = np.concatenate([one[4:], one[:4]])
  assert repeats.overlap(one, other, -4) == 6
  assert repeats.overlap(one, other, 6) == 4
  assert repeats.overlap(one, other, 0) == 0
  assert repeats.overlap(one, other, 30) == 0
