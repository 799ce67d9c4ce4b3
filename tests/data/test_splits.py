"""Hash split, nested stratified label subsets and manifests."""

import fractions
import hashlib
import json

import numpy as np
import pytest

from ecgjax.data.store import splits
from tests.data import tiny_dataset

NAMES = ('common', 'half', 'rare', 'twice', 'once')


def make_table(num_patients=300, seed=0):
  """Records with 1 to 4 per patient and labels from common to unique."""
  rng = np.random.Generator(np.random.Philox(seed))
  patient = np.repeat(
    np.arange(num_patients), 1 + rng.integers(0, 4, num_patients)
  )
  labels = rng.random((len(patient), 5)) < [0.6, 0.3, 0.03, 0, 0]
  labels[[10, 150], 3] = True
  labels[77, 4] = True
  shuffled = rng.permutation(len(patient))
  records = np.array([f'r{i:04d}' for i in range(len(patient))])
  patients = np.array([f'p{i}' for i in patient])
  return records[shuffled], patients[shuffled], labels[shuffled]


@pytest.fixture(scope='module')
def table():
  return make_table()


def subset(table, **options):
  return splits.label_subset(*table, NAMES, **options)


def test_hash_split_of_known_patients():
  """u = first 8 bytes / 2**64, computed here from the hexadecimal digest."""
  counts = {'train': 0, 'validation': 0, 'test': 0}
  for i in range(3000):
    text = f'ecgjax-split-v1|georgia|{i}'
    u = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 2**64
    expected = 'test' if u < 0.2 else 'validation' if u < 0.3 else 'train'
    assert splits.hash_split('georgia', str(i)) == expected
    counts[expected] += 1
  assert abs(counts['test'] - 600) < 90 and abs(counts['train'] - 2100) < 110


def test_subsets_are_nested(table):
  sizes = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0]
  for seed in (0, 1):
    previous = set()
    for fraction in sizes:
      manifest = subset(table, seed=seed, fraction=fraction)
      assert previous <= set(manifest['record_ids'])
      assert manifest['num_patients'] == max(1, int(fraction * 300 + 0.5))
      previous = set(manifest['record_ids'])
    assert len(previous) == len(table[0])
    previous = set()
    for n in (1, 7, 50, 100, 200, 500, len(table[0])):
      manifest = subset(table, seed=seed, num_records=n)
      assert len(manifest['record_ids']) == n == manifest['num_records']
      assert previous < set(manifest['record_ids'])
      previous = set(manifest['record_ids'])


def test_fractions_keep_patients_together(table):
  records, patients, _ = table
  for fraction in (0.02, 0.1, 0.5):
    chosen = np.isin(
      records, subset(table, seed=3, fraction=fraction)['record_ids']
    )
    assert not set(patients[chosen]) & set(patients[~chosen])


def test_the_order_does_not_depend_on_the_order_of_the_table(table):
  records, patients, labels = table
  expected = records[splits.stratified_order(*table, 1)].tolist()
  mixed = np.random.Generator(np.random.Philox(5)).permutation(len(records))
  found = splits.stratified_order(
    records[mixed], patients[mixed], labels[mixed], 1
  )
  assert records[mixed][found].tolist() == expected


def test_labels_keep_their_share(table):
  """On patients, closer than random subsets at every size, over ten seeds."""
  _, patients, labels = table
  names = np.unique(patients)
  positive = np.array([labels[patients == p, :3].any(axis=0) for p in names])
  share = positive.mean(axis=0)
  for n in (25, 50, 100, 200):
    ours, random = [], []
    for seed in range(10):
      order = splits.stratified_order(*table, seed)
      first = list(dict.fromkeys(patients[order]))[:n]
      found = positive[np.searchsorted(names, first)].mean(axis=0)
      ours.append(((found - share) ** 2).mean())
      rng = np.random.Generator(np.random.Philox(seed))
      found = positive[rng.permutation(len(names))[:n]].mean(axis=0)
      random.append(((found - share) ** 2).mean())
    assert np.mean(ours) < 0.25 * np.mean(random), n


def test_labels_of_two_patients_are_covered(table):
  assert table[2].any(axis=0).all()
  for seed in range(20):
    manifest = subset(table, seed=seed, num_records=2 * len(NAMES))
    assert set(manifest['missing_labels']) <= {'once'}
    assert subset(table, seed=seed, fraction=1.0)['missing_labels'] == []


