"""Verified downloads from PhysioNet, on TFDS's download manager.

Every PhysioNet collection lists its files in `SHA256SUMS.txt`. That list is
fetched first; a file enters the raw folder only when its bytes have the sum
that the list gives, and by a rename, so that what is there is complete and
right. A collection comes as one archive where it has one, else file by file;
an interrupted download goes on where it stopped (an archive starts again).
"""

import hashlib
import os
import pathlib
import re
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import tqdm

SUMS = 'SHA256SUMS.txt'
_ATTEMPTS = 3
_PAUSE = 1.0  # seconds before the second attempt; longer before the third
_TIMEOUT = 30  # seconds
_BATCH = 256  # files per call of the download manager
_MAX_SUMS_BYTES = 64 << 20  # the list of 200,000 files has 25 MB
# 'sum  path' as sha256sum writes it, or 'sum path'.
_LINE = re.compile(r'([0-9a-f]{64}) [ *]?(.+)')


class Collection(NamedTuple):
  """A PhysioNet project.

  Attributes:
    name: name of the raw folder.
    files: URL of its file tree, ending in '/'.
    archive: URL of a zip archive of everything; '' if there is none.
    max_bytes: more than this is not unpacked.
  """

  name: str
  files: str
  archive: str = ''
  max_bytes: int = 0


PTBXL = Collection(
  'ptb-xl-1.0.3',
  'https://physionet.org/files/ptb-xl/1.0.3/',
  'https://physionet.org/content/ptb-xl/get-zip/1.0.3/',
  8 << 30,  # unpacked it has 3.0 GB
)
# Has no archive.
CINC2021 = Collection(
  'challenge-2021-1.0.3', 'https://physionet.org/files/challenge-2021/1.0.3/'
)


class DownloadFailed(ValueError):
  """One line for the user: what could not be fetched and what to do."""


def fetch(
  collection: Collection,
  download_dir: str,
  folders: Sequence[str] = ('',),
) -> str:
  """Downloads a collection, or what is missing of it.

  Args:
    collection: what to fetch.
    download_dir: raw folders of all collections lie here.
    folders: prefixes of the wanted paths (ignored for an archive, which is
      always complete).

  Returns:
    The raw folder.

  Raises:
    DownloadFailed: if the server cannot be reached, or sends other bytes than
      its list says.
  """
  folder = pathlib.Path(download_dir, collection.name)
  if collection.archive and folder.exists():
    return str(folder)  # it appears by a rename when it is complete
  part = pathlib.Path(download_dir, collection.name + '.part')
  sums = parse_sums(_fetch_sums(collection.files + SUMS))
  part.mkdir(parents=True, exist_ok=True)
  for left_over in part.glob('*.tmp.*'):
    shutil.rmtree(left_over, ignore_errors=True)
  if collection.archive:
    _fetch_archive(collection, sums, part, folder)
  else:
    wanted = {
      path: digest
      for path, digest in sums.items()
      if path.startswith(tuple(folders)) and not (folder / path).exists()
    }
    _fetch_files(collection, wanted, part, folder)
  shutil.rmtree(part, ignore_errors=True)
  return str(folder)


def parse_sums(text: str) -> dict[str, str]:
  """`SHA256SUMS.txt` as path -> hex digest.

  Raises:
    DownloadFailed: if it is no such list, or a path leaves the folder.
  """
  sums = {}
  for line in text.splitlines():
    match = _LINE.fullmatch(line)
    if not match:
      raise DownloadFailed(f'{SUMS} has the line {line[:80]!r}')
    path = match[2]
    parts = path.split('/')
    if '\\' in path or ':' in path or not {'', '.', '..'}.isdisjoint(parts):
      raise DownloadFailed(f'{SUMS} names the unsafe path {path[:80]!r}')
    sums[path] = match[1]
  if not sums:
    raise DownloadFailed(f'{SUMS} is empty')
  return sums


def _fetch_sums(url: str) -> str:
  """The list itself, without the download manager: offline, that one would
  try for minutes."""
  for attempt in range(_ATTEMPTS):
    time.sleep(attempt * _PAUSE)
    try:
      with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        data = response.read(_MAX_SUMS_BYTES)
      return data.decode()
    except (OSError, ValueError) as error:  # URLError is an OSError
      reason = getattr(error, 'reason', error)
  raise DownloadFailed(
    f'cannot fetch {url}: {reason}; give a local copy with raw_dir'
  )


