"""Builders `ptbxl` and `cinc2021`, on made-up corpora and real recordings."""

import filecmp
import hashlib
import os
import shutil

import numpy as np
import pytest
import scipy.signal

from ecgjax.data.raw import ptbxl_signals
from ecgjax.data.store import convert, labels, prepared, splits
from ecgjax.ecg import leads
from ecgjax.ecg.recording import REASONS
from tests.data import raw_corpora

ROWS = [raw_corpora.ptbxl_row(number) for number in range(1, 25)]


@pytest.fixture(scope='module')
def raw_ptbxl(tmp_path_factory):
  folder = tmp_path_factory.mktemp('ptbxl')
  raw_corpora.write_ptbxl(folder, ROWS, (100, 500), present=range(1, 23))
  return str(folder)


@pytest.fixture(scope='module')
def ptbxl(raw_ptbxl, tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('data'))
  return prepared.build('ptbxl', folder, 100, raw_ptbxl)[0]


def test_ptbxl_record_by_record(ptbxl):
  found = raw_corpora.examples(ptbxl)
  assert sorted(found, key=int) == [str(n) for n in range(1, 23)]
  names = labels.scp_names()
  for number in range(1, 23):
    split, example = found[str(number)]
    patient = (number - 1) // 2
    fold = patient % 10 + 1
    digital = np.rint(raw_corpora.ecg(number, 100) * 1000)
    np.testing.assert_array_equal(example['ecg'], digital)
    assert example['ecg'].dtype == np.int16
    assert split == {9: 'validation', 10: 'test'}.get(fold, 'train')
    assert example['fold'] == fold
    assert example['fs'] == 100
    # Positions among ALL rows: records 23 and 24 are missing but counted.
    assert example['record'] == number - 1
    assert example['patient'] == patient
    assert example['patient_id'].decode() == str(patient + 100)
    assert example['time'] == (number - 1) % 2  # a day apart
    assert example['age'] == (90 if number == 1 else 40 + number)
    assert example['sex'] == number % 2
    assert (example['valid_start'], example['valid_len']) == (0, 1000)
    np.testing.assert_array_equal(example['gain'], np.full(12, 1000))
    np.testing.assert_array_equal(example['baseline'], np.zeros(12))
    assert example['lead_mask'].all() and example['label_mask'].all()
    statements = {names[i] for i in np.flatnonzero(example['labels'])}
    assert statements == ({'NORM', 'SR'} if number % 3 else {'IMI'})
    expected = hashlib.sha256(digital.astype('<i2').tobytes()).hexdigest()
    assert example['content_hash'].decode() == expected
    assert example['source'] == b'ptbxl'
    assert 0 < example['limb_residual'] <= 2


def test_ptbxl_metadata_and_report(ptbxl):
  metadata = dict(ptbxl.info.metadata.items())
  assert metadata['label_names'] == labels.scp_names()
  assert metadata['synthetic'] is False
  assert metadata['split_level'] == 'patient'
  report = metadata['report']
  assert (report['records'], report['patients'], report['read']) == (22, 11, 22)
  assert report['splits'] == {'train': 18, 'validation': 2, 'test': 2}
  assert report['missing_file'] == 2 and report['rejected'] == {}
  assert report['labels'] == {'NORM': 15, 'IMI': 7, 'SR': 15}


def test_tfds_load_and_any_rate(ptbxl, raw_ptbxl):
  import tensorflow_datasets as tfds

  import ecgjax.data.ptbxl  # noqa: F401

  folder = str(ptbxl.data_dir_root)
  first = tfds.load('ptbxl', data_dir=folder, split='train')
  assert first.element_spec['ecg'].shape == (1000, 12)
  for rate in ('250', 204.8):
    prepared.build('ptbxl', folder, rate, raw_ptbxl)
    name = f'{float(rate):g}hz'
    by_config = tfds.builder('ptbxl', config=name, data_dir=folder)
    by_name = tfds.builder(f'ptbxl/{name}', data_dir=folder)
    assert by_config.data_dir == by_name.data_dir
    assert by_config.info.splits['train'].num_examples == 18
    _, example = raw_corpora.examples(by_config)['5']
    native = np.rint(raw_corpora.ecg(5, 500) * 1000)
    up, down = (1, 2) if rate == '250' else (256, 625)
    expected = scipy.signal.resample_poly(native, up, down, padtype='line')
    assert len(example['ecg']) == round(float(rate) * 10) == len(expected)
    assert np.abs(example['ecg'] - expected).max() <= 1
  with pytest.raises(ValueError, match='named like'):
    tfds.builder('ptbxl', config='fast', data_dir=folder)


