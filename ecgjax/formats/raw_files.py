"""Files of a raw folder: paths that stay inside, sizes known before reading."""

import functools
import os
import stat

from ecgjax.ecg.recording import BadRecord

# A build reads thousands of files of one folder.
_real = functools.lru_cache(maxsize=4096)(os.path.realpath)


def confine(path: str, root: str) -> str:
  """Resolves a path from a table or header and keeps it under the raw folder.

  Links among the folders are followed once per process; the last part may
  still be a link, which `open_regular` follows.

  Args:
    path: absolute, or relative to `root`.
    root: the raw folder.

  Returns:
    An absolute path whose folder has no links.

  Raises:
    BadRecord: `outside_root`.
  """
  root = os.path.abspath(root)
  folder, name = os.path.split(os.path.abspath(os.path.join(root, path)))
  if '\0' in path or not _inside(_real(folder), _real(root)) or not name:
    raise BadRecord('outside_root', f'{path!r} leaves the raw folder')
  return os.path.join(_real(folder), name)


def _inside(path: str, root: str) -> bool:
  return path == root or path.startswith(os.path.join(root, ''))


def require_plain(name: str):
  """Raises `outside_root` unless a header names plain files of its folder.

  Raises:
    BadRecord: `outside_root`.
  """
  if '/' in name or '\\' in name or name in ('.', '..'):
    raise BadRecord('outside_root', f'the header names a path: {name!r}')


def open_regular(path: str, root: str, absent: str) -> tuple[int, int]:
  """Opens a regular file under `root`.

  Args:
    path: in a folder that `confine` returned.
    root: the raw folder.
    absent: reason code if there is no such file.

  Returns:
    (descriptor, size in bytes).

  Raises:
    BadRecord: `outside_root`, `unreadable` or the reason `absent`.
  """
  try:
    if os.path.islink(path):
      path = os.path.realpath(path)
      if not _inside(path, os.path.realpath(root)):
        raise BadRecord('outside_root', 'a link leaves the raw folder')
    # Not blocking, so that a named pipe cannot hold us up.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
  except FileNotFoundError:
    raise BadRecord(absent, f'no file {os.path.basename(path)}') from None
  except OSError as error:
    raise BadRecord('unreadable', str(error.strerror)) from None
  status = os.fstat(descriptor)
  if not stat.S_ISREG(status.st_mode):
    os.close(descriptor)
    raise BadRecord('unreadable', 'not a regular file')
  return descriptor, status.st_size


def check_size(size: int, least: int, most: int):
  """Raises `short_file` or `long_file` unless least <= size <= most (bytes)."""
  if not least <= size <= most:
    raise BadRecord(
      'short_file' if size < least else 'long_file',
      f'{size} bytes, {least} expected',
    )


def read(path: str, root: str, absent: str, least: int, most: int) -> bytes:
  """Reads a file of `least` to `most` bytes, see `open_regular`."""
  descriptor, size = open_regular(path, root, absent)
  try:
    check_size(size, least, most)
    return os.read(descriptor, size)
  finally:
    os.close(descriptor)