def test_seeds_give_different_subsets(table):
  found = [
    set(subset(table, seed=seed, num_records=50)['record_ids'])
    for seed in range(5)
  ]
  for i, a in enumerate(found):
    for b in found[:i]:
      assert len(a & b) < 25


def plain_order(records, patients, labels, seed):
  """The same rule in plain loops and exact fractions."""
  names = sorted(
    set(patients.tolist()),
    key=lambda name: hashlib.sha256(
      f'ecgjax-subset-v1|{seed}|{name}'.encode()
    ).hexdigest(),
  )
  rows = {
    name: sorted(
      (i for i in range(len(records)) if patients[i] == name),
      key=lambda i: records[i],
    )
    for name in names
  }
  num_labels = labels.shape[1]
  has = {
    name: [any(labels[i, k] for i in rows[name]) for k in range(num_labels)]
    for name in names
  }
  total = [sum(has[name][k] for name in names) for k in range(num_labels)]
  uncovered = {k for k in range(num_labels) if total[k] >= 2}
  candidates = {
    k: min((name for name in names if has[name][k]), key=lambda x: len(rows[x]))
    for k in uncovered
  }
  left, order = list(names), []
  pool, rest = [], list(names)
  while left:
    rest = [name for name in rest if name in left]
    while rest and len(pool) < 50 + 2 * num_labels:
      pool.append(rest.pop(0))

    def cost(name):
      value = fractions.Fraction(0)
      for k in range(num_labels):
        count = sum(has[other][k] for other in (*order, name))
        share = fractions.Fraction(total[k], len(names)) * (len(order) + 1)
        value += (len(names) // max(total[k], 1)) * (count - share) ** 2
      return value

    chosen = min(pool, key=cost)
    used = sum(len(rows[name]) for name in (*order, chosen))
    reserve = sum(
      len(rows[candidates[k]]) for k in uncovered if not has[chosen][k]
    )
    if uncovered and used + reserve > 2 * num_labels:
      rarest = min(sorted(uncovered), key=lambda k: total[k])
      chosen = candidates[rarest]
    uncovered = {k for k in uncovered if not has[chosen][k]}
    pool = [name for name in pool if name != chosen]
    left.remove(chosen)
    order.append(chosen)
  return [i for name in order for i in rows[name]]


def test_order_follows_the_rule():
  table = make_table(num_patients=80, seed=1)[:2]
  rng = np.random.Generator(np.random.Philox(9))
  labels = rng.random((len(table[0]), 4)) < [0.5, 0.2, 0.05, 0.015]
  for seed in range(3):
    found = splits.stratified_order(*table, labels, seed)
    assert found.tolist() == plain_order(*table, labels, seed)


def rare(table, positives, seed=0, columns=(1, 2)):
  records, patients, labels = table
  names = [NAMES[k] for k in columns]
  return splits.rare_subset(
    records, patients, labels[:, columns], names, seed=seed, positives=positives
  )


def test_rare_subsets_follow_the_rule(table):
  """By hand, record by record, in the order of the patients' hashes."""
  records, patients, labels = table
  found = rare(table, 7)
  key = lambda row: (
    hashlib.sha256(f'ecgjax-rare-v1|0|{patients[row]}'.encode()).hexdigest(),
    records[row],
  )
  seen, kept, counts = [0, 0], [], [0, 0]
  for row in sorted(range(len(records)), key=key):
    mine = [k for k in (0, 1) if labels[row, k + 1]]
    if all(seen[k] < 7 for k in mine):
      kept.append(str(records[row]))
      for k in mine:
        counts[k] += 1
    for k in mine:
      seen[k] += 1
  assert found['record_ids'] == sorted(kept)
  assert found['num_positives'] == {'half': counts[0], 'rare': counts[1]}
  assert 0 < max(counts) <= 7
  negative = records[~labels[:, 1] & ~labels[:, 2]]
  assert set(negative.tolist()) <= set(kept)


def test_rare_subsets_are_nested_and_seeded(table):
  few, more = rare(table, 5), rare(table, 12)
  assert set(few['record_ids']) < set(more['record_ids'])
  assert rare(table, 5, seed=1)['record_ids'] != few['record_ids']
  shuffled = tuple(column[::-1] for column in table)
  assert rare(shuffled, 5) == few


def test_rare_subsets_refuse_what_cannot_be(table):
  with pytest.raises(ValueError, match='positives is 0'):
    rare(table, 0)
  records, patients, _ = table
  labels = np.zeros((len(records), 2))
  with pytest.raises(ValueError, match='no record of half is left'):
    rare((records, patients, np.pad(labels, ((0, 0), (1, 2)))), 5)


def test_manifest_hash_is_the_same_on_every_machine():
  numbers = np.arange(200)
  table = (
    np.array([f'r{i}' for i in numbers]),
    np.array([f'p{i // 2}' for i in numbers]),
    np.stack([numbers % 3 == k for k in range(5)], axis=1),
  )
  manifest = subset(table, seed=0, fraction=0.1)
  content = {k: v for k, v in manifest.items() if k != 'sha256'}
  text = json.dumps(content, sort_keys=True, separators=(',', ':'))
  assert manifest['sha256'] == hashlib.sha256(text.encode()).hexdigest()
  assert manifest['sha256'][:16] == '7695b83f8d4fb880'
  assert subset(table, seed=1, fraction=0.1)['sha256'] != manifest['sha256']


def test_manifest_survives_a_file_and_shows_tampering(table, tmp_path):
  manifest = subset(table, seed=0, fraction=0.05)
  path = tmp_path / 'manifests' / 'f05.json'
  splits.write_manifest(manifest, path)
  assert splits.read_manifest(path) == manifest
  assert [p.name for p in path.parent.iterdir()] == ['f05.json']
  path.write_text(path.read_text().replace(manifest['record_ids'][0], 'r9999'))
  with pytest.raises(ValueError, match='f05.json does not match its sha256'):
    splits.read_manifest(path)


@pytest.mark.parametrize(
  'options, message',
  [
    ({}, 'either fraction or num_records'),
    ({'fraction': 0.1, 'num_records': 5}, 'either fraction or num_records'),
    ({'fraction': 0.0}, 'choose 0 < f <= 1'),
    ({'fraction': 1.5}, 'choose 0 < f <= 1'),
    ({'num_records': 10**6}, 'the training split has 7'),
    ({'num_records': 0}, 'label subset of 0 records'),
  ],
)
def test_impossible_sizes_are_refused(table, options, message):
  with pytest.raises(ValueError, match=message):
    subset(table, seed=0, **options)


def test_split_manifest(tmp_path):
  parts = {'train': range(6), 'validation': range(6, 8), 'test': range(8, 11)}
  examples = {
    split: [tiny_dataset.make_example(i) for i in numbers]
    for split, numbers in parts.items()
  }
  builder = tiny_dataset.write(tmp_path / 'a' / 'tiny' / '1.0.0', examples)
  manifest = splits.split_manifest(builder)
  assert manifest['rows'] == [
    [f'r{i:03d}', f'p{i // 2:03d}', split]
    for split in ('train', 'validation', 'test')
    for i in parts[split]
  ]
  text = json.dumps({'rows': manifest['rows']}, separators=(',', ':'))
  assert manifest['sha256'] == hashlib.sha256(text.encode()).hexdigest()
  examples['train'].reverse()
  other = tiny_dataset.write(
    tmp_path / 'b' / 'tiny' / '1.0.0', examples, num_shards=1
  )
  assert splits.split_manifest(other) == manifest


def test_subsets_of_ptbxl(recordings):
  """Patients are never shared, on the official folds of real records."""
  import ast
  import csv

  with open(recordings / 'ptbxl' / 'ptbxl_database.csv') as file:
    rows = [r for r in csv.DictReader(file) if float(r['strat_fold']) <= 8]
  names = sorted(
    {code for r in rows for code in ast.literal_eval(r['scp_codes'])}
  )
  labels = np.array(
    [[name in ast.literal_eval(r['scp_codes']) for name in names] for r in rows]
  )
  records = np.array([r['ecg_id'] for r in rows])
  patients = np.array([r['patient_id'] for r in rows])
  positive = [len(set(patients[labels[:, k]])) for k in range(len(names))]
  for seed in range(2):
    manifest = splits.label_subset(
      records, patients, labels, names, seed=seed, num_records=2 * len(names)
    )
    once = {name for name, count in zip(names, positive) if count < 2}
    assert set(manifest['missing_labels']) <= once
