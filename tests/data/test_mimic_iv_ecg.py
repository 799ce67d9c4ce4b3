"""Builder `mimic_iv_ecg` on a small folder in the publisher's layout."""

import numpy as np
import pytest

from ecgjax.data import mimic_iv_ecg
from ecgjax.data.store import builder as builder_lib
from ecgjax.data.store import labels, prepared, splits
from ecgjax.ecg import leads
from ecgjax.ecg.recording import REASONS
from tests.data import raw_corpora

# The publisher's order: aVF before aVL.
LEADS = (
  'I', 'II', 'III', 'aVR', 'aVF', 'aVL', 'V1', 'V2', 'V3', 'V4', 'V5', 'V6'
)  # fmt: skip
ORDER = [leads.LEADS.index(name) for name in LEADS]
DEFECTS = {  # study -> how its file is written, and the reason of rejection
  4107: 'nan',
  4108: 'flat',
  4109: 'wrong_gain',
  4110: 'wrong_rate',
  4111: 'wrong_length',
  4112: 'missing_lead',
  4113: 'duplicate_lead',
}


def path_of(patient, study):
  return f'files/p{patient // 100}/p{patient}/s{study}/{study}'


def write(folder, patient, study):
  millivolts = raw_corpora.ecg(study, 500)[:, ORDER]
  names, gain, rate = list(LEADS), 200, 500
  reason = DEFECTS.get(study)
  if reason == 'nan':
    millivolts[100:900, 3] = -32768 / gain
  elif reason == 'flat':
    millivolts[:] = 0
  elif reason == 'wrong_gain':
    gain = 1000
  elif reason == 'wrong_rate':
    rate = 250
  elif reason == 'wrong_length':
    millivolts = millivolts[:2500]
  elif reason == 'missing_lead':
    millivolts, names = millivolts[:, :-1], names[:-1]
  elif reason == 'duplicate_lead':
    names[4] = 'aVL'
  path = folder / path_of(patient, study)
  raw_corpora.write_record(
    path, millivolts, rate, gain=gain, names=[name.upper() for name in names]
  )


@pytest.fixture(scope='module')
def raw_dir(tmp_path_factory):
  """Patients 1000-1009 with two good ECGs each, one of them with defects."""
  folder = tmp_path_factory.mktemp('mimic')
  rows = []
  for number in range(20):
    patient, study = 1000 + number // 2, 4000 + number
    write(folder, patient, study)
    time = f'21{80 + number}-07-23 08:44:00' if number else ''
    rows.append((patient, study, time, path_of(patient, study)))
  for study in DEFECTS:
    write(folder, 1000, study)
    rows.append((1000, study, '2190-01-01 00:00:00', path_of(1000, study)))
  rows.append((1001, 4200, '2190-01-01 00:00:00', path_of(1001, 4200)))
  rows.append((1001, 4201, '2190-01-01 00:00:00', '../../etc/passwd'))
  table = ['subject_id,study_id,file_name,ecg_time,path']
  table += [f'{p},{s},{s},{t},{path}' for p, s, t, path in rows]
  (folder / 'record_list.csv').write_text('\n'.join(table) + '\n')
  (folder / 'machine_measurements.csv').write_text(
    'subject_id,study_id,cart_id,ecg_time,report_0,report_1,report_2\n'
    '1000,4000,1,,Atrial fibrillation,"Inferior infarct, age undetermined",\n'
    '1000,4001,1,,Sinus rhythm with 1st degree A-V block,,with PVCs\n'
    '1001,4002,1,,,,\n'
  )
  return folder


def build(raw_dir, data_dir, **options):
  builder, _ = prepared.build(
    'mimic_iv_ecg',
    str(data_dir),
    100,
    str(raw_dir),
    max_rejected=0.5,
    **options,
  )
  return builder


@pytest.fixture(scope='module')
def built(raw_dir, tmp_path_factory):
  builder = build(raw_dir, tmp_path_factory.mktemp('one'))
  return builder, raw_corpora.examples(builder)