def test_workers_change_nothing(raw_ptbxl, ptbxl, tmp_path, monkeypatch):
  from ecgjax.data.store import builder as builder_lib

  monkeypatch.setattr(builder_lib, 'RECORDS_PER_WORKER', 4)
  other, built = prepared.build(
    'ptbxl', str(tmp_path), 100, raw_ptbxl, workers=2
  )
  assert built
  names = sorted(os.listdir(ptbxl.data_dir))
  assert names == sorted(os.listdir(other.data_dir)) and len(names) == 7
  _, different, errors = filecmp.cmpfiles(
    ptbxl.data_dir, other.data_dir, names, shallow=False
  )
  assert different == errors == []


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'scp_codes': 'NORM'}, 'line 2: column scp_codes has the value'),
    ({'scp_codes': "{'XX': 0}"}, 'line 2: column scp_codes is no dict'),
    ({'strat_fold': '11'}, 'line 2: column strat_fold is 11'),
    ({'strat_fold': ''}, 'line 2: column strat_fold has the value'),
    ({'patient_id': 'x'}, 'line 2: column patient_id has the value'),
    ({'recording_date': 'x'}, 'line 2: column recording_date has the value'),
    ({'ecg_id': 2}, "two records have the id '2'"),
    ({'patient_id': 108.0}, "patient '108' is in two splits"),
  ],
)
def test_ptbxl_table_errors(changes, message, tmp_path):
  rows = [raw_corpora.ptbxl_row(1, **changes), *ROWS[1:18]]
  raw_corpora.write_ptbxl(tmp_path / 'raw', rows, present=())
  with pytest.raises(ValueError, match=message) as error:
    prepared.build('ptbxl', str(tmp_path / 'data'), 100, str(tmp_path / 'raw'))
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'data').exists()


def test_path_in_the_table_cannot_leave_the_folder(tmp_path):
  raw_corpora.write_record(tmp_path / 'x', raw_corpora.ecg(1, 100), 100)
  rows = [raw_corpora.ptbxl_row(1, filename_lr='../x'), *ROWS[1:]]
  raw_corpora.write_ptbxl(tmp_path / 'raw', ROWS)
  raw_corpora.write_ptbxl(tmp_path / 'raw', rows, present=())
  builder, _ = prepared.build(
    'ptbxl', str(tmp_path / 'data'), 100, str(tmp_path / 'raw')
  )
  report = builder.info.metadata['report']
  assert report['rejected'] == {'outside_root': 1}
  assert '1' not in raw_corpora.examples(builder)


@pytest.fixture(scope='module')
def raw_cinc(tmp_path_factory):
  """Five sources; four ptb-xl records of three patients, folds 1, 2, 9."""
  folder = tmp_path_factory.mktemp('cinc')

  def write(source, name, rate=500, dx='426783006', seconds=10, **options):
    raw_corpora.write_record(
      folder / 'training' / source / 'g1' / name,
      raw_corpora.ecg(sum(name.encode()) + len(dx), rate, seconds),
      rate,
      '.mat',
      comments=['Age: 51', 'Sex: Female', f'Dx: {dx}'],
      **options,
    )

  for number in range(12):
    write('georgia', f'E{number:05d}')
  write('ningbo', 'JS10647', dx='164890007,,')
  write('chapman_shaoxing', 'JS00001', dx='251238007,164889003,164889003,')
  write('ptb', 'S0001', rate=1000, seconds=12, dx='164865005')
  write('ptb', 'S0002', rate=1000, seconds=8)
  write('st_petersburg_incart', 'I0001', rate=257, seconds=20)
  write('st_petersburg_incart', 'I0002', rate=257)
  for number in (1, 2, 3, 17, 99):
    write('ptb-xl', f'HR{number:05d}')
  return str(folder)


@pytest.fixture(scope='module')
def ptbxl_csv(tmp_path_factory):
  folder = tmp_path_factory.mktemp('table')
  raw_corpora.write_ptbxl(folder, ROWS, present=())
  return str(folder / 'ptbxl_database.csv')


