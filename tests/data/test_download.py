"""Verified downloads, against a server on this machine."""

import hashlib
import http.server
import io
import os
import threading
import zipfile

import pytest

from ecgjax.data import prepare
from ecgjax.data.raw import download
from tests.data import raw_corpora

FILES = {
  'RECORDS': b'training/a/A1\n',
  'training/a/A1.hea': b'A1 12 500 5000\n',
  'training/a/A1.mat': bytes(range(256)) * 40,
  'training/b/B 1.hea': b'B1 12 500 5000\n',
  'training/b/B 1.mat': b'',
}


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    server = self.server
    path = server.unquote(self.path)
    server.asked.append(path)
    faults = server.faults.get(path, [])
    fault = faults.pop(0) if faults else None
    data = server.content.get(path)
    if data is None:
      self.send_error(404)
      return
    if fault == 'other bytes':
      data = bytes(byte ^ 1 for byte in data)
    elif fault == 'longer':
      data += b'more'
    elif fault == 'shorter':
      data = data[:-1]
    self.send_response(200)
    self.send_header('Content-Length', str(len(data)))
    self.end_headers()
    self.wfile.write(data[: len(data) // 2] if fault == 'broken off' else data)

  def log_message(self, *args):
    pass


@pytest.fixture
def server(monkeypatch):
  """Serves `content`; `faults` gives what goes wrong with the next answers."""
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  monkeypatch.setattr(download, '_PAUSE', 0)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler) as server:
    server.content, server.faults, server.asked = {}, {}, []
    server.unquote = download.urllib.parse.unquote
    server.url = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(
      target=server.serve_forever, args=(0.01,), daemon=True
    )
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def _sums(files):
  lines = [f'{hashlib.sha256(v).hexdigest()} {k}' for k, v in files.items()]
  return '\n'.join(lines).encode() + b'\n'


def _publish(server, files=FILES):
  for path, data in files.items():
    server.content['/files/' + path] = data
  server.content['/files/SHA256SUMS.txt'] = _sums(files)
  return download.Collection('things-1.0', server.url + '/files/')


def _zip(files, top='things-of-some-title-1.0/'):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
    for path, data in files.items():
      archive.writestr(top + path, data)
  return buffer.getvalue()


def _publish_archive(server, archive, files=FILES, max_bytes=10**6):
  server.content['/files/SHA256SUMS.txt'] = _sums(files)
  server.content['/zip/'] = archive
  return download.Collection(
    'things-1.0', server.url + '/files/', server.url + '/zip/', max_bytes
  )


def _tree(folder):
  found = {}
  for path, _, names in os.walk(folder):
    for name in names:
      file = os.path.join(path, name)
      with open(file, 'rb') as stream:
        found[os.path.relpath(file, folder)] = stream.read()
  return found


def test_single_files(server, tmp_path):
  collection = _publish(server)
  folder = download.fetch(collection, str(tmp_path))
  assert folder == str(tmp_path / 'things-1.0')
  assert _tree(folder) == FILES
  assert os.listdir(tmp_path) == ['things-1.0']  # nothing half-done beside it
  assert server.asked[0] == '/files/SHA256SUMS.txt'
  del server.asked[:]
  download.fetch(collection, str(tmp_path))
  assert server.asked == ['/files/SHA256SUMS.txt']  # what is there, stays


def test_only_the_folders_asked_for(server, tmp_path):
  collection = _publish(server)
  folder = download.fetch(collection, str(tmp_path), ['training/b/'])
  assert set(_tree(folder)) == {'training/b/B 1.hea', 'training/b/B 1.mat'}
  download.fetch(collection, str(tmp_path), ['training/a/'])
  assert len(_tree(folder)) == 4


@pytest.mark.parametrize('fault', ['other bytes', 'longer', 'broken off'])
def test_a_fault_that_goes_away(fault, server, tmp_path):
  collection = _publish(server)
  path = '/files/training/a/A1.mat'
  server.faults[path] = [fault, fault]
  folder = download.fetch(collection, str(tmp_path))
  assert _tree(folder) == FILES and server.asked.count(path) == 3
  assert os.listdir(tmp_path) == ['things-1.0']


@pytest.mark.parametrize(
  'fault, message',
  [
    ('other bytes', 'training/a/A1.mat has not the sum'),
    ('longer', 'training/a/A1.mat has not the sum'),
    ('shorter', 'training/a/A1.mat has not the sum'),
    ('broken off', 'IncompleteRead'),
  ],
)
def test_a_fault_that_stays(fault, message, server, tmp_path):
  collection = _publish(server)
  server.faults['/files/training/a/A1.mat'] = [fault] * 9
  with pytest.raises(download.DownloadFailed, match=message) as error:
    download.fetch(collection, str(tmp_path))
  assert '\n' not in str(error.value)
  # Never under its name, in no state.
  assert 'training/a/A1.mat' not in _tree(tmp_path / 'things-1.0')
  # And the next try goes on from there.
  server.faults.clear()
  del server.asked[:]
  assert _tree(download.fetch(collection, str(tmp_path))) == FILES
  assert '/files/training/a/A1.mat' in server.asked
  assert '/files/RECORDS' not in server.asked


def test_a_file_that_is_not_there(server, tmp_path):
  collection = _publish(server)
  del server.content['/files/RECORDS']
  with pytest.raises(download.DownloadFailed, match='RECORDS.*404'):
    download.fetch(collection, str(tmp_path))


def test_archive(server, tmp_path):
  files = {'../evil': b'1', '/evil': b'2', 'unlisted': b'3'}
  archive = _zip(FILES | files, '')
  inside = str(tmp_path / 'a' / 'b')
  folder = download.fetch(_publish_archive(server, archive), inside)
  # Listed files only: nothing outside, nothing unknown.
  assert _tree(folder) == FILES
  assert os.listdir(inside) == ['things-1.0']
  assert _tree(tmp_path) == {f'a/b/things-1.0/{k}': FILES[k] for k in FILES}
  del server.asked[:]
  download.fetch(_publish_archive(server, archive), inside)
  assert server.asked == []


def test_archive_with_a_top_folder(server, tmp_path):
  server.faults['/zip/'] = ['other bytes', 'broken off']
  collection = _publish_archive(server, _zip(FILES))
  assert _tree(download.fetch(collection, str(tmp_path))) == FILES
  assert server.asked.count('/zip/') == 3


@pytest.mark.parametrize(
  'archive, message',
  [
    (_zip(FILES | {'RECORDS': b'other'}), 'RECORDS has not the sum'),
    (_zip({k: v for k, v in FILES.items() if k != 'RECORDS'}), 'lacks RECORDS'),
    (b'no archive', 'not a zip file'),
    (_zip(FILES)[:-30], 'not a zip file'),
  ],
)
def test_wrong_archives(archive, message, server, tmp_path):
  collection = _publish_archive(server, archive)
  with pytest.raises(download.DownloadFailed, match=message):
    download.fetch(collection, str(tmp_path))
  assert not (tmp_path / 'things-1.0').exists()
  assert server.asked.count('/zip/') == 3


def test_an_archive_that_unpacks_to_too_much(server, tmp_path):
  bomb = _zip(FILES | {'zeros': bytes(3_000_000)})
  assert len(bomb) < 10_000
  collection = _publish_archive(server, bomb, max_bytes=1_000_000)
  with pytest.raises(download.DownloadFailed, match='would unpack to 30102'):
    download.fetch(collection, str(tmp_path))
  assert not (tmp_path / 'things-1.0').exists()
  assert sum(len(data) for data in _tree(tmp_path).values()) < 10_000


@pytest.mark.parametrize(
  'path', ['../x', '/etc/x', 'a/../../x', 'a//x', 'a\\x', 'C:x', './x']
)
def test_unsafe_paths_in_the_list(path, server, tmp_path):
  collection = _publish(server, {path: b'x'})
  with pytest.raises(download.DownloadFailed, match='unsafe path'):
    download.fetch(collection, str(tmp_path))
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('text', ['', '<html>sorry</html>\n', 'ab12 file\n'])
def test_what_is_no_list(text, server, tmp_path):
  collection = _publish(server)
  server.content['/files/SHA256SUMS.txt'] = text.encode()
  with pytest.raises(download.DownloadFailed, match='SHA256SUMS.txt'):
    download.fetch(collection, str(tmp_path))


def test_prepare_downloads_and_builds(server, tmp_path, capsys, monkeypatch):
  raw = tmp_path / 'raw'
  rows = [raw_corpora.ptbxl_row(number) for number in range(1, 21)]
  raw_corpora.write_ptbxl(raw, rows)
  files = _tree(raw)
  collection = _publish_archive(server, _zip(files), files, 10**7)
  monkeypatch.setattr(download, 'PTBXL', collection)
  data = tmp_path / 'data'
  flags = ['--dataset=ptbxl', f'--data_dir={data}']
  assert prepare.run(flags) == 0
  assert 'records    20 of 10 patients' in capsys.readouterr().out
  assert _tree(data / 'downloads' / 'things-1.0') == files
  # The downloaded folder serves other rates, without the server.
  server.content.clear()
  assert prepare.run([*flags, '--rate=50']) == 0


def test_prepare_without_a_network(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(download, '_PAUSE', 0)
  nobody = download.Collection('things-1.0', 'http://127.0.0.1:9/files/')
  monkeypatch.setattr(download, 'CINC2021', nobody)
  data = tmp_path / 'data'
  with pytest.raises(ValueError) as error:
    prepare.run(['--dataset=cinc2021', f'--data_dir={data}'])
  assert str(error.value).startswith(
    'cannot fetch http://127.0.0.1:9/files/SHA256SUMS.txt: '
  )
  assert str(error.value).endswith('; give a local copy with raw_dir')
  assert '\n' not in str(error.value) and not data.exists()
