"""MATLAB structures and HDF5 parts, real, made up and hostile."""

import struct
import zlib

import h5py
import numpy as np
import pytest
import scipy.io

from ecgjax.data.batches import from_recording as rows
from ecgjax.data.raw import arrays, validate
from ecgjax.ecg import contract as contract_lib
from ecgjax.ecg import leads
from ecgjax.ecg.recording import BadRecord
from tests.data import damage

ECG = damage.synthetic().samples / 1000  # [5000, 12] millivolts


def _reason(function, *arguments):
  with pytest.raises(BadRecord) as error:
    function(*arguments)
  assert error.value.file
  return error.value.reason


def test_real_cpsc2018(recordings):
  flat = 0
  for path in sorted((recordings / 'cpsc2018').glob('*.mat')):
    recording = arrays.read_cpsc2018(f'cpsc2018/{path.name}', str(recordings))
    record = scipy.io.loadmat(path)['ECG'][0, 0]
    np.testing.assert_allclose(
      recording.millivolts(), record['data'].T, atol=5.1e-4
    )
    assert (recording.rate, recording.leads) == (500, leads.LEADS)
    age, sex = record['age'].item(), record['sex'].item()
    assert recording.comments == (f'Age: {age}', f'Sex: {sex}')
    try:
      assert validate.check(recording).residual <= 20
    except BadRecord as error:  # V6 of one came off
      assert (error.reason, path.stem) == ('flat', 'A1988')
      flat += 1
  assert flat == 1


def test_real_code15(recordings):
  for path in sorted((recordings / 'code15').glob('*.mat')):
    recording = arrays.read_code_mat(f'code15/{path.name}', str(recordings))
    assert recording.rate == 400
    ecg = scipy.io.loadmat(path)['feats'].T
    np.testing.assert_allclose(recording.millivolts(), ecg, atol=5.1e-4)
    accepted = validate.check(recording)
    assert accepted.residual <= 20
    # 10 mV in its first samples hold 55 % of the variance of one of them.
    settles = path.stem == 'code_15_358121'
    assert accepted.start == (200 if settles else 0)
    assert ('start_transient' in accepted.remarks) == settles
    contract = contract_lib.InputContract(400.0, 2934, leads.LEADS)
    row = rows.make_row(recording, accepted, contract)
    batch = {k: np.asarray(v)[None] for k, v in row.items()}
    found = np.asarray(contract_lib.to_model_input(batch, contract)['ecg'])[0]
    rest = ecg[accepted.start :] - ecg[accepted.start :].mean(axis=0)
    np.testing.assert_allclose(
      found[accepted.start :], rest / rest.std(), atol=0.01
    )
    assert not found[: accepted.start].any()