def _download(urls: dict[str, str], part: pathlib.Path):
  """{path: url} to {path: downloaded file}, through TFDS.

  After a failure the other files of the call go on arriving in the
  background; the next call finds or repeats them.
  """
  import tensorflow_datasets as tfds

  # A new manager each time: it remembers failures. Its bar shows bytes, which
  # says something about one large file only.
  manager = tfds.download.DownloadManager(download_dir=part)
  tfds.display_progress_bar(len(urls) == 1)
  try:
    return manager.download(urls)
  except (OSError, tfds.core.download.DownloadError) as error:
    raise _Retry(str(error)) from error
  finally:
    tfds.enable_progress_bar()


class _Retry(Exception):
  """This attempt failed; its message says why."""


def _attempts(what: str, work):
  """Calls work() until it does not raise `_Retry`."""
  for attempt in range(_ATTEMPTS):
    time.sleep(attempt * _PAUSE)
    try:
      return work()
    except _Retry as error:
      reason = ' '.join(str(error).split())
  raise DownloadFailed(f'cannot download {what}: {reason}')


def _discard(path: pathlib.Path):
  """Removes a downloaded file and what TFDS notes beside it."""
  path.unlink(missing_ok=True)
  path.with_name(path.name + '.INFO').unlink(missing_ok=True)


def _digest(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _fetch_files(collection, wanted, part, folder):
  """Downloads single files into the raw folder."""
  paths = sorted(wanted)
  with tqdm.tqdm(
    total=len(paths), desc=f'download {collection.name}', unit='file'
  ) as progress:
    for start in range(0, len(paths), _BATCH):
      missing = dict.fromkeys(paths[start : start + _BATCH])

      def batch(missing=missing):
        urls = {
          path: collection.files + urllib.request.quote(path)
          for path in missing
        }
        wrong = ''
        for path, file in _download(urls, part).items():
          file = pathlib.Path(file)
          if _digest(file) != wanted[path]:
            _discard(file)
            wrong = path
            continue
          target = folder / path
          target.parent.mkdir(parents=True, exist_ok=True)
          os.replace(file, target)
          del missing[path]
          progress.update()
        if wrong:
          raise _Retry(f'{wrong} has not the sum of {SUMS}')

      _attempts(f'{collection.files} ({len(wanted)} files)', batch)


def _fetch_archive(collection, sums, part, folder):
  """Downloads the archive, unpacks and verifies it, then shows the folder."""
  unpacked = part / 'unpacked'

  def once():
    file = _download({'': collection.archive}, part)['']
    file = pathlib.Path(file)
    try:
      unpack(file, sums, unpacked, collection.max_bytes)
    except DownloadFailed:
      _discard(file)
      raise
    except (_Retry, zipfile.BadZipFile, EOFError, OSError) as error:
      _discard(file)
      raise _Retry(str(error)) from error

  _attempts(collection.archive, once)
  os.replace(unpacked, folder)


def unpack(
  archive: pathlib.Path,
  sums: dict[str, str],
  folder: pathlib.Path,
  max_bytes: int,
):
  """Unpacks the listed files of a zip archive and verifies each.

  Only paths of the list are written, so an archive cannot name a place
  outside the folder; a top folder that holds everything is left out.

  Args:
    archive: the zip file.
    sums: path -> hex sha256.
    folder: is replaced.
    max_bytes: refuse to unpack more.

  Raises:
    DownloadFailed: if the archive would unpack to more than `max_bytes`.
    _Retry: if a file is missing or has another sum.
  """
  shutil.rmtree(folder, ignore_errors=True)
  with zipfile.ZipFile(archive) as content:
    infos = {info.filename: info for info in content.infolist()}
    tops = {name.split('/')[0] for name in infos}
    top = f'{tops.pop()}/' if len(tops) == 1 else ''
    top = '' if set(sums) & set(infos) else top
    size = sum(info.file_size for info in infos.values())
    if size > max_bytes:
      raise DownloadFailed(
        f'{archive.name} would unpack to {size} bytes, more than {max_bytes}'
      )
    for path, expected in tqdm.tqdm(sums.items(), 'unpack', unit='file'):
      info = infos.get(top + path)
      if info is None:
        raise _Retry(f'the archive lacks {path}')
      target = folder / path
      target.parent.mkdir(parents=True, exist_ok=True)
      # zipfile stops at the size that was added up above.
      with content.open(info) as source, open(target, 'wb') as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
      if _digest(target) != expected:
        raise _Retry(f'{path} has not the sum of {SUMS}')
