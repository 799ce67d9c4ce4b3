"""From a raw recording to what is stored: checked, resampled, cut or padded.

Free of TensorFlow, so that worker processes start fast. A record is converted
without looking at any other, so one worker and many give the same data.
"""

import collections
import concurrent.futures
import contextlib
import fractions
import functools
import hashlib
import itertools
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.data.raw import validate
from ecgjax.data.store import build_report
from ecgjax.ecg import leads, resample
from ecgjax.ecg.recording import BadRecord, Recording
from ecgjax.formats import wfdb

SECONDS = 10  # length of every stored ECG
_LARGEST = 32767  # int16 without the value that means "missing"
_HASHED_SAMPLES = 1000
_GAIN = 1000  # units per millivolt of tracings that were computed
_FILTER_REACH = 10  # samples at the lower of two rates
_CHUNK = 16  # records per task of a worker
_CHUNKS_AHEAD = 32  # bounds the memory of results that wait for their turn


class Job(NamedTuple):
  """What a worker needs.

  Attributes:
    path: path of the record, relative to the raw folder, as `read` expects it.
    rules: what the corpus promises of it.
    read: (path, root) -> `recording.Recording`; a function of a module, so that
      a worker process finds it.
  """

  path: str
  rules: validate.Rules
  read: Callable = wfdb.read_wfdb


class Converted(NamedTuple):
  """An accepted record. T = rate * SECONDS; leads in `leads.LEADS` order.

  Attributes:
    ecg: [T, 12] int16, units of the recorder.
    gain: [12] float32, units per millivolt.
    baseline: [12] float32, units at zero millivolts.
    lead_mask: [12] bool, True where the lead was recorded.
    valid_len: samples recorded, from `valid_start` on; the rest is padding at
      zero millivolts.
    cut: whether later samples were cut off.
    residual: limb-lead residual, microvolts.
    content_hash: hex sha256 of the native signal, see `content_hash`.
    checksum_checked: whether the file gave checksums.
    comments: the header's comment lines.
    valid_start: first sample that is used; before it, a recorder settles.
    remarks: keys of `validate.REMARKS`.
  """

  ecg: np.ndarray
  gain: np.ndarray
  baseline: np.ndarray
  lead_mask: np.ndarray
  valid_len: int
  cut: bool
  residual: float
  content_hash: str
  checksum_checked: bool
  comments: tuple[str, ...]
  valid_start: int = 0
  remarks: tuple[str, ...] = ()


@functools.lru_cache(maxsize=64)
def parse_rate(rate: float | str) -> fractions.Fraction:
  """Sampling rate in Hz as an exact fraction, e.g. '204.8' to 1024/5.

  Raises:
    ValueError: if it is not between 10 and 10,000 Hz, or has more than three
      decimals.
  """
  try:
    value = fractions.Fraction(str(rate))
  except (ValueError, ZeroDivisionError):
    value = fractions.Fraction(0)
  if not 10 <= value <= 10_000 or 1000 % value.denominator:
    raise ValueError(
      f'rate is {rate!r}; expected Hz between 10 and 10000 with at most three '
      'decimals, e.g. 100 or 204.8'
    )
  return value


def stored_length(rate: float | str) -> int:
  """Samples per lead of a stored ECG."""
  return round(parse_rate(rate) * SECONDS)


def content_hash(recording: Recording) -> str:
  """Hash that finds the same signal in another corpus or split.

  Over int16 microvolts in the order of `leads.LEADS`, first 1000 samples at
  the native rate.
  """
  head = recording.samples[:_HASHED_SAMPLES].astype(np.float64)
  microvolts = (head - recording.baseline) / recording.gain * 1000
  head = np.clip(np.rint(microvolts), -_LARGEST, _LARGEST)
  return hashlib.sha256(head.astype('<i2').tobytes()).hexdigest()


def shorten(recording: Recording, rate: float) -> tuple[Recording, bool]:
  """First `SECONDS` of a recording at another rate.

  Args:
    recording: the recording as it was read.
    rate: Hz.

  Returns:
    The recording with at most rate * `SECONDS` samples, and whether samples
    were cut off.
  """
  up, down = resample.ratio(recording.rate, rate)
  length, available = stored_length(rate), len(recording.samples)
  # Some more than wanted, for the filter to reach beyond the cut.
  reach = _FILTER_REACH * max(up, down) // up + 1
  needed = math.ceil(length * down / up) + reach
  # No sample is missing here; the value that says so is a limiter's.
  samples = np.maximum(recording.samples[:needed], -_LARGEST)
  part = recording._replace(samples=samples)
  part = resample.resample(part, rate)
  part = part._replace(samples=part.samples[:length])
  return part, available * up > length * down


