"""Limb leads that are exchanged or inverted, found from their algebra alone.

III = II - I, aVR = -(I + II) / 2, aVL = (I - III) / 2 and aVF = (II + III) / 2
tie the six limb leads together. Recorders keep them to a few microvolts; a file
whose leads were denoised or normalised one by one does not, by up to 0.3 mV,
although its leads are where their labels say. The relations still hold with
*some* positive gain per lead, and that is what is tested: the gains are fitted,
and only labels under which no positive gains fit are wrong.

Deviation from the rule as usually put ("one exchange or inversion of limb
leads halves the residual"): it is applied to the residual left by the best
gains. Without the gains two of a hundred LUDB recordings, each lead normalised
to 1 mV, fail it, and a third of the exchanged pairs pass.
"""

import itertools

import numpy as np

from ecgjax.ecg import leads

LIMB = leads.LEADS[:6]
_RELATIONS = np.array(
  [
    [1, -1, 1, 0, 0, 0],
    [0.5, 0.5, 0, 1, 0, 0],
    [-0.5, 0, 0.5, 0, 1, 0],
    [0, -0.5, -0.5, 0, 0, 1],
  ]
)
_WEIGHTS = _RELATIONS.T @ _RELATIONS
_PAIRS = tuple(itertools.combinations(range(6), 2))
# Row 0: the order as labelled; then each pair exchanged.
_ORDERS = np.tile(np.arange(6), (1 + len(_PAIRS), 1))
for _row, _pair in zip(_ORDERS[1:], _PAIRS):
  _row[list(_pair)] = _pair[::-1]

# Thresholds, between what was measured on LUDB (leads normalised one by one)
# and PTB-XL, clean or with every lead given its own gain, noise, filter or
# delay, and what permuted leads give (medians): energy of the violation over
# that outside the plane 8.6 : 2e5; gap among the eigenvalues where the four
# small ones take in precordial leads 8 : 300; their share in the dependent
# leads 0.0004 : 1.
_MAX_EXCESS = 100
_MIN_ENERGY = 1e-3
_MIN_GAP = 30
_MAX_PRECORDIAL = 0.1


def misplaced(ecg: np.ndarray) -> tuple[str, str] | None:
  """Says whether limb leads are exchanged, inverted or something else.

  The sum over time and over the four relations of the squared violation, with
  gain s_k for lead k of unit variance, is s'(W * C)s, where C holds the
  correlations of the leads and W the products of the relations' coefficients.
  Its smallest eigenvalue is the residual, the eigenvector the gains. A sign
  among the gains is an inverted lead; exchanging rows of C exchanges labels.

  Args:
    ecg: [T, C] millivolts, C >= 6 leads in canonical order, none constant.

  Returns:
    None if the labels stand, else (reason code, explanation).
  """
  correlation = np.corrcoef(ecg, rowvar=False)  # [C, C]
  spread, directions = np.linalg.eigh(correlation)  # ascending
  limb = correlation[:6, :6]
  orders = limb[_ORDERS[:, :, None], _ORDERS[:, None, :]]  # [16, 6, 6]
  energy, gains = np.linalg.eigh(_WEIGHTS * orders)
  energy, gains = np.maximum(energy[:, 0], 0), gains[:, :, 0]
  gains *= np.where(np.median(gains, axis=1) < 0, -1, 1)[:, None]  # [16, 6]
  size = np.abs(gains[0])
  labelled = size @ (_WEIGHTS * limb) @ size  # as labelled, none inverted
  inverted = np.flatnonzero(gains[0] < 0)
  exchanged = np.where((gains > 0).all(axis=1), energy, np.inf)[1:]
  best = int(np.argmin(exchanged))

  if exchanged[best] < min(labelled / 4, energy[0]):
    a, b = (LIMB[k] for k in _PAIRS[best])
    share = np.sqrt(exchanged[best] / labelled)
    return (
      'limb_swapped',
      f'with {a} and {b} exchanged {share:.1%} of the residual is left',
    )
  if inverted.size == 1 and energy[0] < labelled / 4:
    share = np.sqrt(energy[0] / labelled)
    return (
      'limb_flipped',
      f'with {LIMB[inverted[0]]} inverted {share:.1%} of the residual is left',
    )
  # Six limb leads span a plane; what leaves it is noise, and no more than
  # that may violate the relations.
  noise = np.linalg.eigvalsh(limb)[:4].sum() / 6
  if labelled > max(_MIN_ENERGY, _MAX_EXCESS * noise):
    return (
      'limb_inconsistent',
      f'the limb leads violate their relations {labelled / noise:.3g} times '
      'as much as their noise explains',
    )
  # Four linear dependencies exist among the leads, and only limb leads may
  # take part in them.
  precordial = np.square(directions[6:, :4]).sum()
  if (
    precordial > _MAX_PRECORDIAL
    and len(spread) > 6
    and spread[4] > _MIN_GAP * max(spread[3], 0)
  ):
    return (
      'limb_inconsistent',
      'other than the six limb leads are the linearly dependent ones',
    )
  return None
