"""The simulator once more: float64, a loop over events, full windows.

Written from a description of the model in words and equations, not from
the code: own tables, own order of operations, leads first. Only the random
numbers are shared, by slot. Covers the eleven classes and their combinations.
"""

import jax
import numpy as np

TURN = 2 * np.pi
DOWER = np.array([
  [.632, -.235, .059], [.235, 1.066, -.132], [-.515, .157, -.917],
  [.044, .164, -1.387], [.882, .098, -1.277], [1.213, .127, -.601],
  [1.125, .127, -.086], [.831, .076, .230],
])  # fmt: skip
QRS = {
  'normal': [
    (-30, 7, (-.14, .02, -.30)), (-10, 9, (.75, .50, -.20)),
    (5, 9, (.85, .50, .45)), (24, 9, (-.08, -.05, .35)),
  ],
  'LBBB': [
    (-36, 12, (.25, .10, .10)), (-8, 19, (.85, .25, .60)),
    (22, 20, (.60, .10, .70)), (48, 20, (.55, 0, .45)),
    (72, 14, (.12, 0, .10)),
  ],
  'RBBB': [
    (-30, 7, (-.14, .02, -.30)), (-10, 9, (.75, .50, -.20)),
    (5, 9, (.85, .40, .35)), (36, 14, (-.40, .05, -.35)),
    (62, 17, (-.45, -.05, -.50)),
  ],
  'PVC': [
    (-50, 22, (-.3, .4, -.3)), (-10, 26, (-.9, .9, -1.)),
    (30, 26, (-.5, .5, -.7)), (62, 20, (.2, -.2, .2)),
  ],
}  # fmt: skip
T_WAVE = {
  'normal': [(200, 62, (0.09, 0.07, -0.09)), (265, 34, (0.22, 0.17, -0.16))],
  'LBBB': [(230, 62, (-0.12, 0, -0.15)), (290, 40, (-0.22, -0.03, -0.25))],
  'RBBB': [(215, 60, (0.11, 0.07, 0.04)), (280, 36, (0.22, 0.14, 0.10))],
  'PVC': [(230, 65, (0.25, -0.2, 0.3)), (300, 45, (0.45, -0.4, 0.5))],
}
P_WAVE = [(-18, 17, (0.045, 0.075, -0.065)), (12, 19, (0.065, 0.050, 0.030))]
TERRITORY = [(0.15, 0.05, -1), (0, 1, 0.15), (1, -0.35, 0.1)]
SHAPE = ('normal', 'LBBB', 'RBBB')


def _numbers(kind, key, slot, shape):
  value = kind(jax.random.fold_in(key, slot), shape)
  return np.asarray(value).astype(float)


def _n(key, slot, shape=()):
  return _numbers(jax.random.normal, key, slot, shape)


def _u(key, slot, low=0.0, high=1.0, shape=()):
  return low + (high - low) * _numbers(jax.random.uniform, key, slot, shape)


def _whole(key, slot, low, high, shape=()):
  """Integers low..high, both included."""
  unit = _numbers(jax.random.uniform, key, slot, shape)
  return low + np.floor((high - low + 1) * unit).astype(int)


