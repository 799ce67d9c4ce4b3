"""Rows of a table joined to records: matched where that is unique, counted.

Tables are written by programs that know nothing of the records' folder: Excel
trims zeros, pandas adds '.0', Windows writes back-slashes, and paths begin
where the table's author stood.
"""

import collections
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from ecgjax.formats import cells

TABLE = '_csv'  # how the names of options end that name tables
_SUFFIX = re.compile(
  r'\.(hea|dat|mat|atr|csv|xml|txt|edf|npy|hdf5|gz)$', re.IGNORECASE
)


class Join(NamedTuple):
  """A table joined to records.

  Attributes:
    records: row id -> record id, of the rows that have a record.
    table: name of the table.
    rows_alone: ids of the rows without a record, as written.
    records_alone: number of records without a row.
  """

  records: dict[str, str]
  table: str
  rows_alone: tuple[str, ...]
  records_alone: int

  def counts(self) -> dict:
    """What the report keeps."""
    return {
      'table': self.table,
      'matched': len(self.records),
      'rows_without_record': len(self.rows_alone),
      'records_without_row': self.records_alone,
      'first_row_without_record': next(iter(self.rows_alone), ''),
    }


def join(path: str, rows: Iterable[str], records: Iterable[str]) -> Join:
  """Joins the rows of a table to records, by id.

  A row fits a record whose id is the same; else one whose path ends as the
  row's does, or the other way round; else one that differs by suffix, by
  '.0', by leading zeros or by case. The first of these steps that finds a
  record must find one only.

  Args:
    path: of the table.
    rows: ids as the table writes them.
    records: ids of all records, with '/' between folders.

  Raises:
    ValueError: if a row may be several records, two rows are one record, or
      no row fits any record; names a row and a record.
  """
  rows, records = list(rows), sorted(set(records))
  if not rows:
    raise ValueError(f'{path}: the table has no rows')
  exact = {normal(record): record for record in records}
  steps = [(form, _by_name(form, records)) for form in (_plain, cells.loose)]
  found, alone, taken = {}, [], {}
  for row in rows:
    record = exact.get(normal(row)) or _look_up(row, steps, path)
    if record is None:
      alone.append(row)
      continue
    if record in taken:
      raise ValueError(
        f'{path}: two rows for record {record!r}, {taken[record]!r} and {row!r}'
      )
    found[row], taken[record] = record, row
  if not found and records:
    raise ValueError(
      f'{path}: none of {len(rows)} rows fits one of {len(records)} records; '
      f'the first row is {rows[0]!r}, the first record is {records[0]!r}'
    )
  return Join(
    found, os.path.basename(path), tuple(alone), len(records) - len(found)
  )


def normal(text: str) -> str:
  """An id with '/' between folders, without '.', '..' within and '.hea'."""
  text = unicodedata.normalize('NFC', text.strip()).replace('\\', '/')
  return os.path.normpath(text).removesuffix('.hea')


def _plain(name: str) -> str:
  return cells.identifier(_SUFFIX.sub('', name))


def _by_name(form, records) -> dict[str, list[tuple[str, list[str]]]]:
  """Form of the file name -> (record, forms of its folders and name)."""
  found = collections.defaultdict(list)
  for record in records:
    parts = _parts(form, record)
    found[parts[-1]].append((record, parts))
  return found


def _parts(form, text: str) -> list[str]:
  *folders, name = normal(text).split('/')
  folders = [f if f == '..' else form(f) for f in folders]
  return [*folders, form(_SUFFIX.sub('', name))]


def _look_up(row: str, steps, path: str) -> str | None:
  for form, by_name in steps:
    parts = _parts(form, row)
    fits = []
    for record, others in by_name.get(parts[-1], ()):
      common = min(len(parts), len(others))
      if parts[-common:] == others[-common:]:
        fits.append((common, record))
    # The one that agrees in most folders.
    best = [r for common, r in fits if common == max(fits)[0]]
    if len(best) > 1:
      raise ValueError(f'{path}: record {row!r} may be {" or ".join(best[:2])}')
    if best:
      return best[0]
  return None


def one_form(path: str, column: str, ids: Iterable[str]):
  """Refuses ids of a column that differ by zeros, case or blanks alone.

  Raises:
    ValueError: naming two of them.
  """
  forms = {}
  for name in sorted(set(ids)):
    other = forms.setdefault(cells.loose(name), name)
    if other != name:
      raise ValueError(
        f'{path}: column {column} has {other!r} and {name!r}; write one id in '
        'one way'
      )


def expand_home(options: dict[str, Any]) -> dict[str, Any]:
  """The options of a data set, with the home folder for '~' in tables."""
  return {
    name: os.path.expanduser(value) if name.endswith(TABLE) else value
    for name, value in options.items()
  }


def table_hashes(options: dict[str, Any]) -> dict[str, str]:
  """Option -> sha256 of the table that it names.

  Args:
    options: of a data set, those that name tables among them.

  Raises:
    ValueError: naming the option, if the table cannot be read.
  """
  found = {}
  for name, path in options.items():
    if name.endswith(TABLE):
      try:
        with open(path, 'rb') as file:
          found[name] = hashlib.file_digest(file, 'sha256').hexdigest()
      except OSError as error:
        raise ValueError(
          f'{name}: cannot read {path}: {error.strerror}'
        ) from None
  return found
