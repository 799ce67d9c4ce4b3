"""Label tasks against the published counts and hand-worked cases."""

import numpy as np
import pytest

from ecgjax.data.store import labels

COUNTS = {row['code']: row for row in labels.snomed_codes()}


def _scp(task, *codes):
  """Classes of one PTB-XL record."""
  stored, mask = labels.encode_scp(codes)
  task = labels.make_task(task, labels.scp_names())
  label, mask = labels.apply(task, stored, mask)
  return {task.classes[i] for i in np.flatnonzero(label)}, mask


def _snomed(task, source, *codes):
  """Classes and mask of one CinC 2021 record."""
  task = labels.make_task(task, labels.snomed_names())
  label, mask = labels.apply(task, *labels.encode_snomed(codes, source))
  positive = {task.classes[i] for i in np.flatnonzero(label)}
  masked = {task.classes[i] for i in np.flatnonzero(mask == 0)}
  return positive, masked


@pytest.mark.parametrize(
  'task, classes',
  [('all', 71), ('diagnostic', 44), ('subclass', 23), ('superclass', 5),
   ('form', 19), ('rhythm', 12)],
)  # fmt: skip
def test_ptbxl_task_sizes(task, classes):
  made = labels.make_task(task, labels.scp_names())
  assert len(made.classes) == classes == len(set(made.classes))
  assert made.labelled_only == (task != 'all')
  # Every statement belongs to one class at most.
  assert made.positive.sum(axis=0).max() == 1


def test_a_subclass_contains_the_statement_of_its_name():
  # So that the rule "a stored label named like the class" changes nothing.
  rows = {row['code']: row for row in labels.scp_statements()}
  for name in labels.make_task('subclass', labels.scp_names()).classes:
    if name in rows:
      assert rows[name]['diagnostic_subclass'] == name


def test_superclasses_by_hand():
  assert _scp('superclass', 'NORM', 'SR')[0] == {'NORM'}
  assert _scp('superclass', 'IMI', 'LAFB', 'LVH')[0] == {'MI', 'CD', 'HYP'}
  assert _scp('superclass', 'INJAS')[0] == {'MI'}
  assert _scp('superclass', 'ISC_', 'DIG')[0] == {'STTC'}
  assert _scp('superclass', 'SR', 'PVC')[0] == set()
  assert _scp('rhythm', 'SR', 'PVC', 'NORM')[0] == {'SR'}
  assert _scp('form', 'SR', 'PVC', 'NDT')[0] == {'PVC', 'NDT'}


def test_superclasses_of_the_recordings(recordings):
  from ecgjax.data import ptbxl

  rows = ptbxl.read_table(str(recordings / 'ptbxl' / ptbxl.TABLE))
  stored = np.stack([labels.encode_scp(row['codes'])[0] for row in rows])
  task = labels.make_task('superclass', labels.scp_names())
  label, mask = labels.apply(task, stored, np.ones_like(stored))
  found = dict(zip(task.classes, label.sum(axis=0).astype(int).tolist()))
  # README of the recordings.
  expected = {'NORM': 1051, 'STTC': 467, 'CD': 410, 'MI': 370, 'HYP': 215}
  assert found == expected
  assert (~label.any(axis=1)).sum() == 22
  assert mask.all()


def test_scored_classes_are_the_challenges():
  task = labels.make_task('scored', labels.snomed_names())
  assert len(task.classes) == 26
  assert task.classes.count('CLBBB|LBBB') == 1
  for codes in labels.MERGED:
    seen = [_snomed('scored', 'ningbo', code)[0] for code in codes]
    assert seen[0] == seen[1] and len(seen[0]) == 1
  assert _snomed('scored', 'georgia', '164884008')[0] == set()


def test_cpsc9_has_the_published_counts():
  # Any-label counts of CPSC2018, as its authors publish them.
  published = {
    'N': 918, 'AF': 1221, 'IAVB': 722, 'LBBB': 236, 'RBBB': 1857, 'PAC': 616,
    'PVC': 700, 'STD': 869, 'STE': 220,
  }  # fmt: skip
  for name, codes in labels.CPSC9.items():
    found = sum(int(COUNTS[code]['cpsc_2018']) for code in codes)
    assert found == published[name]


def test_chapman4_covers_its_source():
  # 10,646 records minus those without a rhythm; sinus rhythms dominate.
  total = {
    name: sum(int(COUNTS[c]['chapman_shaoxing']) for c in codes if c in COUNTS)
    for name, codes in labels.CHAPMAN4.items()
  }
  assert total == {'AFIB': 2225, 'GSVT': 2307, 'SB': 3889, 'SR': 1826}
  stored = [row['code'] for row in labels.snomed_codes()]
  assert labels.make_task('chapman4', stored).labelled_only


