"""The command `python -m ecgjax.data.prepare` and building on first use."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import ml_collections
import pytest

from ecgjax.data import prepare
from ecgjax.data.store import builder as builder_lib
from ecgjax.data.store import convert, prepared
from tests.data import raw_corpora

ROWS = [raw_corpora.ptbxl_row(number) for number in range(1, 25)]


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  """24 PTB-XL records: number 3 is flat, 23 and 24 are missing."""
  folder = tmp_path_factory.mktemp('raw')
  raw_corpora.write_ptbxl(folder, ROWS, present=range(1, 23))
  flat = raw_corpora.ecg(3, 100) * ([1] * 9 + [0] * 3)
  raw_corpora.write_record(folder / 'records100/00000/00003_lr', flat, 100)
  return str(folder)


@pytest.fixture(autouse=True)
def _keep_sigterm():
  """`main` handles SIGTERM; give the handler back."""
  before = signal.getsignal(signal.SIGTERM)
  yield
  signal.signal(signal.SIGTERM, before)


def _run(capsys, *flags):
  """Exit code, standard output and standard error without progress bars."""
  code = prepare.main(list(flags))
  out, err = capsys.readouterr()
  lines = [line.split('\r')[-1] for line in err.splitlines()]
  return code, out, [line for line in lines if line and 'ECG/s' not in line]


def test_prepare_and_prepare_again(raw, tmp_path, capsys):
  flags = ['--dataset=ptbxl', f'--raw_dir={raw}', f'--data_dir={tmp_path}']
  code, out, err = _run(capsys, *flags, '--max_rejected=5%')
  assert (code, err) == (3, [])
  assert 'ptbxl/100hz prepared in' in out
  assert 'records    21 of 11 patients' in out
  assert 'rejected   1 of 22 read (4.5%): flat 1' in out
  assert 'splits     train 17, validation 2, test 2' in out
  assert 'missing    2 named by a table' in out
  rejected = (tmp_path / 'ptbxl-100hz-rejected.csv').read_text().splitlines()
  assert rejected[0] == 'record,file,reason,detail'
  rows = [line.split(',')[0:3:2] for line in rejected[1:]]
  assert rows == [['23', 'missing_file'], ['24', 'missing_file'], ['3', 'flat']]
  # Nothing else is left in the folder.
  assert sorted(os.listdir(tmp_path)) == ['ptbxl', 'ptbxl-100hz-rejected.csv']
  before = _snapshot(tmp_path)
  code, out, err = _run(capsys, *flags)
  assert (code, err) == (0, [])
  assert 'ptbxl/100hz is already prepared' in out
  assert 'records    21 of 11 patients' in out
  assert _snapshot(tmp_path) == before
  # Without the raw folder too.
  assert _run(capsys, flags[0], flags[2])[0] == 0


def _snapshot(folder):
  files = (path for path in pathlib.Path(folder).rglob('*') if path.is_file())
  return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_other_recordings_are_refused(raw, tmp_path, capsys):
  other = tmp_path / 'other'
  raw_corpora.write_ptbxl(other, ROWS[:20], present=())
  data = tmp_path / 'data'
  flags = ['--dataset=ptbxl', f'--data_dir={data}']
  assert _run(capsys, *flags, f'--raw_dir={raw}')[0] == 3
  code, out, err = _run(capsys, *flags, f'--raw_dir={other}')
  assert code == 2 and out == '' and len(err) == 1
  assert 'was prepared from other recordings or tables' in err[0]


def test_too_many_rejected(raw, tmp_path, capsys):
  code, out, err = _run(
    capsys,
    '--dataset=ptbxl',
    f'--raw_dir={raw}',
    f'--data_dir={tmp_path}',
    '--max_rejected=0.04',
  )
  assert code == 2 and out == '' and len(err) == 1
  assert '1 of 22 records (4.5%) are rejected' in err[0]
  # The list is there, and only the list.
  assert os.listdir(tmp_path) == ['ptbxl-100hz-rejected.csv']
  assert 'flat' in (tmp_path / 'ptbxl-100hz-rejected.csv').read_text()


def test_no_usable_record(tmp_path, capsys):
  raw_corpora.write_ptbxl(tmp_path / 'raw', ROWS, present=())
  code, _, err = _run(
    capsys,
    '--dataset=ptbxl',
    f'--raw_dir={tmp_path / "raw"}',
    f'--data_dir={tmp_path / "data"}',
  )
  assert code == 2 and 'no record can be used; see' in err[0]
  assert os.listdir(tmp_path / 'data') == ['ptbxl-100hz-rejected.csv']


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--dataset=ptbx'], "no data set 'ptbx'; choose one of cinc2021"),
    (['--dataset=readers'], "no data set 'readers'"),
    ([], 'required: --dataset; --help lists'),
    (['--dataset=ptbxl', '--lenght=3'], 'unrecognized arguments: --lenght=3'),
    (['--dataset=ptbxl', '--rate=fast'], "rate is 'fast'; expected Hz"),
    (['--dataset=ptbxl', '--max_rejected=7'], 'max_rejected is 7.0; it is'),
    (['--dataset=ptbxl', '--max_rejected=x'], 'invalid share value'),
    (['--dataset=ptbxl', '--raw_dir=/none'], 'raw_dir /none: no such folder'),
    (['--dataset=ptbxl', '--raw_dir=/proc/self'], 'has no ptbxl_database.csv'),
    (['--dataset=ptbxl', '--size=tiny'], 'ptbxl has no option size'),
    (['--dataset=wfdb_folder'], 'wfdb_folder needs a folder of recordings'),
    (['--dataset=ptbxl', '--check'], 'ptbxl/100hz is not prepared in'),
  ],
)
def test_bad_input_is_one_line(flags, message, tmp_path, capsys):
  data = tmp_path / 'data'
  code, out, err = _run(capsys, *flags, f'--data_dir={data}')
  assert code == 2 and out == ''
  assert len(err) == 1 and message in err[0]
  assert not data.exists()


def test_a_file_in_the_place_of_data_dir(raw, tmp_path, capsys):
  path = tmp_path / 'file'
  path.write_text('')
  code, _, err = _run(
    capsys, '--dataset=ptbxl', f'--raw_dir={raw}', f'--data_dir={path}'
  )
  assert code == 2 and len(err) == 1 and f'data_dir {path}' in err[0]


def test_check_writes_nothing(raw, tmp_path, capsys):
  data = tmp_path / 'data'
  flags = ['--dataset=ptbxl', f'--data_dir={data}']
  code, out, err = _run(capsys, *flags, f'--raw_dir={raw}', '--check')
  assert (code, err) == (3, [])
  assert 'rejected   1 of 22 read (4.5%): flat 1' in out
  assert '  3: flat: ' in out and 'nothing written' in out
  assert not data.exists()
  assert _run(capsys, *flags, f'--raw_dir={raw}')[0] == 3
  code, out, _ = _run(capsys, *flags, '--check')
  assert code == 0 and 'train 17, validation 2, test 2' in out
  shard = next((data / 'ptbxl/100hz/1.0.0').glob('*validation.tfrecord*'))
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 1
  shard.write_bytes(content)
  # Tables are read once per process.
  from ecgjax.data.store import records as records_lib

  records_lib._read_table.cache_clear()
  code, _, err = _run(capsys, *flags, '--check')
  assert code == 2 and str(shard) in err[0]


def _fail_after(monkeypatch, records, error):
  """The conversion raises after some records."""
  convert_all = convert.convert_all

  def failing(*args):
    for count, result in enumerate(convert_all(*args)):
      if count == records:
        raise error
      yield result

  monkeypatch.setattr(convert, 'convert_all', failing)


@pytest.mark.parametrize('error', [RuntimeError('bug'), SystemExit(75)])
def test_an_interrupted_build_leaves_nothing(
  error, raw, tmp_path, capsys, monkeypatch
):
  flags = ['--dataset=ptbxl', f'--raw_dir={raw}', f'--data_dir={tmp_path}']
  with monkeypatch.context() as patch:
    _fail_after(patch, 10, error)
    with pytest.raises(type(error)):
      prepare.main(flags)
  assert os.listdir(tmp_path) == []
  assert _run(capsys, *flags)[0] == 3


def test_left_overs_of_a_killed_build_are_removed(raw, tmp_path):
  left_over = tmp_path / 'ptbxl' / '100hz' / 'incomplete.ABC_1.0.0'
  left_over.mkdir(parents=True)
  (left_over / 'ptbxl-train.tfrecord-00000-of-00001').write_text('half')
  (tmp_path / '.ptbxl-100hz.lock').write_text('')
  builder, built = prepared.build('ptbxl', str(tmp_path), 100, raw)
  assert built and builder.info.splits['train'].num_examples == 17
  assert not left_over.exists()
  assert '.ptbxl-100hz.lock' not in os.listdir(tmp_path)


def test_only_one_process_builds(tmp_path):
  builder = prepared.make_builder('ptbxl', str(tmp_path / 'data'), 100)
  order = []

  def work(name):
    with prepared._lock(builder):
      order.append(name)
      time.sleep(0.05)
      order.append(name)

  threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert order[::2] == order[1::2] and sorted(order[::2]) == [0, 1, 2, 3]
  assert not list(tmp_path.glob('data/.*'))


def test_open_builder_builds_on_first_use(raw, tmp_path):
  data = ml_collections.ConfigDict(
    {
      'name': 'ptbxl',
      'dir': str(tmp_path),
      'raw_dir': raw,
      'rate': 50.0,
      'size': '',
      'sources': (),
    }
  )
  others = []
  thread = threading.Thread(
    target=lambda: others.append(prepared.open_builder(data))
  )
  thread.start()
  builder = prepared.open_builder(data)
  thread.join()
  assert builder.info.splits['train'].num_examples == 17
  assert others[0].info.splits['train'].num_examples == 17
  data.raw_dir = ''  # prepared: the recordings are needed no more
  assert prepared.open_builder(data).data_dir == builder.data_dir
  data.name = 'nothing'
  with pytest.raises(ValueError, match="no data set 'nothing'; choose"):
    prepared.open_builder(data)


def test_config_names():
  assert builder_lib.ecg_config('204.800').name == '204.8hz'
  assert builder_lib.ecg_config(100).name == '100hz'
  assert builder_lib.ecg_config(333.333, ('a', 'b-c')).name == '333.333hz+a+b-c'


@pytest.mark.slow
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_run_again(how, recordings, tmp_path):
  """Killed while it writes; the next run finds nothing in its way."""
  raw = recordings / 'ptbxl'
  command = [
    *(sys.executable, '-m', 'ecgjax.data.prepare', '--dataset=ptbxl'),
    *(f'--raw_dir={raw}', f'--data_dir={tmp_path}', '--workers=2'),
  ]
  process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
  while not list(tmp_path.glob('ptbxl/100hz/incomplete.*')):
    assert process.poll() is None
    time.sleep(0.01)
  time.sleep(1)
  process.send_signal(how)
  process.communicate()
  assert process.returncode == (75 if how == signal.SIGTERM else -how)
  assert not (tmp_path / 'ptbxl/100hz/1.0.0').exists()
  if how == signal.SIGTERM:
    assert list(tmp_path.iterdir()) == []
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0 and 'records    1987 of 1850' in done.stdout
  assert not list(tmp_path.glob('ptbxl/100hz/incomplete.*'))
  # Standard error holds the progress bar and nothing else.
  rest = [x for x in done.stderr.replace('\r', '\n').split('\n') if x.strip()]
  assert rest and all(line.startswith('ptbxl/100hz: ') for line in rest), rest