def test_cinc2021(raw_cinc, ptbxl_csv, tmp_path):
  builder, _ = prepared.build(
    'cinc2021', str(tmp_path), 100, raw_cinc, ptbxl_csv=ptbxl_csv
  )
  found = raw_corpora.examples(builder)
  report = builder.info.metadata['report']
  assert report['rejected'] == {}
  # Record 17 is in fold 9; 99 is not in the table.
  assert report['left_out'] == {
    'leakage_test_fold': 1,
    'leakage_unknown_fold': 1,
    'known_defect': 1,
  }
  assert builder.info.metadata['split_level'] == 'record'
  names = labels.snomed_names()

  def codes(record):
    return {names[i] for i in np.flatnonzero(found[record][1]['labels'])}

  assert codes('JS10647') == {labels.NINGBO_AF_OR_AFL}
  assert codes('JS00001') == {'164889003', labels.UNKNOWN_CODE}
  assert codes('S0001') == {'164865005'}
  for record, (split, example) in found.items():
    source = example['source'].decode()
    if source in ('ptb', 'st_petersburg_incart', 'ptb-xl'):
      assert split == 'train'
    else:
      assert split == splits.hash_split(source, record)
    mask = labels.annotated(source) | example['labels']
    np.testing.assert_array_equal(example['label_mask'], mask)
    assert (example['age'], example['sex']) == (51, 1)
    if source != 'ptb-xl':
      assert example['patient_id'].decode() == record
  # Patients, folds and dates of ptb-xl come from its own table.
  assert found['HR00001'][1]['patient'] == found['HR00002'][1]['patient']
  assert found['HR00003'][1]['patient_id'] == b'101'
  assert found['HR00003'][1]['fold'] == 2
  assert found['HR00002'][1]['time'] == 1
  # Ten seconds of everything: cut, padded at zero millivolts, resampled.
  assert found['S0001'][1]['valid_len'] == 1000
  assert found['S0002'][1]['valid_len'] == 800
  assert not found['S0002'][1]['ecg'][800:].any()
  assert report['cut'] == 2 and report['padded'] == 1
  native = np.rint(raw_corpora.ecg(sum(b'I0001') + 9, 257, 20) * 1000)
  expected = scipy.signal.resample_poly(native, 100, 257, padtype='line')
  assert np.abs(found['I0001'][1]['ecg'] - expected[:1000]).max() <= 1


def test_cinc2021_without_the_ptbxl_table(raw_cinc, tmp_path):
  import tensorflow_datasets as tfds

  sources = ('ptb-xl', 'georgia')
  builder, _ = prepared.build(
    'cinc2021', str(tmp_path), 250, raw_cinc, sources=sources
  )
  report = builder.info.metadata['report']
  assert report['left_out'] == {'leakage_unknown_fold': 5}
  assert report['sources'] == {'georgia': 12}
  assert builder.builder_config.name == '250hz+ptb-xl+georgia'
  again = tfds.builder('cinc2021/250hz+georgia+ptb-xl', data_dir=str(tmp_path))
  assert again.data_dir == builder.data_dir


@pytest.mark.parametrize(
  'options, message',
  [
    ({'sources': ('mars',)}, "no source 'mars'; its sources are cpsc_2018"),
    ({'sources': ('cpsc_2018',)}, 'has no folder training/cpsc_2018'),
    ({'labels_csv': 'x'}, 'cinc2021 has no option labels_csv'),
    ({'ptbxl_csv': '/nowhere'}, '/nowhere: cannot read the table'),
    ({'max_rejected': 5}, 'max_rejected is 5; it is a share'),
  ],
)
def test_cinc2021_refuses(options, message, raw_cinc, tmp_path):
  with pytest.raises(ValueError, match=message):
    prepared.build('cinc2021', str(tmp_path), 100, raw_cinc, **options)


def test_rates():
  assert convert.stored_length('204.8') == 2048
  for rate in ('0', '9', '20000', 'x', '1e99', 'nan', '100.00001', '-100'):
    with pytest.raises(ValueError, match='expected Hz between'):
      convert.parse_rate(rate)


def test_cutting_before_resampling_changes_nothing():
  recording = convert.wfdb.Recording(
    np.rint(raw_corpora.ecg(7, 500, 30) * 1000).astype(np.int16),
    np.full(12, 1000.0),
    np.zeros(12),
    500.0,
    leads.LEADS,
  )
  for rate, up, down in ((100, 1, 5), (204.8, 256, 625), (1000, 2, 1)):
    part, cut = convert.shorten(recording, rate)
    whole = scipy.signal.resample_poly(
      recording.samples.astype(float), up, down, padtype='line'
    )
    assert cut and len(part.samples) == rate * 10
    assert np.abs(part.samples - whole[: len(part.samples)]).max() <= 1


def test_real_ptbxl(recordings, tmp_path):
  raw = str(recordings / 'ptbxl')
  builder, _ = prepared.build('ptbxl', str(tmp_path), 100, raw)
  report = builder.info.metadata['report']
  assert (report['records'], report['patients']) == (1987, 1850)
  assert report['rejected'] == {} and report['missing_file'] == 0
  assert report['splits'] == {'train': 1490, 'validation': 242, 'test': 255}
  assert prepared.verify(builder) == report['splits']
  _, example = raw_corpora.examples(builder)['1001']
  digital = np.fromfile(f'{raw}/records100/01000/01001_lr.dat', '<i2')
  np.testing.assert_array_equal(example['ecg'], digital.reshape(1000, 12))


def test_real_ptbxl_at_500_hz(recordings):
  builder = prepared.make_builder('ptbxl', '', 500)
  counts, _ = builder.examine(str(recordings / 'ptbxl'))
  report = counts.report()
  assert report['records'] == 488 and report['rejected'] == {}
  assert report['missing_file'] == 1499