def test_longitudinal_counts():
  # Totals over all sources, from the challenge's mapping.
  def total(task):
    codes = labels.LONGITUDINAL[task][0]
    rows = [COUNTS[code] for code in codes if code in COUNTS]
    numbers = [row[s] for row in rows for s in row if s in SOURCES]
    return sum(map(int, numbers))

  names = list(labels.snomed_codes()[0])
  SOURCES = names[names.index('description') + 1 :]
  assert total('AF') == 5255
  assert total('AFL') == 8374
  assert total('1AVB') == 3534
  assert total('MI') == 6144 + 55 + 473 + 1168


def test_longitudinal_by_hand():
  everything, mask = _scp('longitudinal', 'AFIB', 'PVC', 'INJAS')
  assert everything == {'AF', 'premature', 'MI'} and mask.all()
  assert _scp('MI_strict', 'INJAS')[1].tolist() == [0]
  assert _scp('MI_strict', 'INJAS', 'IMI') == ({'MI_strict'}, [1])
  # A long PR interval is neither a positive nor a clean negative.
  assert _scp('1AVB', 'LPR') == (set(), [0])
  assert _scp('1AVB', 'LPR', '1AVB') == ({'1AVB'}, [1])
  assert _scp('1AVB', 'SR') == (set(), [1])
  # PVCs of PTB-XL and CPSC carry the code that the challenge does not score.
  assert _snomed('premature', 'ptb-xl', '164884008')[0] == {'premature'}


def test_a_source_that_does_not_annotate_a_class_masks_it():
  positive, masked = _snomed('longitudinal', 'cpsc_2018', '164889003')
  assert positive == {'AF'}
  assert masked == {'AFL', 'MI'}  # CPSC has neither
  # Merged: Georgia has only one of the two codes of each pair.
  assert 'CRBBB|RBBB' not in _snomed('scored', 'georgia', labels.NSR)[1]


def test_pooled_flutter_of_ningbo():
  positive, masked = _snomed('longitudinal', 'ningbo', labels.AFL)
  assert positive == set() and {'AF', 'AFL'} <= masked
  assert _snomed('chapman4', 'ningbo', labels.AFL) == ({'AFIB'}, set())
  assert _snomed('scored', 'ningbo', labels.AFL)[0] == {'AFL'}
  assert _snomed('AFL', 'georgia', labels.AFL) == ({'AFL'}, set())


def test_normal_or_sinus_rhythm_of_ptbxl():
  nsr, brady = labels.NSR, '426177001'
  assert _snomed('scored', 'ptb-xl', nsr)[0] == {'NSR'}
  for code in (nsr, '164865005'):  # alone, or with an infarction
    found, masked = _snomed('cpsc9', 'ptb-xl', nsr, code)
    assert found == set() and 'N' in masked
  found, masked = _snomed('chapman4', 'ptb-xl', nsr)
  assert found == set() and masked == {'SR'}
  found, masked = _snomed('chapman4', 'ptb-xl', nsr, brady)
  assert found == {'SB'} and masked == {'SR'}
  assert _snomed('chapman4', 'ptb-xl', nsr, '427393009')[0] == {'SR'}


def test_normal_is_nothing_but_normal():
  nsr = labels.NSR
  found, masked = _snomed('cpsc9', 'cpsc_2018', nsr)
  assert found == {'N'} and not masked
  # With low voltages, an infarction, an unknown code or another class.
  for code in ('251146004', '164865005', '1', '59118001'):
    found, masked = _snomed('cpsc9', 'chapman_shaoxing', nsr, code)
    assert 'N' not in found and 'N' in masked
  assert found == {'RBBB'} and 'RBBB' not in masked


def test_groups_of_chapman_exclude_each_other():
  sinus = ('426783006', '427084000')  # sinus rhythm, sinus tachycardia
  found, masked = _snomed('chapman4', 'georgia', *sinus)
  assert found == set() and masked == {'GSVT', 'SR'}
  assert _snomed('chapman4', 'georgia', sinus[0], '427393009')[0] == {'SR'}


def test_a_label_that_is_set_was_annotated():
  for code in ('251146004', '427393009'):  # never in `ptb`, say the counts
    assert COUNTS[code]['ptb'] == '0'
    stored, mask = labels.encode_snomed([code], 'ptb')
    position = labels.snomed_names().index(code)
    assert stored[position] == mask[position] == 1
    assert not labels.encode_snomed([], 'ptb')[1][position]


