"""Numbers, classes and factor rules of the 12-lead simulator.

Everything here is a constant or a rule on constants; the equations are in
`simulator` and `simulator_events`. Kernel parameters were tuned by eye and by
the checks of the test suite, never fitted to recordings: the simulator is
schematic, and no statement about patients may rest on it.

Frank axes: X to the left, Y to the foot, Z to the back. Vectors in mV, kernel
centres `tau` and widths `sigma` in ms after the R time of the beat (P: after
the centre of the P wave).
"""

import numpy as np

# --- Classes and factors -----------------------------------------------------

# A tracing is described by seven small integers, the factors.
FACTORS = {
  'rhythm': ('SR', 'AF', 'AFL'),
  'ectopy': ('none', 'PAC', 'PVC'),
  'conduction': ('none', 'LBBB', 'RBBB'),
  'avb': ('none', '1AVB'),
  'st': ('none', 'STE', 'STD'),
  'mi': ('none', 'MI'),
  'extra': (
    'none', 'LVH', 'RVH', 'LAFB', 'WPW', 'LQT', 'TWI', 'LOWV', 'LAE', 'RAE',
    'SBRAD', 'STACH', 'VT', 'VF', 'PACE', 'MOBITZ1', 'MOBITZ2', '3AVB',
  ),
}  # fmt: skip
RHYTHM, ECTOPY, CONDUCTION, AVB, ST, MI, EXTRA = range(len(FACTORS))
_PLACE = {
  label: (position, value)
  for position, values in enumerate(FACTORS.values())
  for value, label in enumerate(values)
  if value
}

# The eleven classes of the data set, and the classes that only `factors` knows.
CLASSES = (
  'NORM', 'AF', 'AFL', 'PAC', 'PVC', '1AVB', 'LBBB', 'RBBB', 'STD', 'STE', 'MI'
)  # fmt: skip
EXTRA_CLASSES = FACTORS['extra'][1:]
ALL_CLASSES = CLASSES + EXTRA_CLASSES


def extra(label: str) -> int:
  """Value of the factor `extra` that stands for a class of `EXTRA_CLASSES`."""
  return FACTORS['extra'].index(label)


def check(factors) -> np.ndarray:
  """Raises ValueError for factors that exclude each other.

  Atrial fibrillation and flutter have neither P waves nor a PR interval, so
  that they exclude 1AVB and PAC. An extra class stands alone.

  Args:
    factors: [..., 7] integers in the order of `FACTORS`.

  Returns:
    The factors as an int32 array.

  Raises:
    ValueError: for an unknown value or a combination that is not allowed.
  """
  factors = np.asarray(factors)
  if factors.shape[-1:] != (len(FACTORS),):
    raise ValueError(
      f'factors has shape {factors.shape}; the last axis must hold '
      + ', '.join(FACTORS)
    )
  for position, (name, values) in enumerate(FACTORS.items()):
    column = factors[..., position]
    if not np.isin(column, np.arange(len(values))).all():
      raise ValueError(f'factor {name} must be in 0..{len(values) - 1}')
  atrial = factors[..., RHYTHM] > 0
  pac = factors[..., ECTOPY] == FACTORS['ectopy'].index('PAC')
  if (atrial & (pac | (factors[..., AVB] > 0))).any():
    raise ValueError('AF and AFL cannot be combined with PAC or 1AVB')
  alone = (factors[..., EXTRA] > 0) & (factors[..., :EXTRA] > 0).any(axis=-1)
  if alone.any():
    raise ValueError(
      f'the classes {", ".join(EXTRA_CLASSES)} cannot be combined with others'
    )
  return factors.astype(np.int32)


def factors(*labels: str) -> np.ndarray:
  """Returns the factors [7] of class names, e.g. `factors('AF', 'LBBB')`.

  Raises:
    ValueError: for an unknown name, or names that exclude each other.
  """
  vector = np.zeros(len(FACTORS), np.int32)
  for label in labels:
    if label == 'NORM' and len(labels) == 1:
      continue
    if label not in _PLACE:
      raise ValueError(
        f'{label!r} is not a class, or NORM with others; the classes are '
        + ', '.join(ALL_CLASSES)
      )
    position, value = _PLACE[label]
    if vector[position]:
      raise ValueError(f'{" and ".join(labels)} exclude each other')
    vector[position] = value
  return check(vector)


def labels(factors) -> np.ndarray:
  """Turns factors [..., 7] into multi-hot [..., len(ALL_CLASSES)] uint8."""
  factors = np.asarray(factors)
  columns = [(factors == 0).all(axis=-1)]
  for label in ALL_CLASSES[1:]:
    position, value = _PLACE[label]
    columns.append(factors[..., position] == value)
  return np.stack(columns, axis=-1).astype(np.uint8)


# --- Lead field --------------------------------------------------------------


# --- Kernels -----------------------------------------------------------------

# Ventricular shapes, rows of the tables below.
SHAPES = ('normal', 'LBBB', 'RBBB', 'PVC', 'RVH', 'LAFB', 'WPW', 'PACE')
NORMAL, LBBB, RBBB, PVC, RVH, LAFB, WPW, PACE = range(len(SHAPES))

