#!/usr/bin/env bash
# pydicom 3.0.2: waveform_array turns DICOM's padding value, which says that
# nothing was recorded, into -163.84 mV.
#
# Package: pydicom 3.0.2 from PyPI, with numpy 2.4.6; CPython 3.11.
# Behaviour: a 12-lead ECG waveform of 16 bits, 5 uV a count, one of whose leads
#   came off for 100 samples, written as WaveformPaddingValue -32768, as PS3.3
#   C.10.9 provides. Dataset.waveform_array(0) gives -163840 uV for them, as if
#   measured: finite, no warning, not masked. ChannelSensitivity, its correction
#   factor and the baseline are applied as the standard has it, so the answer
#   looks calibrated.
# Who cares: DICOM is what hospitals export; the mean, the deviation and every
#   z-score of such a record are made of the padding.
# Instead: compare the raw samples (pydicom.waveforms.multiplex_array(...,
#   as_raw=True)) with WaveformPaddingValue and set those to NaN. ecgdatakit
#   2.0.3 does so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile pydicom==3.0.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W error - <<'EOF'
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage
from pydicom.waveforms import multiplex_array

LEADS = ('I', 'II', 'III', 'aVR', 'aVL', 'aVF', *(f'V{k}' for k in range(1, 7)))
PADDING = -32768
counts = np.zeros((5000, 12), '<i2')
counts[:, :] = (200 * np.sin(np.arange(5000) / 30))[:, None]
counts[1000:1100, 6] = PADDING


def code(value, scheme, meaning):
  item = Dataset()
  item.CodeValue, item.CodingSchemeDesignator = value, scheme
  item.CodeMeaning = meaning
  return Sequence([item])


group = Dataset()
group.WaveformOriginality = 'ORIGINAL'
group.NumberOfWaveformChannels = 12
group.NumberOfWaveformSamples = len(counts)
group.SamplingFrequency = 500
channels = []
for lead in LEADS:
  channel = Dataset()
  channel.ChannelSourceSequence = code('5.6.3-9-1', 'SCPECG', f'Lead {lead}')
  channel.ChannelSensitivity = 5
  channel.ChannelSensitivityUnitsSequence = code('uV', 'UCUM', 'microvolt')
  channel.ChannelSensitivityCorrectionFactor = 1
  channel.ChannelBaseline = 0
  channel.ChannelSampleSkew = 0
  channel.WaveformBitsStored = 16
  channels.append(channel)
group.ChannelDefinitionSequence = Sequence(channels)
group.WaveformBitsAllocated = 16
group.WaveformSampleInterpretation = 'SS'
group.add_new('WaveformPaddingValue', 'OW', np.int16(PADDING).tobytes())
group.add_new('WaveformData', 'OW', counts.tobytes())
ecg = Dataset()
ecg.SOPClassUID = TwelveLeadECGWaveformStorage
ecg.SOPInstanceUID = pydicom.uid.generate_uid()
ecg.Modality = 'ECG'
ecg.WaveformSequence = Sequence([group])
ecg.file_meta = FileMetaDataset()
ecg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
ecg.file_meta.MediaStorageSOPClassUID = ecg.SOPClassUID
ecg.file_meta.MediaStorageSOPInstanceUID = ecg.SOPInstanceUID
ecg.save_as('ecg.dcm', enforce_file_format=True)

read = pydicom.dcmread('ecg.dcm')
volts = read.waveform_array(0)
raw = multiplex_array(read, 0, as_raw=True)
print('lead V1, uV:', volts[998:1002, 6], 'finite:', np.isfinite(volts).all())
spread = volts[:, 6:8].std(axis=0)
print('deviation of V1, uV: %.0f, of V2: %.0f' % tuple(spread))
assert (volts[1000:1100, 6] == PADDING * 5).all() and np.isfinite(volts).all()
assert (raw[1000:1100, 6] == PADDING).all()
assert spread[0] > 20 * spread[1]
EOF