def convert_chunk(
  chunk: Sequence[tuple[Job, str]], root: str, rate: float | str
) -> list[Converted | build_report.Rejection]:
  """Reads, checks and converts records; they are checked together.

  Args:
    chunk: which records, and their ids for the list of rejections.
    root: the raw folder.
    rate: Hz of the stored signal.
  """
  found = []
  for job, _ in chunk:
    try:
      found.append(job.read(job.path, root))
    except BadRecord as error:
      found.append(error)
  whole = [k for k, f in enumerate(found) if isinstance(f, Recording)]
  verdicts = validate.check_all(
    [found[k] for k in whole], [chunk[k][0].rules for k in whole]
  )
  verdicts = dict(zip(whole, verdicts))
  results = []
  for k, (job, record) in enumerate(chunk):
    verdict = verdicts.get(k, found[k])
    if isinstance(verdict, BadRecord):
      file = verdict.file or job.path
      results.append(
        build_report.Rejection(record, file, verdict.reason, verdict.detail)
      )
    else:
      results.append(_store(found[k], verdict, rate))
  return results


def start_at(recording, accepted: validate.Accepted, rate: float) -> int:
  """The first sample to be used, at another sampling rate."""
  return math.ceil(accepted.start * float(rate) / recording.rate)


def _store(recording, accepted, rate: float | str) -> Converted:
  """A checked recording as it is stored."""
  part, cut = shorten(recording, float(rate))
  columns = list(leads.indices(part.leads))
  gain = np.ones(12, np.float32)
  baseline = np.zeros(12, np.float32)
  gain[columns], baseline[columns] = part.gain, part.baseline
  lead_mask = np.zeros(12, bool)
  lead_mask[columns] = True
  ecg = np.empty((stored_length(rate), 12), np.int16)
  ecg[:] = np.rint(np.clip(baseline, -_LARGEST, _LARGEST))  # the padding
  ecg[: len(part.samples), columns] = part.samples
  start = start_at(recording, accepted, rate)
  return Converted(
    ecg,
    gain,
    baseline,
    lead_mask,
    len(part.samples) - start,
    cut,
    accepted.residual,
    content_hash(recording),
    recording.checksum_checked,
    recording.comments,
    start,
    accepted.remarks,
  )


def from_millivolts(ecg: np.ndarray) -> Converted:
  """What is stored of a tracing that was computed: [T, 12] millivolts."""
  units = np.rint(np.clip(ecg * _GAIN, -_LARGEST, _LARGEST)).astype(np.int16)
  residual = leads.limb_residual(np, units.astype(np.float64))
  return Converted(
    ecg=units,
    gain=np.full(12, _GAIN, np.float32),
    baseline=np.zeros(12, np.float32),
    lead_mask=np.ones(12, bool),
    valid_len=len(units),
    cut=False,
    residual=float(np.percentile(residual, 95)),
    content_hash=hashlib.sha256(
      units[:_HASHED_SAMPLES].astype('<i2').tobytes()
    ).hexdigest(),
    checksum_checked=True,
    comments=(),
  )


def _start_worker():
  """Ties a worker to its parent, which alone decides when to stop."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def wait():  # when the parent is killed: it would wait for work for ever
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def pool(workers: int):
  """A pool of worker processes; None for one worker, which is this process."""
  if workers < 2:
    yield None
    return
  executor = concurrent.futures.ProcessPoolExecutor(
    workers,
    # Forking a process with TensorFlow's threads can deadlock.
    multiprocessing.get_context('spawn'),
    _start_worker,
  )
  try:
    yield executor
  finally:
    executor.shutdown(cancel_futures=True)


def convert_all(
  jobs: Iterable[tuple[Job, str]], root: str, rate: float | str, executor=None
) -> Iterator[Converted | build_report.Rejection]:
  """Converts (job, record id) pairs; results come in the order of the jobs."""
  work = functools.partial(convert_chunk, root=root, rate=rate)
  jobs = iter(jobs)
  chunks = iter(lambda: list(itertools.islice(jobs, _CHUNK)), [])
  if executor is None:
    for chunk in chunks:
      yield from work(chunk)
    return
  waiting = collections.deque()
  for chunk in chunks:
    waiting.append(executor.submit(work, chunk))
    if len(waiting) >= _CHUNKS_AHEAD:
      yield from waiting.popleft().result()
  for future in waiting:
    yield from future.result()