def test_codes_of_real_headers(recordings):
  from ecgjax.formats import wfdb, wfdb_folder

  root = recordings / 'cinc2021' / 'training'
  names = labels.snomed_names()
  groups = {}
  for path in sorted(root.rglob('*.hea')):
    comments = wfdb.read_wfdb(path.with_suffix(''), str(root)).comments
    codes = wfdb_folder.header_fields(comments)['dx'].split(',')
    source = path.relative_to(root).parts[0]
    stored, mask = labels.encode_snomed(codes, source)
    assert (stored <= mask).all(), path.stem  # two of ten `ptb` had 1 and 0
    for name in ('cpsc9', 'chapman4'):
      task = labels.make_task(name, names)
      label, known = labels.apply(task, stored, mask)
      assert (label <= known).all()
      found = {task.classes[k] for k in np.flatnonzero(label)}
      groups[path.stem, name] = found
      assert name == 'cpsc9' or len(found) < 2, path.stem
  assert groups['HR00008', 'cpsc9'] == set()  # an infarction
  assert groups['HR00002', 'chapman4'] == {'SB'}
  assert groups['A0001', 'cpsc9'] == {'RBBB'}


def test_unknown_codes_and_empty_fields_do_not_stop_anything():
  stored, mask = labels.encode_snomed(
    ['', '251238007', '6180003', '426783006', '426783006'], 'chapman_shaoxing'
  )
  names = np.array(labels.snomed_names())
  assert set(names[stored == 1]) == {'426783006', labels.UNKNOWN_CODE}
  assert stored.dtype == mask.dtype == np.uint8
  with pytest.raises(ValueError, match="'XYZ' is not one of the 71"):
    labels.encode_scp(['XYZ'])


def test_own_labels():
  names = ['AF', 'STEMI', 'MI']
  task = labels.make_task('all', names)
  label, mask = labels.apply(
    task, np.array([[1, 0, 1]], np.uint8), np.array([[1, 0, 1]], np.uint8)
  )
  assert task.classes == ('AF', 'STEMI', 'MI')
  np.testing.assert_array_equal(label, [[1, 0, 1]])
  np.testing.assert_array_equal(mask, [[1, 0, 1]])
  assert labels.make_task('MI', names).positive.tolist() == [[0, 0, 1]]
  with pytest.raises(ValueError, match='needs AFL, premature, 1AVB; the data'):
    labels.make_task('longitudinal', names)
  with pytest.raises(ValueError, match="no label task 'superclas'; choose"):
    labels.make_task('superclas', names)
  with pytest.raises(ValueError, match='the data set has none'):
    labels.make_task('all', [])


def test_apply_against_loops():
  rng = np.random.default_rng(0)
  task = labels.LabelTask(
    ('a', 'b', 'c'),
    *rng.integers(0, 2, (2, 3, 300)).astype(np.uint8),
    (rng.random((3, 300)) < 0.3).astype(np.uint8),
    False,
  )
  # Full rows as well: 300 statements overflow a sum of uint8.
  stored = (rng.random((6, 300)) < [[0], [0.01], [0.01], [1], [0], [1]]) * 1
  annotated = (rng.random((6, 300)) < [[1], [1], [0.01], [1], [0], [0]]) * 1
  label, mask = labels.apply(task, stored, annotated)
  for n in range(6):
    for k in range(3):
      on = [i for i in range(300) if stored[n, i]]
      stated = any(task.positive[k, i] for i in on)
      against = any(task.excluding[k, i] for i in on)
      found = stated and not against
      doubt = against if stated else any(task.unclear[k, i] for i in on)
      known = any(task.positive[k] * annotated[n])
      assert label[n, k] == found
      assert mask[n, k] == (known and not doubt)
  assert label.dtype == mask.dtype == np.float32


def test_stored_statements_by_name():
  task = labels.make_task('LVH,NDT', labels.scp_names())
  assert task.classes == ('LVH', 'NDT') and not task.labelled_only
  stored, mask = labels.encode_scp(['NDT', 'SR'])
  label, known = labels.apply(task, stored, mask)
  np.testing.assert_array_equal(label, [0, 1])
  np.testing.assert_array_equal(known, [1, 1])
  with pytest.raises(ValueError, match='or stored labels separated by commas'):
    labels.make_task('LVH,mice', labels.scp_names())
