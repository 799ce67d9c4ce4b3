"""A recording as it was read, and the closed list of reasons to refuse one."""

from typing import NamedTuple

import numpy as np

INVALID = -32768  # WFDB format 16: no sample here


REASONS = {
  'missing_file': 'a table names a record that is not there (counted apart)',
  'missing_header': 'the signal file is there, its .hea is not',
  'missing_signal_file': 'the header names a signal file that is not there',
  'outside_root': 'a path leaves the raw folder',
  'unreadable': 'not a regular file, no permission or an unknown content',
  'short_file': 'the signal file holds less than the header says',
  'long_file': 'the signal file holds more than the header says',
  'mat_header': 'the MATLAB header contradicts the WFDB header',
  'checksum': 'the samples do not have the sum that the header gives',
  'too_large': 'more samples are claimed than any recording has',
  'header_empty': 'the header has no record line',
  'header_encoding': 'signals described in other than printable ASCII',
  'header_malformed': 'a line of the header cannot be understood',
  'header_signal_count': 'other number of signals announced than described',
  'gain_zero': 'gain 0, which means uncalibrated',
  'gain_malformed': 'gain or baseline absent or no number that can be used',
  'unit_unknown': 'the unit is not one of volts',
  'missing_lead': 'one of the leads asked for is absent',
  'duplicate_lead': 'a lead occurs twice, by name or sample by sample',
  'unknown_lead': 'a lead is absent and an unknown name is there',
  'extra_lead': 'all leads are there, and others too',
  'too_short': 'less than one second',
  'wrong_length': 'not the length of this corpus',
  'wrong_rate': 'not the sampling rate of this corpus, or an impossible one',
  'wrong_gain': 'not the gain of this corpus',
  'nan': 'missing samples',
  'saturated': 'a lead stays at the end of the range of the recorder',
  'unit_scale': 'amplitudes wrong by a power of ten',
  'flat': 'a lead without signal for over a second',
  'mains': 'a lead with mains hum and nothing else',
  'offset': 'a lead far from zero, further than electrodes can be',
  'limb_swapped': 'two limb leads are exchanged',
  'limb_flipped': 'a limb lead has the wrong sign',
  'limb_inconsistent': 'limb leads do not follow from I and II',
}


class BadRecord(ValueError):
  """Raised for a recording that is not used; carries the reason code.

  Attributes:
    reason: a key of `REASONS`.
    detail: one line with what was found.
    file: where, relative to the raw folder; '' if not known.
  """

  def __init__(self, reason: str, detail: str, file: str = ''):
    if reason not in REASONS:
      raise KeyError(reason)
    super().__init__(reason, detail, file)
    self.reason, self.detail, self.file = reason, detail, file

  def __str__(self) -> str:
    return f'{self.file}: {self.reason}: {self.detail}'


class Recording(NamedTuple):
  """Samples of one recording as integers, with gain, baseline and leads.

  Attributes:
    samples: [T, C] int16, digital units, `INVALID` where missing.
    gain: [C] float64, digital units per millivolt.
    baseline: [C] float64, digital value of zero millivolts.
    rate: sampling rate, Hz.
    leads: canonical names in canonical order, C of them.
    comments: comment lines of the header, e.g. 'Age: 46'.
    checksum_checked: whether the file gave checksums (they agree if so).
    file: relative to the raw folder, for messages.
    remarks: keys of `validate.REMARKS`: what was not taken as the file has it.
  """

  samples: np.ndarray
  gain: np.ndarray
  baseline: np.ndarray
  rate: float
  leads: tuple[str, ...]
  comments: tuple[str, ...] = ()
  checksum_checked: bool = False
  file: str = ''
  remarks: tuple[str, ...] = ()

  def millivolts(self) -> np.ndarray:
    """[T, C] float32; nan where missing."""
    ecg = self.samples.astype(np.float32)
    ecg -= self.baseline.astype(np.float32)
    ecg /= self.gain.astype(np.float32)
    missing = self.samples == INVALID
    if missing.any():
      ecg[missing] = np.nan
    return ecg
