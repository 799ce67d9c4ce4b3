"""Files to features and probabilities, record by record."""

import csv
import functools
import io
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.signal

from ecgjax import model as model_lib
from ecgjax import predict
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.methods import method as method_lib
from tests import tiny_runs
from tests.data import raw_corpora

CLASSES = ('AF', 'NORM', 'MI')
LENGTH = 128  # of the LCD checkpoint at 100 Hz


@pytest.fixture(scope='module')
def lcd(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('lcd')
  tiny_runs.write_lcd(workdir, length=LENGTH)
  return workdir


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('classifier')
  tiny_runs.write_classifier(workdir, CLASSES)
  return workdir


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  """One recording in many forms; returns the folder and its millivolts."""
  root = tmp_path_factory.mktemp('raw')
  ecg = raw_corpora.ecg(1, 100)  # [1000, 12]
  write = raw_corpora.write_record
  write(root / 'plain', ecg, 100)
  lower = [name.lower() for name in leads.LEADS]
  write(root / 'reversed', ecg[:, ::-1], 100, names=lower[::-1], baseline=7)
  write(root / 'cinc', ecg, 100, suffix='.mat')
  three = leads.indices(('II', 'III', 'V1'))
  write(root / 'three', ecg[:, three], 100, names=('II', 'III', 'V1'))
  write(root / 'short', ecg[:110], 100)
  write(root / 'fast', raw_corpora.ecg(1, 500), 500)
  write(root / 'damaged', ecg, 100)
  with open(root / 'damaged.dat', 'r+b') as file:
    file.truncate(20_001)
  write(root / 'unnamed', ecg, 100)
  header = (root / 'unnamed.hea').read_text().splitlines()
  header[1:] = [line.rsplit(' ', 1)[0] for line in header[1:]]
  (root / 'unnamed.hea').write_text('\n'.join(header) + '\n')
  return root, ecg


def run(capsys, *argv):
  """Exit code, rows of the CSV and standard error."""
  capsys.readouterr()
  code = predict.main([str(x) for x in argv])
  captured = capsys.readouterr()
  return code, list(csv.DictReader(io.StringIO(captured.out))), captured.err


def failure(capsys, *argv) -> str:
  """The one line of a command that can do nothing."""
  with pytest.raises(SystemExit) as stop:
    run(capsys, *argv)
  assert stop.value.code == 2
  captured = capsys.readouterr()
  assert not captured.out
  (line,) = captured.err.splitlines()
  return line


def outputs(row):
  return np.array([float(v) for k, v in row.items() if '_' in k and v][1:])


def normalised(ecg):
  """[T, C] mV to mean 0 and standard deviation 1 over everything."""
  return (ecg - ecg.mean(axis=0)) / ((ecg - ecg.mean(axis=0)).std() + 1e-5)


def features_of(workdir, ecg):
  """[1, L, C] normalised to features [D], the method alone."""
  return said_of(workdir, ecg)['features'][0]


@functools.cache
def compiled(workdir):
  model = model_lib.load(workdir)
  predict = jax.jit(model.method.predict)
  return lambda ecg: predict(model.params, model.model_state, {'ecg': ecg})


def said_of(workdir, ecg):
  """[1, L, C] normalised to what the method alone says."""
  return jax.device_get(compiled(workdir)(np.asarray(ecg, np.float32)))


def test_every_form_of_one_recording(lcd, raw, capsys):
  root, ecg = raw
  names = ['plain', 'reversed.hea', 'cinc.mat', 'fast', 'short.dat']
  code, rows, _ = run(
    capsys, f'--checkpoint={lcd}', *(root / name for name in names)
  )
  assert code == 0 and [r['status'] for r in rows] == ['ok'] * 5
  expected_names = [f'{x}_{k}' for x in leads.LCD_LEADS for k in range(64)]
  assert list(rows[0])[7:] == expected_names
  assert [r['record'] for r in rows] == [
    str(root / n.split('.')[0]) for n in names
  ]
  # From the definition: first samples, leads by name, leads centred, one s.d.
  stored = np.rint(1000 * ecg) / 1000
  columns = list(leads.indices(leads.LCD_LEADS))
  window = normalised(stored[:LENGTH, columns])[None]
  expected = features_of(lcd, window)
  np.testing.assert_allclose(outputs(rows[0]), expected, atol=1e-5)
  np.testing.assert_allclose(outputs(rows[1]), expected, atol=1e-5)
  assert outputs(rows[2]).tolist() == outputs(rows[0]).tolist()
  assert rows[0]['seconds'] == '10.0' and rows[0]['used_seconds'] == '1.28'
  # 500 Hz: scipy's own polyphase filter gives the same to rounding.
  fast = np.rint(1000 * raw_corpora.ecg(1, 500)) / 1000
  slow = scipy.signal.resample_poly(fast, 1, 5, axis=0, padtype='line')
  expected = features_of(lcd, normalised(slow[:LENGTH, columns])[None])
  np.testing.assert_allclose(outputs(rows[3]), expected, atol=2e-3)
  assert rows[3]['rate'] == '500.0'
  # 1.1 s: the padding takes no part in mean and standard deviation.
  padded = np.zeros((1, LENGTH, 8))
  padded[0, :110] = normalised(stored[:110, columns])
  expected = features_of(lcd, padded)
  np.testing.assert_allclose(outputs(rows[4]), expected, atol=1e-5)
  assert rows[4]['used_seconds'] == '1.1'


def test_refusals_do_not_stop_the_rest(lcd, raw, capsys):
  root, _ = raw
  records = ['three', 'damaged', 'unnamed', 'gone', 'plain', 'plain.hea']
  code, rows, err = run(
    capsys, f'--checkpoint={lcd}', *(root / name for name in records)
  )
  assert code == 3
  found = {os.path.basename(r['record']): r for r in rows}
  assert list(found) == records[:5]  # each once, in the order given
  reasons = {name: row['reason'] for name, row in found.items()}
  assert reasons == {
    'three': 'missing_lead',
    'damaged': 'short_file',
    'unnamed': 'duplicate_lead',
    'gone': 'missing_file',
    'plain': '',
  }
  assert (
    'no V2, V3, V4, V5, V6; the checkpoint needs II, III'
    in (found['three']['detail'])
  )
  assert '--leads' in found['three']['detail']
  assert '--leads' in found['unnamed']['detail']
  assert len(outputs(found['plain'])) == 512
  assert not len(outputs(found['three']))
  assert '5 records: 1 ok, 4 refused' in err


def test_some_leads_of_a_single_lead_encoder(lcd, raw, capsys):
  root, ecg = raw
  code, rows, _ = run(
    capsys, f'--checkpoint={lcd}', '--leads=v1,III', root / 'three',
    root / 'plain',
  )  # fmt: skip
  assert code == 0
  assert list(rows[0])[7:] == [
    f'{x}_{k}' for x in ('III', 'V1') for k in range(64)
  ]
  assert outputs(rows[0]).tolist() == outputs(rows[1]).tolist()
  # Normalised over the two; each lead's features as where it stands alone.
  columns = list(leads.indices(('III', 'V1')))
  window = normalised((np.rint(1000 * ecg) / 1000)[:LENGTH, columns])
  everything = np.zeros((1, LENGTH, 8))
  everything[0, :, 1:3] = window  # III, V1 in the order of LCD
  expected = features_of(lcd, everything)[64:192]
  np.testing.assert_allclose(outputs(rows[0]), expected, atol=1e-5)


def test_names_for_a_header_without_names(lcd, raw, capsys):
  root, _ = raw
  names = ','.join(leads.LEADS)
  code, rows, _ = run(
    capsys, f'--checkpoint={lcd}', f'--leads={names}', root / 'unnamed',
    root / 'plain',
  )  # fmt: skip
  assert code == 0
  assert outputs(rows[0]).tolist() == outputs(rows[1]).tolist()
  code, rows, _ = run(
    capsys, f'--checkpoint={lcd}', '--leads=II,V1', root / 'unnamed'
  )
  assert code == 3 and rows[0]['reason'] == 'unknown_lead'
  assert '12 signals without lead names, 2 names given' in rows[0]['detail']


def test_probabilities(classifier, raw, capsys):
  root, ecg = raw
  code, rows, _ = run(capsys, f'--checkpoint={classifier}', root / 'plain')
  assert code == 0 and list(rows[0])[7:] == list(CLASSES)
  window = np.rint(1000 * ecg)[:64, list(leads.indices(('II', 'V1')))]
  logits = said_of(classifier, normalised(window / 1000)[None])['logits'][0]
  expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
  found = [float(rows[0][name]) for name in CLASSES]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  code, rows, _ = run(
    capsys, f'--checkpoint={classifier}', '--features', '--leads=V1',
    root / 'plain',
  )  # fmt: skip
  assert code == 0 and len(outputs(rows[0])) == 8


def test_best_step_of_a_supervised_run(classifier):
  """Early stopping chose step 1 of 2; one step can be named, too."""
  assert model_lib.load(classifier).step == 1
  assert model_lib.load(classifier / 'checkpoints' / '2').step == 2


def test_json(classifier, raw, capsys, tmp_path):
  root, _ = raw
  output = tmp_path / 'out.json'
  code, _, err = run(
    capsys, f'--checkpoint={classifier}', f'--output={output}', root / 'plain',
    root / 'gone',
  )  # fmt: skip
  assert code == 3 and '2 records: 1 ok, 1 refused' in err
  document = json.loads(output.read_text())
  assert document['names'] == list(CLASSES)
  assert document['contract']['leads'] == ['II', 'V1']
  fine, gone = document['records']
  assert len(fine['values']) == 3 and fine['reason'] is None
  assert gone['values'] is None and gone['reason'] == 'missing_file'
  assert os.listdir(tmp_path) == ['out.json']


def test_nothing_can_be_done(lcd, classifier, raw, capsys, tmp_path):
  root, _ = raw
  plain = root / 'plain'
  line = failure(capsys, f'--checkpoint={tmp_path}', plain)
  assert 'holds no valid checkpoint' in line
  line = failure(capsys, f'--checkpoint={lcd}', tmp_path)
  assert 'has no WFDB records' in line
  line = failure(capsys, f'--checkpoint={lcd}', '--leads=II,X', plain)
  assert "'X' is not a standard lead" in line
  line = failure(capsys, f'--checkpoint={lcd}', '--leads=aVL', plain)
  assert 'is not enough' in line
  line = failure(capsys, f'--checkpoint={classifier}', '--leads=II', plain)
  assert 'needs II, V1 for its probabilities, or ask for --features' in line
  line = failure(capsys, f'--checkpoint={lcd}')
  assert 'RECORD' in line
  nowhere = f'--output={tmp_path}/none/out.csv'
  line = failure(capsys, f'--checkpoint={lcd}', nowhere, plain)
  assert 'there is no folder' in line


def test_a_run_of_an_older_version(classifier, monkeypatch):
  """Fields that its config does not have yet are as by default."""
  from_json = model_lib.from_json

  def older(fields):
    assert fields['supervised'].pop('mixup') == 0
    assert fields.pop('bfloat16') is False
    return from_json(fields)

  monkeypatch.setattr(model_lib, 'from_json', older)
  config = model_lib.load(classifier).config
  assert config.supervised.mixup == 0 and config.bfloat16 is False


def test_weights_that_are_not_finite(classifier, monkeypatch):
  load = model_lib.checkpoints.load

  def broken(*args):
    arrays, metadata = load(*args)
    leaves, structure = jax.tree.flatten(arrays['params'])
    leaves[-1] = np.full_like(leaves[-1], np.nan)
    return arrays | {'params': structure.unflatten(leaves)}, metadata

  monkeypatch.setattr(model_lib.checkpoints, 'load', broken)
  with pytest.raises(ValueError, match='params/.* not finite; take an earlier'):
    model_lib.load(classifier)


def test_as_a_program_of_its_own():
  """Where this module is called `__main__`."""
  command = [sys.executable, '-m', 'ecgjax.predict', '--checkpoint=x']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 2 and done.stdout == ''
  (line,) = done.stderr.splitlines()
  assert 'RECORD' in line


def test_encoder_of_all_leads_takes_no_subset():
  contract = InputContract(100.0, 64, ('II', 'V1'))
  method = method_lib.Method(None, None, None, per_lead=False)
  model = model_lib.Model(method, contract, {}, {}, CLASSES)
  with pytest.raises(ValueError, match='needs II, V1 for its features$'):
    predict.make_predictor(model, ('II',), features=True)


def test_real_recordings(lcd, recordings, capsys):
  code, rows, _ = run(
    capsys, f'--checkpoint={lcd}', recordings / 'ludb' / 'data' / '1',
    recordings / 'cinc2021' / 'training' / 'ningbo',
    recordings / 'cinc2021' / 'training' / 'ptb' / 'g1' / 'S0002.mat',
  )  # fmt: skip
  assert code == 3  # two records of Ningbo have flat leads
  refused = {
    os.path.basename(r['record']): r['reason']
    for r in rows
    if r['status'] != 'ok'
  }
  assert refused == {'JS20004': 'flat', 'JS20008': 'flat'}
  assert rows[0]['rate'] == '500.0' and rows[-1]['rate'] == '1000.0'
  assert 'its own span' in rows[0]['detail'] and not rows[-1]['detail']
  assert all(len(outputs(r)) == 512 for r in rows if r['status'] == 'ok')