def test_real_cinc2021(recordings):
  builder = prepared.make_builder('cinc2021', '', 100)
  counts, plan = builder.examine(str(recordings / 'cinc2021'))
  report = counts.report()
  assert len(plan.everything()) == 60
  assert report['rejected'] == {'flat': 2}
  assert report['left_out'] == {'leakage_unknown_fold': 10}
  flat = {row.record for row in counts.rejections if row.reason == 'flat'}
  assert flat == {'JS20004', 'JS20008'}


def test_reasons_do_not_overlap():
  from ecgjax.data.store import build_report

  assert not set(build_report.LEFT_OUT) & set(REASONS)
  assert build_report.MISSING_FILE in REASONS


@pytest.fixture(scope='module')
def held_ptbxl(tmp_path_factory):
  """500 Hz files that keep their last value for 50 samples."""
  folder = tmp_path_factory.mktemp('held')
  raw_corpora.write_ptbxl(folder, ROWS[:20], (100,))
  for row in ROWS[:20]:
    ecg = raw_corpora.ecg(row['ecg_id'], 500)
    ecg[-50:] = ecg[-50]
    raw_corpora.write_record(folder / row['filename_hr'], ecg, 500)
  return str(folder)


def test_ptbxl_100_hz_from_either_signal(held_ptbxl, tmp_path):
  build = lambda rate, *sources: prepared.build(
    'ptbxl', str(tmp_path), rate, held_ptbxl, sources=sources
  )[0]
  fast = np.rint(1000 * raw_corpora.ecg(4, 500))
  fast[-50:] = fast[-50]
  slow = np.rint(1000 * raw_corpora.ecg(4, 100))
  down = lambda x: scipy.signal.resample_poly(x, 1, 5, padtype='line')

  builder = build(100)
  _, example = raw_corpora.examples(builder)['4']
  np.testing.assert_array_equal(example['ecg'], slow)
  assert builder.info.metadata['signal'] == 'records100'

  builder = build(100, 'records500')
  assert builder.builder_config.name == '100hz+records500'
  assert builder.info.metadata['signal'] == 'records500'
  _, example = raw_corpora.examples(builder)['4']
  assert np.abs(example['ecg'] - down(fast)).max() <= 1
  assert example['valid_len'] == 1000

  builder = build(100, 'records500-unheld')
  assert builder.info.metadata['signal'] == 'records500-unheld'
  _, example = raw_corpora.examples(builder)['4']
  # 4951 samples are signal, the first of the held value among them.
  assert example['valid_len'] == 991 and not example['ecg'][991:].any()
  assert np.abs(example['ecg'][:991] - down(fast[:4951])).max() <= 1

  # The default by its name is the default.
  assert build(500, 'records500').builder_config.name == '500hz'
  import tensorflow_datasets as tfds

  by_name = tfds.builder(
    'ptbxl/100hz+records500-unheld', data_dir=str(tmp_path)
  )
  assert by_name.data_dir == builder.data_dir


@pytest.mark.parametrize(
  'sources', [('records250',), ('records100', 'records500')]
)
def test_ptbxl_has_three_signals(sources, tmp_path):
  with pytest.raises(ValueError, match='choose one of records100, records500'):
    prepared.make_builder('ptbxl', str(tmp_path), 100, sources=sources)


def test_a_short_file_is_no_held_end(held_ptbxl, tmp_path):
  folder = shutil.copytree(held_ptbxl, tmp_path / 'raw')
  path = os.path.join(folder, ROWS[3]['filename_hr'])
  raw_corpora.write_record(path, raw_corpora.ecg(4, 500)[:4900], 500)
  builder, _ = prepared.build(
    'ptbxl', str(tmp_path / 'data'), 100, str(folder),
    sources=('records500-unheld',), max_rejected=0.1,
  )  # fmt: skip
  report = builder.info.metadata['report']
  assert report['rejected'] == {'wrong_length': 1}


def test_which_signal_of_ptbxl():
  signal = ptbxl_signals.signal_of
  assert signal('ptbxl', 100, ()) == signal('ptbxl', 50, ()) == 'records100'
  assert signal('ptbxl', 204.8, ()) == 'records500'
  assert signal('ptbxl', 100, ['records500']) == 'records500'
  assert signal('cinc2021', 100, ()) == 'records500'
  assert signal('cinc2021', 100, ('georgia', 'ptb-xl')) == 'records500'
  assert signal('cinc2021', 100, ('georgia',)) == signal('ludb', 100, ()) == ''
  warning = ptbxl_signals.signal_warning
  assert warning('records100', 'records100') == warning('', 'records100') == ''
  line = warning('records500', 'records100')
  assert 'trained on records500' in line and 'judged on records100' in line