def test_matlab_files_that_are_not_recordings(tmp_path):
  root = str(tmp_path)
  for content, reason in (
    ({'x': 1.0}, 'unreadable'),
    ({'ECG': {'data': ECG.T}}, 'unreadable'),
    ({'ECG': {'data': 'text', 'sex': 'F', 'age': 3.0}}, 'unreadable'),
    ({'ECG': {'data': ECG.T[:11], 'sex': 'F', 'age': 3.0}}, 'missing_lead'),
    ({'ECG': {'data': ECG, 'sex': 'F', 'age': 3.0}}, 'extra_lead'),
  ):
    scipy.io.savemat(tmp_path / 'r.mat', content, do_compression=True)
    assert _reason(arrays.read_cpsc2018, 'r.mat', root) == reason
    assert _reason(arrays.read_code_mat, 'r.mat', root) == 'unreadable'
  data = (tmp_path / 'r.mat').read_bytes()
  (tmp_path / 'r.mat').write_bytes(data[: len(data) // 2])
  assert _reason(arrays.read_cpsc2018, 'r.mat', root) == 'unreadable'
  (tmp_path / 'r.mat').write_bytes(b'')
  assert _reason(arrays.read_cpsc2018, 'r.mat', root) == 'unreadable'
  assert _reason(arrays.read_cpsc2018, 'no.mat', root) == 'missing_file'
  assert _reason(arrays.read_cpsc2018, '../r.mat', root) == 'outside_root'


def test_a_small_file_that_unpacks_to_much(tmp_path, monkeypatch):
  monkeypatch.setattr(arrays, '_MAX_BYTES', 1 << 22)
  for size, reason in ((1 << 21, 'unreadable'), (1 << 23, 'too_large')):
    packed = zlib.compress(bytes(size), 9)
    assert len(packed) < size / 500
    head = b'MATLAB 5.0'.ljust(124) + struct.pack('<H2s', 0x0100, b'IM')
    (tmp_path / 'r.mat').write_bytes(
      head + struct.pack('<II', 15, len(packed)) + packed
    )
    found = _reason(arrays.read_code_mat, 'r.mat', str(tmp_path))
    assert found == reason


def _write_part(path, tracings, ids):
  with h5py.File(path, 'w') as file:
    file['tracings'] = tracings.astype(np.float32)
    file['exam_id'] = np.asarray(ids)


def test_hdf5_rows_by_exam_id_without_padding(tmp_path):
  tracings = np.zeros((4, 4096, 12))
  tracings[0, 50:3050] = ECG[:3000]
  tracings[1, 648:3448] = ECG[1000:3800]
  tracings[2, 9, 3] = np.nan
  _write_part(tmp_path / 'p.hdf5', tracings, [77, 5, 6, 0])
  with arrays.open_tracings('p.hdf5', str(tmp_path)) as file:
    rows = arrays.tracing_rows(file)
    assert rows == {77: 0, 5: 1, 6: 2}
    for exam_id, part in ((77, ECG[:3000]), (5, ECG[1000:3800])):
      recording = arrays.read_tracing(file, rows[exam_id])
      assert recording.rate == 400
      np.testing.assert_allclose(recording.millivolts(), part, atol=5.1e-4)
      np.testing.assert_array_equal(recording.gain, 1000)
    recording = arrays.read_tracing(file, rows[6])
    assert np.isnan(recording.millivolts()[0, 3])
    assert _reason(arrays.read_tracing, file, 3) == 'flat'


def test_hdf5_files_that_lead_elsewhere(tmp_path):
  root = tmp_path / 'raw'
  root.mkdir()
  _write_part(tmp_path / 'secret.hdf5', np.zeros((1, 8, 12)), [1])
  with h5py.File(root / 'link.hdf5', 'w') as file:
    file['exam_id'] = [1]
    file['tracings'] = h5py.ExternalLink('../secret.hdf5', 'tracings')
  with h5py.File(root / 'external.hdf5', 'w') as file:
    file['exam_id'] = [1]
    file.create_dataset(
      'tracings', (1, 8, 12), 'f4', external=[('/etc/hostname', 0, 384)]
    )
  with h5py.File(root / 'virtual.hdf5', 'w') as file:
    file['exam_id'] = [1]
    layout = h5py.VirtualLayout((1, 8, 12), 'f4')
    layout[:] = h5py.VirtualSource('../secret.hdf5', 'tracings', (1, 8, 12))
    file.create_virtual_dataset('tracings', layout)
  with h5py.File(root / 'flat.hdf5', 'w') as file:
    file['exam_id'] = [1]
  (root / 'text.hdf5').write_text('no')
  for name in ('link', 'external', 'virtual', 'flat', 'text'):
    reason = _reason(arrays.open_tracings, f'{name}.hdf5', str(root))
    assert reason == 'unreadable'
  reason = _reason(arrays.open_tracings, 'no.hdf5', str(root))
  assert reason == 'missing_file'
  reason = _reason(arrays.open_tracings, '../secret.hdf5', str(root))
  assert reason == 'outside_root'