def _rotation(angles):
  (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
  about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
  about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
  about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
  return about_z @ about_y @ about_x


def _gauss(t, tau, sigma):
  """Time in seconds; tau and sigma in milliseconds."""
  return np.exp(-((t - tau / 1e3) ** 2) / (2 * (sigma / 1e3) ** 2))


def _sigmoid(x):
  return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def intervals(key, patient, factors, count):
  """RR intervals [K] and the sinus interval, ectopic beats included."""
  rhythm, ectopy = factors[0], factors[1]
  k = np.arange(count)
  sinus = 60 / patient['heart_rate'] * np.exp(0.06 * _n(key, 0))
  sinus = np.clip(sinus, 0.60, 1.20)
  if rhythm == 1:
    rr = 0.82 * sinus * np.exp(0.24 * _n(key, 4, (count,)) - 0.03)
    rr = np.maximum(0.30, rr)
  elif rhythm == 2:
    m = np.full(count, [2, 3, 4, 4][_whole(key, 7, 0, 3)])
    if _u(key, 5) < 0.25:
      m = np.array([2, 3, 4])[_whole(key, 6, 0, 2, (count,))]
    rr = m / patient['flutter']
  else:
    s = k * sinus
    rr = 1 + 0.025 * np.sin(TURN * 0.25 * s + _u(key, 1, 0, TURN))
    rr += 0.02 * np.sin(TURN * 0.1 * s + _u(key, 2, 0, TURN))
    rr = sinus * (rr + 0.006 * _n(key, 3, (count,)))
  period = _whole(key, 8, 2, 6)
  offset = _whole(key, 9, 0, period - 1)
  ectopic = [bool(ectopy) and (i + offset) % period == 0 and i >= 1 for i in k]
  plain = rr.copy()
  early = _u(key, 10, 0.55, 0.72, (count,))
  if ectopy == 1:
    early = _u(key, 11, 0.60, 0.80, (count,))
  for i in k:
    if ectopic[i]:
      rr[i] = max(0.30, early[i] * plain[i])
      if i + 1 < count:
        pause = 1.08 * plain[i + 1] if ectopy == 1 else 2 * plain[i + 1] - rr[i]
        rr[i + 1] = max(0.30, pause)
  return rr, sinus, ectopic


def patient_of(seed, number):
  key = jax.random.fold_in(jax.random.key(seed, impl='threefry2x32'), number)
  clip = lambda slot: np.clip(_n(key, slot), -2.5, 2.5)
  return key, {
    'angles': np.array([0.10, 0.15, 0.20]) * _n(key, 10, (3,)),
    'pvc_angles': 0.8 * _n(key, 11, (3,)),
    'amp': np.exp(0.22 * clip(12)),
    'pm': np.exp(0.15 * _n(key, 13)),
    'tm': np.exp(0.15 * _n(key, 14)),
    'w': np.exp(0.06 * clip(15)),
    'heart_rate': np.clip(70 + 11 * _n(key, 16), 48, 100),
    'pr': np.clip(0.160 + 0.018 * _n(key, 17), 0.125, 0.195),
    'qtf': np.clip(1 + 0.05 * _n(key, 18), 0.88, 1.12),
    'dd': 0.05 * _n(key, 19, (8, 3)),
    'territory': int(_whole(key, 20, 0, 2)),
    'flutter': _u(key, 21, 4.0, 5.4),
    'f0': _u(key, 22, 4.5, 8.0),
    'jitter': 0.08 * _n(key, 23, (5, 3)),
  }


def simulate(seed, number, record, factors, rate, length, noise, intra):
  """One record: [12, L] mV and R times [K]."""
  patient_key, patient = patient_of(seed, number)
  key = jax.random.fold_in(jax.random.fold_in(patient_key, 1), record)
  rhythm, ectopy, conduction, avb, st, mi = factors[:6]
  amp = patient['amp'] * np.exp(0.10 * intra * _n(key, 31))
  angles = patient['angles'] + 0.15 * intra * _n(key, 30, (3,))
  dd = patient['dd'] + 0.03 * intra * _n(key, 32, (8, 3))
  turn, turn_pvc = _rotation(angles), _rotation(patient['pvc_angles'])
  w, t = patient['w'], np.arange(length) / rate
  duration = length / rate
  count = int(np.ceil((duration + 1.3) / 0.32)) + 1

  rr, sinus, ectopic = intervals(key, patient, factors, count)
  r = np.empty(count)
  r[0] = -0.7 - _u(key, 12) * rr[1]
  for k in range(1, count):
    r[k] = r[k - 1] + rr[k]
  pr = _u(key, 17, 0.225, 0.320) if avb else patient['pr']
  pr = min(pr, 0.55 * sinus)
  q_on = (0.045, 0.060, 0.045)[conduction]

  # The record's own kernels.
  shape = SHAPE[conduction]
  d = np.array(TERRITORY[patient['territory']])
  t_gain = patient['tm'] * (1 + 0.08 * _n(key, 13))
  qrs = [
    [tau * w, sigma * w, np.array(v) * amp * (1 + patient['jitter'][i])]
    for i, (tau, sigma, v) in enumerate(QRS[shape])
  ]
  waves = [[a, b, np.array(v) * amp * t_gain] for a, b, v in T_WAVE[shape]]
  shift = np.zeros(3)
  if st == 1:
    shift = _u(key, 14, 0.15, 0.30) * d
  if st == 2:
    shift = _u(key, 15, 0.14, 0.26) * np.array([-0.75, -0.55, 0.15])
    for wave in waves:
      wave[2] = wave[2] * 0.45
  if mi:
    p = [max(kernel[2] @ d, 0) for kernel in qrs]
    qrs[0][2] = qrs[0][2] - 0.42 * amp * d
    qrs[1][2] = qrs[1][2] - (0.45 * p[1] + 0.105 * amp) * d
    qrs[2][2] = qrs[2][2] - 0.15 * p[2] * d
    for wave in waves:
      wave[2] = wave[2] - 1.7 * max(wave[2] @ d, 0) * d
    shift = shift + 0.05 * d

  vector = np.zeros((3, length))
  beat_gain = 1 + 0.03 * _n(key, 16, (count,))
  for k in range(count):
    since = t - r[k]
    stretch = patient['qtf'] * np.clip(rr[k], 0.38, 1.5) ** (1 / 3)
    stretch = min(1.6, stretch)
    if ectopic[k] and ectopy == 2:
      for tau, sigma, v in QRS['PVC']:
        v = turn_pvc @ (np.array(v) * 0.75 * amp) * beat_gain[k]
        vector += v[:, None] * _gauss(since, tau, sigma)
      for tau, sigma, v in T_WAVE['PVC']:
        v = turn_pvc @ (np.array(v) * 0.7 * amp * t_gain)
        vector += v[:, None] * _gauss(since / stretch, tau, sigma)
      continue
    for tau, sigma, v in qrs:
      v = turn @ v * beat_gain[k]
      vector += v[:, None] * _gauss(since, tau, sigma)
    for tau, sigma, v in waves:
      vector += (turn @ v)[:, None] * _gauss(since / stretch, tau, sigma)
    j_point = (0.075 if conduction else 0.042) * w
    plateau = _sigmoid((since - j_point) / 0.008)
    plateau = plateau * _sigmoid((0.285 * stretch - since) / 0.022)
    vector += (turn @ shift)[:, None] * plateau
    if rhythm:
      continue
    centre = r[k] - q_on * w - pr + 0.052
    for tau, sigma, v in P_WAVE:
      v = np.array(v) * patient['pm']
      if ectopic[k]:
        v = 0.8 * v * np.array([0.6, -0.9, 1.2])
      vector += (turn @ v)[:, None] * _gauss(t - centre, tau, sigma)

  if rhythm:
    theta = TURN * patient['flutter'] * t + _u(key, 20, 0, TURN)
    envelope, direction = 1, np.array([0.04, 0.16, 0.09])
    if rhythm == 1:
      theta = TURN * patient['f0'] * t + _u(key, 20, 0, TURN)
      theta = theta + 0.7 * np.sin(TURN * 0.23 * t + _u(key, 18, 0, TURN))
      theta = theta + 0.6 * np.sin(TURN * 1.1 * t + _u(key, 19, 0, TURN))
      envelope = 1 + 0.35 * np.sin(TURN * 0.4 * t + _u(key, 21, 0, TURN))
      direction = np.array([0.008, 0.022, -0.035]) * _u(key, 22, 0.6, 1.8)
    saw = sum(2 / (i * np.pi) * np.sin(i * theta) for i in range(1, 6))
    vector += (turn @ direction)[:, None] * envelope * saw

  breath = np.sin(TURN * _u(key, 23, 0.18, 0.32) * t + _u(key, 24, 0, TURN))
  for i in range(length):
    turned = _rotation([0, 0, 0.05 * breath[i]]) @ vector[:, i]
    vector[:, i] = turned * (1 + 0.025 * breath[i])
  eight = (DOWER * (1 + dd)) @ vector

  # RA, LA, LL, C1..C6.
  electrodes = 0.008 * _n(key, 50, (9, length))
  for i, hertz in enumerate((0.05, 0.15, 0.30)):
    hertz = hertz * (1 + 0.2 * _u(key, 43 + i))
    phase = _u(key, 46 + i, 0, TURN, (9,))
    for e in range(9):
      amplitude = 0.035 * _n(key, 40 + i, (9,))[e]
      electrodes[e] += amplitude * np.sin(TURN * hertz * t + phase[e])
  if rate > 100:
    hum = np.sin(TURN * 50 * t + _u(key, 52, 0, TURN))
    electrodes += 0.004 * _n(key, 51, (9,))[:, None] * hum
  ra, la, ll = electrodes[:3]
  eight[0] += noise * (la - ra)
  eight[1] += noise * (ll - ra)
  eight[2:] += noise * (electrodes[3:] - (ra + la + ll) / 3)
  i, ii = eight[:2]
  limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
  return np.concatenate([limb, eight[2:]]), r