_QRS = {  # tau ms, sigma ms, X, Y, Z mV
  'normal': (
    (-30, 7, -0.14, 0.02, -0.30),
    (-10, 9, 0.75, 0.50, -0.20),
    (5, 9, 0.85, 0.50, 0.45),
    (24, 9, -0.08, -0.05, 0.35),
  ),
  'LBBB': (
    (-36, 12, 0.25, 0.10, 0.10),
    (-8, 19, 0.85, 0.25, 0.60),
    (22, 20, 0.60, 0.10, 0.70),
    (48, 20, 0.55, 0.00, 0.45),
    (72, 14, 0.12, 0.00, 0.10),
  ),
  'RBBB': (
    (-30, 7, -0.14, 0.02, -0.30),
    (-10, 9, 0.75, 0.50, -0.20),
    (5, 9, 0.85, 0.40, 0.35),
    (36, 14, -0.40, 0.05, -0.35),
    (62, 17, -0.45, -0.05, -0.50),
  ),
  'PVC': (
    (-50, 22, -0.30, 0.40, -0.30),
    (-10, 26, -0.90, 0.90, -1.00),
    (30, 26, -0.50, 0.50, -0.70),
    (62, 20, 0.20, -0.20, 0.20),
  ),
  'RVH': (
    (-30, 7, -0.14, 0.02, -0.30),
    (-10, 9, 0.35, 0.45, -0.35),
    (5, 9, -0.35, 0.55, -0.55),
    (28, 10, -0.45, 0.10, -0.10),
  ),
  # Kernels 2 and 3 of the normal set: 0.75 of them, turned by -100 deg about Z.
  'LAFB': (
    (-30, 7, -0.12, 0.25, -0.25),
    (-10, 9, 0.27163, -0.61907, -0.15),
    (5, 9, 0.25860, -0.69293, 0.3375),
    (24, 9, -0.08, -0.05, 0.35),
  ),
  'WPW': (
    (-30, 7, 0.00, 0.00, -0.10),
    (-10, 9, 0.75, 0.50, -0.20),
    (5, 9, 0.85, 0.50, 0.45),
    (24, 9, -0.08, -0.05, 0.35),
    (-48, 16, 0.28, 0.18, 0.05),
  ),
}
_QRS['PACE'] = _QRS['LBBB']
_T = {
  'normal': ((200, 62, 0.09, 0.07, -0.09), (265, 34, 0.22, 0.17, -0.16)),
  'LBBB': ((230, 62, -0.12, 0.00, -0.15), (290, 40, -0.22, -0.03, -0.25)),
  'RBBB': ((215, 60, 0.11, 0.07, 0.04), (280, 36, 0.22, 0.14, 0.10)),
  'PVC': ((230, 65, 0.25, -0.20, 0.30), (300, 45, 0.45, -0.40, 0.50)),
  'RVH': ((200, 62, 0.05, 0.07, 0.06), (265, 34, 0.15, 0.17, 0.12)),
}
_T['PACE'] = _T['LBBB']


def _table(kernels, count):
  """Stacks kernels, ms to s; a missing kernel has no amplitude."""
  empty = (0, 10, 0, 0, 0)
  rows = [
    kernels.get(shape, kernels['normal']) + (empty,) * count for shape in SHAPES
  ]
  table = np.array([row[:count] for row in rows], np.float32)
  return table[..., 0] / 1e3, table[..., 1] / 1e3, table[..., 2:]


QRS_TAU, QRS_SIGMA, QRS_VECTOR = _table(_QRS, 5)  # [8, 5], [8, 5], [8, 5, 3]
T_TAU, T_SIGMA, T_VECTOR = _table(_T, 2)  # [8, 2], [8, 2], [8, 2, 3]
# Onset and end of QRS before and after the R time, s, to be scaled by the
# width: where the neutral patient is steeper than 6 mV/s in any lead.
QRS_ON = np.array(
  [0.045, 0.060, 0.045, 0.092, 0.045, 0.045, 0.080, 0.060], np.float32
)
QRS_OFF = np.array(
  [0.047, 0.100, 0.102, 0.075, 0.047, 0.047, 0.047, 0.100], np.float32
)
# The J point, where the ST shift begins: later in bundle branch block.
J_POINT = np.array(
  [0.042, 0.075, 0.075, 0.042, 0.042, 0.042, 0.042, 0.075], np.float32
)
PACE_SPIKE = np.array([0, 0.6, 0.2], np.float32)  # mV

# Right and left atrium.
P_TAU = np.array([-0.018, 0.012], np.float32)
P_SIGMA = np.array([0.017, 0.019], np.float32)
P_VECTOR = np.array([[0.045, 0.075, -0.065], [0.065, 0.050, 0.030]], np.float32)
P_ON, P_OFF = 0.052, 0.050  # s before and after the centre
LAE_TAU, LAE_SIGMA, LAE_VECTOR = 0.040, 0.022, (0.10, 0.05, 0.13)
RAE_GAIN = 2.3
PAC_GAIN = 0.8
PAC_DIRECTION = np.array([0.6, -0.9, 1.2], np.float32)  # a low focus

# --- ST shift, infarction, atrial waves --------------------------------------

TERRITORIES = ('anterior', 'inferior', 'lateral')
TERRITORY = np.array(
  [[0.15, 0.05, -1.0], [0.0, 1.0, 0.15], [1.0, -0.35, 0.1]], np.float32
)
STD_DIRECTION = np.array([-0.75, -0.55, 0.15], np.float32)
LVH_ST = np.array([-0.08, -0.06, 0.02], np.float32)  # mV
AF_DIRECTION = np.array([0.008, 0.022, -0.035], np.float32)  # mV
AFL_DIRECTION = np.array([0.04, 0.16, 0.09], np.float32)  # mV


def _by_extra(default, **values):
  """One number per value of the factor `extra`."""
  row = [values.get(name, default) for name in FACTORS['extra']]
  return np.array(row, np.float32)


QRS_GAIN = _by_extra(1, LVH=1.7, LOWV=0.36)
T_GAIN = _by_extra(1, LVH=-0.6, WPW=0.6, TWI=-0.8, LOWV=0.5)