def test_records(built):
  builder, found = built
  assert sorted(map(int, found)) == list(range(4000, 4020))
  report = builder.info.metadata['report']
  expected = dict.fromkeys(DEFECTS.values(), 1) | {'outside_root': 1}
  assert report['rejected'] == expected
  assert report['missing_file'] == 1
  assert builder.info.metadata['split_level'] == 'patient'
  for record, (split, example) in found.items():
    patient = str(1000 + (int(record) - 4000) // 2)
    assert example['patient_id'].decode() == patient
    assert example['patient'] == int(patient) - 1000
    assert split == splits.hash_split('mimic_iv_ecg', patient)
    assert np.isnan(example['age']) and example['sex'] == -1
    assert example['valid_len'] == 1000 and (example['gain'] == 200).all()


def test_leads_are_read_by_name(built):
  """aVL and aVF end up in their own columns, whatever the order in the file."""
  _, found = built
  millivolts = found['4003'][1]['ecg'] / 200.0
  i, ii, iii, avr, avl, avf = millivolts[50:-50, :6].T
  tolerance = 3 / 200
  np.testing.assert_allclose(avl, (i - iii) / 2, atol=tolerance)
  np.testing.assert_allclose(avf, (ii + iii) / 2, atol=tolerance)
  np.testing.assert_allclose(avr, -(i + ii) / 2, atol=tolerance)
  assert np.abs(avl - avf).max() > 20 * tolerance
  expected = raw_corpora.ecg(4003, 500)[::5]
  correlation = np.corrcoef(millivolts.T, expected.T)[:12, 12:]
  assert (correlation.diagonal() > 0.9).all()


def test_times_are_days_since_the_first(built):
  _, found = built
  assert found['4000'][1]['time'] == -1  # no date
  assert found['4001'][1]['time'] == 0
  assert found['4002'][1]['time'] == 0
  assert found['4003'][1]['time'] == 365  # a year later, 2182 to 2183


def test_machine_labels(built):
  builder, found = built
  names = builder.info.metadata['label_names']
  task = labels.make_task('longitudinal', names)
  label = lambda record: labels.apply(
    task, found[record][1]['labels'], found[record][1]['label_mask']
  )
  positive = lambda record: {
    name for name, bit in zip(task.classes, label(record)[0]) if bit
  }
  assert positive('4000') == {'AF', 'MI'} and label('4000')[1].all()
  assert positive('4001') == {'1AVB', 'premature'} and label('4001')[1].all()
  assert not label('4002')[1].any()  # an empty report
  assert not label('4003')[1].any()  # none


@pytest.mark.parametrize(
  ('statement', 'positive', 'unclear'),
  [
    ('Sinus rhythm', '', ''),
    ('Atrial fibrillation with rapid ventricular response', 'AF', ''),
    ('Atrial flutter with variable block', 'AFL', ''),
    ('Atrial fibrillation or flutter', '', 'AF AFL'),
    ('Possible atrial flutter', '', 'AFL'),
    ('Sinus rhythm with PAC(s).', 'premature', ''),
    ('frequent ventricular premature complexes', 'premature', ''),
    ('pVC', 'premature', ''),
    ('Pacemaker rhythm', '', 'AF AFL premature 1AVB MI'),
    ('First degree AV block', '1AVB', ''),
    ('Prolonged P-R interval', '', '1AVB'),
    ('2nd degree A-V block', '', ''),
    ('Inferior infarct - age undetermined', 'MI', ''),
    ('Cannot rule out anterior infarct', '', 'MI'),
    (
      'Compared to ECG 01/01/2180 atrial fibrillation no longer present',
      '',
      'AF',
    ),
    ('Undetermined rhythm', '', 'AF AFL'),
  ],
)
def test_statements(statement, positive, unclear):
  found, mask = mimic_iv_ecg.read_statements([statement, ''])
  names = list(mimic_iv_ecg.STATEMENTS)
  assert {n for n, bit in zip(names, found) if bit} == set(positive.split())
  assert {n for n, bit in zip(names, mask) if not bit} == set(unclear.split())


def test_a_certain_statement_settles_a_doubtful_one():
  found, mask = mimic_iv_ecg.read_statements(
    ['Atrial fibrillation', 'Possible atrial fibrillation']
  )
  assert found[0] == mask[0] == 1


def test_workers_write_the_same(raw_dir, built, tmp_path, monkeypatch):
  monkeypatch.setattr(builder_lib, 'RECORDS_PER_WORKER', 8)
  builder = build(raw_dir, tmp_path / 'two', workers=2)
  one = sorted(built[0].data_path.glob('*tfrecord*'))
  two = sorted(builder.data_path.glob('*tfrecord*'))
  assert [path.name for path in one] == [path.name for path in two] != []
  for first, second in zip(one, two):
    assert first.read_bytes() == second.read_bytes()
  with open(built[0].rejections_path()) as first:
    with open(builder.rejections_path()) as second:
      assert first.read() == second.read()


def test_labels_from_a_table_of_the_user(raw_dir, tmp_path):
  table = tmp_path / 'icd.csv'
  table.write_text('record,I48,I21\n4000,1,0\n4003,0,\n')
  builder = build(raw_dir, tmp_path / 'data', labels_csv=str(table))
  table.unlink()
  builder = prepared.make_builder('mimic_iv_ecg', str(tmp_path / 'data'), 100)
  assert builder.info.metadata['label_names'] == ['I48', 'I21']
  found = raw_corpora.examples(builder)
  assert found['4000'][1]['labels'].tolist() == [1, 0]
  assert found['4003'][1]['label_mask'].tolist() == [1, 0]
  assert not found['4005'][1]['label_mask'].any()


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('subject_id,study_id,path\n1,2,a\n', 'no column ecg_time'),
    ('subject_id,study_id,ecg_time,path\n1,2,noon,a\n', "value 'noon'"),
    ('subject_id,study_id,ecg_time,path\n1,2\n', 'line 2: 2 of 4 columns'),
    ('subject_id,study_id,ecg_time,path\n1,2,,a\n3,2,,b\n', "the id '2'"),
    (None, 'has no record_list.csv'),
  ],
)
def test_bad_tables(text, message, tmp_path):
  if text is not None:
    (tmp_path / 'record_list.csv').write_text(text)
  builder = prepared.make_builder('mimic_iv_ecg', str(tmp_path / 'data'), 100)
  with pytest.raises(ValueError, match=message):
    builder.checked_plan(str(tmp_path))


def test_reasons_are_known():
  assert set(DEFECTS.values()) <= set(REASONS)
