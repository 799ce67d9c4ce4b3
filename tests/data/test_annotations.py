"""Annotations of publishers' files as other programs rewrite them."""

import gzip

import numpy as np
import pytest

from ecgjax.data.store import builder as builder_lib
from ecgjax.data.store import labels, prepared


def test_no_diagnosis_is_not_none_of_68():
  """Dx lines as scripts write them, through the builder."""
  lines = {
    'known': ['Dx: 426783006'],
    'unknown': ['Dx: Unknown'],
    'nan': ['Dx: NaN'],
    'zero': ['Dx: 0'],
    'absent': ['Rx: none'],
    'foreign': ['Dx: 12345678'],
    'blank': ['Dx: 426783006 164889003'],
    'semicolon': ['Dx: 426783006;164889003'],
    'brackets': ["Dx: ['426783006', '164889003']"],
    'float': ['Dx: 426783006.0,164889003.0'],
    'two': ['Dx: 426783006', 'Dx: 164889003'],
    'partly': ['Dx: 426783006,oops'],
  }
  names = labels.snomed_names()
  builder = prepared.make_builder('cinc2021', '', 100)
  entry = builder_lib.Entry('r', 'r', 'train', 'georgia')
  found = {k: builder.annotate(entry, v) for k, v in lines.items()}
  stated = {
    k: {names[i] for i in np.flatnonzero(e.labels[0])} for k, e in found.items()
  }
  masks = {k: int(e.labels[1].sum()) for k, e in found.items()}
  for name in ('unknown', 'nan', 'zero', 'absent'):
    assert stated[name] == set() and masks[name] == 0, name
  assert stated['foreign'] == {labels.UNKNOWN_CODE} and masks['foreign'] == 1
  assert found['foreign'].unread == ('code 12345678',)
  for name in ('blank', 'semicolon', 'brackets', 'float', 'two'):
    assert stated[name] == {'426783006', '164889003'}, name
    assert masks[name] == masks['known'] > 60, name
  assert masks['partly'] == 2 and 'code oops' in found['partly'].unread


def plan_of_mimic(folder, machine: bytes, name='machine_measurements.csv'):
  rows = ''.join(f'9,4000{k},,,files/4000{k}\n' for k in range(4))
  (folder / 'record_list.csv').write_text(
    'subject_id,study_id,file_name,ecg_time,path\n' + rows
  )
  (folder / name).write_bytes(machine)
  builder = prepared.make_builder('mimic_iv_ecg', '', 100)
  return builder.checked_plan(str(folder))


QUOTED = b'"subject_id","study_id","report_0"\n' + b''.join(
  b'"9","4000%d.0","Atrial fibrillation"\n' % k for k in range(3)
)


@pytest.mark.parametrize('zipped', [False, True])
def test_quoted_titles_and_a_gzipped_table(zipped, tmp_path):
  name = 'machine_measurements.csv' + '.gz' * zipped
  content = gzip.compress(QUOTED) if zipped else QUOTED
  plan = plan_of_mimic(tmp_path, content, name)
  bits = [entry.labels[0].tolist() for entry in plan.entries]
  assert bits == [[1, 0, 0, 0, 0]] * 3 + [[0] * 5]
  assert not plan.entries[3].labels[1].any()  # no report
  counts = plan.joined[0].counts()
  assert (counts['matched'], counts['records_without_row']) == (3, 1)
  assert plan.notes == {'reports with a statement about a class': 3}


@pytest.mark.parametrize(
  ('machine', 'message'),
  [
    (b'study_id,text\n40000,AF\n', 'no column report_0'),
    (b'study_id,report_0\n7,AF\n', "row is '7', the first record is '40000'"),
    (b'study_id,report_0\n40000,AF\n40000,AF\n', "'40000' occurs twice"),
  ],
)
def test_a_table_that_gives_no_labels_is_refused(machine, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    plan_of_mimic(tmp_path, machine)
