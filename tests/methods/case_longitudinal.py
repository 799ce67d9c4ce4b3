"""Patient contrast, for `test_every_method.py`."""

from test_longitudinal import make_batch as _make_batch
from test_longitudinal import make_config as _make_config


def make_config(folder):
  del folder
  return _make_config(
    queue=11, learned_temperature=True, gap_weight='exponential',
    lead_dropout=0.3, label_change_weight=0.5,
  )  # fmt: skip


def make_batch(seed):
  batch = _make_batch(seed=seed)
  batch['patient'] //= 2  # several positives, or weights of pairs cancel
  return batch


STRATA = {'gap_weight': 'strata', 'gap_stratum_weights': (1.0, 0.5, 0.2)}
CHANGES = {
  'temperature': {'learned_temperature': False, 'temperature': 0.3},
  'gap_edges': {**STRATA, 'gap_edges': (4.0, 20.0)},
  'gap_stratum_weights': STRATA,
  'gap_floor': {'gap_days': 10.0, 'gap_floor': 0.5},
  'views': {'views': 'augmented'},
  'loss': {'views': 'augmented', 'queue': 0, 'loss': 'clocs'},
  'gap_weight': {'gap_weight': 'none'},
  'branches': {'branches': 'tied'},
  'augmentation': {'augmentation': 'rotate_heart'},
  'noise_snr_db': {'noise_snr_db': (12.0, 30.0)},
}
_BATCH = 'says what is in a batch (data/batches/patients.py)'
NO_EFFECT = {
  'ecgs_per_patient': _BATCH,
  'singletons': _BATCH,
  'singleton_weight': _BATCH,
  'min_gap': _BATCH,
  'max_gap': _BATCH,
  'gap_quota': _BATCH,
}
