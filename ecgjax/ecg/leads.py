"""Names, order and algebra of the twelve leads.

Everything in the project that indexes leads does so through a *name*: files
order and spell leads differently (MIMIC-IV-ECG stores aVF before aVL, PTB-XL
writes AVR, LUDB writes avr).
"""

from collections.abc import Sequence

from ecgjax.runtime.shapes import Array, Num

LEADS = (
  'I', 'II', 'III', 'aVR', 'aVL', 'aVF',
  'V1', 'V2', 'V3', 'V4', 'V5', 'V6',
)  # fmt: skip
# Linearly independent leads; the other four follow from I and II.
INDEPENDENT_LEADS = ('I', 'II', 'V1', 'V2', 'V3', 'V4', 'V5', 'V6')
# The eight leads of the LCD reference code, in its order.
LCD_LEADS = ('II', 'III', 'V1', 'V2', 'V3', 'V4', 'V5', 'V6')

_CANONICAL = {name.lower(): name for name in LEADS}


def canonical(name: str) -> str:
  """Returns the canonical spelling of a lead name.

  Args:
    name: a lead name in any case, e.g. 'AVR', 'avr' or 'aVR'.

  Raises:
    ValueError: if the name is not one of the twelve standard leads.
  """
  try:
    return _CANONICAL[name.strip().lower()]
  except KeyError:
    raise ValueError(
      f'{name!r} is not a standard lead; the leads are {", ".join(LEADS)}'
    ) from None


def indices(names: Sequence[str]) -> tuple[int, ...]:
  """Returns the positions of `names` in `LEADS`.

  Raises:
    ValueError: if a name is unknown or occurs twice.
  """
  found = [LEADS.index(canonical(name)) for name in names]
  if len(set(found)) != len(found):
    raise ValueError(f'duplicate lead in {tuple(names)}')
  return tuple(found)


def from_independent(xp, ecg: Num[Array, '*N L 8']) -> Num[Array, '*N L 12']:
  """Completes eight independent leads to twelve.

  III = II - I, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2
  (Einthoven and Goldberger).

  Args:
    xp: array module, `numpy` or `jax.numpy`.
    ecg: [..., L, 8] in the order of `INDEPENDENT_LEADS`, millivolts.

  Returns:
    [..., L, 12] in the order of `LEADS`, millivolts.
  """
  i, ii = ecg[..., 0], ecg[..., 1]
  limb = (i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2)
  return xp.concatenate([xp.stack(limb, axis=-1), ecg[..., 2:]], axis=-1)


def limb_residual(xp, ecg: Num[Array, '*N L C']) -> Num[Array, '*N L']:
  """Returns the largest violation of the limb-lead relations, per sample.

  Args:
    xp: array module, `numpy` or `jax.numpy`.
    ecg: [..., L, C] in the order of `LEADS`, at least the six limb leads,
      millivolts.

  Returns:
    [..., L]: max of |I + III - II|, |aVR + (I + II) / 2|,
    |aVL - (I - III) / 2| and |aVF - (II + III) / 2|, millivolts.
  """
  i, ii, iii, avr, avl, avf = (ecg[..., k] for k in range(6))
  relations = (
    i + iii - ii, avr + (i + ii) / 2, avl - (i - iii) / 2, avf - (ii + iii) / 2
  )  # fmt: skip
  return xp.max(xp.abs(xp.stack(relations)), axis=0)
