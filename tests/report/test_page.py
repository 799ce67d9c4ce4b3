"""The report: complete, self-contained, and nothing in it is typed."""

import copy
import html.parser
import re

import numpy as np
import pytest

from ecgjax.evaluators import human_readers
from ecgjax.metrics import compare_arms, label_efficiency, metrics
from ecgjax.report import efficiency_tables, figures, results, tables
from ecgjax.report import page as page_lib

NAMES = ['NORM', 'M|I <b>', 'rare']


@pytest.fixture(scope='module')
def predictions():
  generator = np.random.default_rng(0)
  labels = (generator.random((80, 3)) < [0.4, 0.3, 0]).astype(int)
  labels[:2, 2] = 1
  arms = {
    name: 1 / (1 + np.exp(-generator.normal(size=(2, 80, 3)) - shift * labels))
    for name, shift in (('random_probe', 0.2), ('probe', 2.0))
  }
  return {
    'arms': arms,
    'labels': labels,
    'patients': np.arange(80),
    'class_names': NAMES,
    'thresholds': {
      name: metrics.f1_thresholds(labels, s) for name, s in arms.items()
    },
  }


@pytest.fixture(scope='module')
def record(predictions):
  return results.assemble(
    compare_arms.evaluate_arms(**predictions, method='probe', draws=50),
    method='lcd', dataset='ptbxl', protocol='standardised_lr', split='test',
    seed=0, step=10, num_examples=80, num_patients=80,
    hashes=dict.fromkeys(results.HASHES, '0a' * 32), device='1 x cpu',
    examples_per_second=12.5, wall_seconds=3,
  )  # fmt: skip


@pytest.fixture(scope='module')
def page(record, predictions, tmp_path_factory):
  """A report with every section."""
  labels = predictions['labels']
  probe = predictions['arms']['probe']
  efficiency = label_efficiency.label_efficiency(
    {'scratch': probe[None].repeat(2, 0), 'probe': probe[None].repeat(2, 0)},
    [10, 100], labels, np.arange(80), NAMES, targets=(0.1, 1.0), draws=40,
  )  # fmt: skip
  readers = human_readers.compare_readers(
    [human_readers.Reader('r1', 'general', labels.astype(np.int8))],
    probe[0], predictions['thresholds']['probe'][0], labels, np.arange(80),
    NAMES, draws=40,
  )  # fmt: skip
  mistakes = page_lib.confident_errors(
    labels, probe[0], predictions['thresholds']['probe'][0], count=2
  )

  def load(index):
    ecg = 0.1 * np.sin(np.arange(500)[:, None] / 9 + np.arange(12))
    return {'ecg': ecg, 'rate': 100, 'title': f'record {index}'}

  history = [
    {'step': 1, 'train_loss': 1.0, 'effective_rank': None},
    {'step': 2, 'train_loss': 0.5, 'validation_loss': 0.7},
    {'step': 3, 'effective_rank': 5.0},
  ]
  path = tmp_path_factory.mktemp('report') / 'report.html'
  page_lib.write_report(
    path, record, predictions=predictions, history=history,
    sections=[
      efficiency_tables.section(efficiency), human_readers.section(readers),
      page_lib.errors_section(mistakes, NAMES, load),
    ],
  )  # fmt: skip
  return path.read_text(encoding='utf-8')


class _Checker(html.parser.HTMLParser):
  """Tags must close in order; collects titles, ids and addresses."""

  def __init__(self):
    super().__init__()
    self.open, self.headings, self.ids, self.addresses = [], [], [], []
    self.images = 0

  def handle_starttag(self, tag, attrs):
    if tag not in ('meta', 'img', 'br'):
      self.open.append(tag)
    self._look(tag, dict(attrs))

  def handle_startendtag(self, tag, attrs):
    self._look(tag, dict(attrs))

  def _look(self, tag, attrs):
    self.images += tag in ('svg', 'img')
    self.ids += [attrs['id']] if 'id' in attrs else []
    for name in ('src', 'href', 'xlink:href', 'data', 'action'):
      if name in attrs:
        self.addresses.append(attrs[name])

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] == 'h2':
      self.headings.append(data.strip())


def test_page_is_complete_well_formed_and_self_contained(page):
  checker = _Checker()
  checker.feed(page)
  assert not checker.open
  assert checker.headings == [
    'Result', 'Arms', 'Label efficiency', 'Readers',
    'Most confident errors', 'Curves', 'Training',
  ]  # fmt: skip
  # Bars, curves, three figures for each of two arms, two errors, training.
  assert checker.images == 1 + 1 + 6 + 2 + 1
  assert len(set(checker.ids)) == len(checker.ids)
  for address in checker.addresses:
    assert address.startswith(('#', 'data:'))
    if address.startswith('#'):
      assert address[1:] in checker.ids
  assert '@import' not in page and '<script' not in page
  used = set(re.findall(r'url\(#([^)]*)\)', page))
  assert used and used <= set(checker.ids)


def test_page_shows_the_figures_of_the_record(page, record):
  entry = record['metrics']['macro_auroc']
  text = f'{entry["value"]:.3f} [{entry["ci95"][0]:.3f},'
  assert text.replace(' [', ' [') in page.replace('\u00a0', ' ')
  change = record['differences']['probe-random_probe']['macro_auroc']
  assert f'{change["value"]:+.3f} [' in page
  assert record['hashes']['split'] in page and record['git'] in page
  assert 'rare †' in page
  assert 'M|I &lt;b&gt;' in page and 'M|I <b>' not in page
  assert 'SYNTHETIC' not in page


def test_same_report_twice_is_the_same_file(record, predictions, tmp_path):
  paths = [tmp_path / 'a.html', tmp_path / 'b.html']
  for path in paths:
    page_lib.write_report(path, record, history=[{'step': 1, 'loss': 1.0}])
  assert paths[0].read_bytes() == paths[1].read_bytes()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.html', 'b.html']


def test_synthetic_and_unsupported_are_said(record, tmp_path):
  record = copy.deepcopy(record) | {'synthetic': True}
  for parts in (record, *record['arms'].values()):
    parts['metrics']['macro_auroc'] = {
      'value': None, 'ci95': None, 'num_labels': 0,
    }  # fmt: skip
  path = tmp_path / 'report.html'
  page_lib.write_report(path, record)
  text = path.read_text()
  assert 'SYNTHETIC' in text and 'not reportable' in text
  assert tables.NOT_REPORTABLE in text


def test_broken_results_give_no_report(record, tmp_path):
  record = copy.deepcopy(record)
  record['metrics']['macro_auroc']['value'] = 0.01
  with pytest.raises(ValueError, match='outside its own interval'):
    page_lib.write_report(tmp_path / 'report.html', record)
  assert not list(tmp_path.iterdir())


def test_confident_errors_against_brute_force(predictions):
  labels = predictions['labels']
  scores = predictions['arms']['random_probe'][0]
  cuts = predictions['thresholds']['random_probe'][0]
  found = page_lib.confident_errors(labels, scores, cuts, count=6)
  assert len({m.index for m in found}) == len(found) == 6
  assert [m.missed for m in found] == [False, True] * 3
  alarms = [
    (scores[i, k] - cuts[k]) / (1 - cuts[k])
    for i, k in np.ndindex(labels.shape)
    if not labels[i, k] and scores[i, k] >= cuts[k]
  ]
  assert found[0].confidence == max(alarms)
  misses = [
    (cuts[k] - scores[i, k]) / cuts[k]
    for i, k in np.ndindex(labels.shape)
    if labels[i, k] and scores[i, k] < cuts[k] and i != found[0].index
  ]
  assert found[1].confidence == max(misses)
  for m in found:
    assert labels[m.index, m.label] == m.missed
    assert (scores[m.index, m.label] >= cuts[m.label]) != m.missed
  mask = np.zeros_like(labels)
  assert page_lib.confident_errors(labels, scores, cuts, label_mask=mask) == []
  assert page_lib.confident_errors(labels, labels * 1.0, cuts) == []
  with_nan = np.where([1, 0, 0], np.nan, cuts)
  others = page_lib.confident_errors(labels, scores, with_nan, count=50)
  assert others and all(m.label != 0 for m in others)


def test_roc_curve_integrates_to_auroc():
  generator = np.random.default_rng(1)
  labels = generator.random(400) < 0.3
  scores = np.round(generator.normal(size=400) + labels, 1)  # ties
  grid = np.linspace(0, 1, 20001)
  tpr, precision = figures._curves(labels, scores, grid)
  ones = np.ones((400, 1))
  auroc, auprc = metrics.ranking_metrics(labels, scores, ones)
  assert abs(np.trapezoid(tpr, grid) - auroc[0]) < 1e-3
  assert abs(np.mean(precision[1:]) - auprc[0]) < 1e-3


def test_single_label_data_get_one_confusion_matrix():
  labels = np.eye(3, dtype=bool)[[0, 0, 1, 2, 2]]
  scores = np.eye(3)[[0, 1, 1, 2, 0]][None]
  keep = np.ones_like(labels)
  assert figures.single_label(labels, keep)
  (axes,) = figures.confusion_matrix(labels, scores, list('abc')).axes
  cells = [text.get_text() for text in axes.texts]
  assert cells == ['1', '1', '0', '0', '1', '0', '1', '0', '1']
  labels[0] = [True, True, False]
  assert not figures.single_label(labels, keep)
  figure = figures.confusion(
    labels, scores, keep, np.full((1, 3), 0.5), list('abc'), [0, 1, 2]
  )
  panel = figure.axes[0]  # label a: 1 of 2 found, 1 false alarm among 3
  assert [text.get_text() for text in panel.texts] == ['2', '1', '1', '1']


@pytest.mark.parametrize('num_labels', [11, 14, 31])
def test_no_label_is_dropped_from_the_curves(num_labels):
  generator = np.random.default_rng(2)
  labels = generator.random((120, num_labels)) < 0.3
  labels[:, 3] = False  # nothing to draw
  names = [f'class {k}' for k in range(num_labels)]
  scores = generator.random((1, 120, num_labels))
  section = page_lib._curves_section({
    'arms': {'probe': scores},
    'labels': labels,
    'patients': np.arange(120),
    'class_names': names,
    'thresholds': {'probe': np.full(num_labels, 0.5)},
  })  # fmt: skip
  assert 'one class is absent: class 3.' in section.parts[0]
  pictures = section.parts[1:]
  wanted = [name for name in names if name != 'class 3']
  for kind in ('curves', 'thresholds', 'calibration'):
    drawn = []
    for picture in pictures:
      if kind in picture.caption:
        figure = picture.figure
        drawn += [text.get_text() for x in figure.legends for text in x.texts]
        drawn += [axes.get_title() for axes in figure.axes]
    assert [name for name in drawn if name in names] == wanted


def test_one_seed_is_called_one_seed(record, predictions, tmp_path):
  """Nothing is "averaged", and the headline says what intervals lack."""
  one = predictions | {
    kind: {name: part[0] for name, part in predictions[kind].items()}
    for kind in ('arms', 'thresholds')
  }
  single = record | {
    **compare_arms.evaluate_arms(**one, method='probe', draws=50)
  }
  page_lib.write_report(tmp_path / 'one.html', single, predictions=one)
  text = (tmp_path / 'one.html').read_text().replace('\u00a0', ' ')
  assert tables.ONE_SEED in text
  assert 'probe: curves per label, one seed.' in text
  assert 'averaged' not in text and 'mean of' not in text
  several = record | {'seeds': [0, 1]}
  page_lib.write_report(tmp_path / 'two.html', several, predictions=predictions)
  text = (tmp_path / 'two.html').read_text().replace('\u00a0', ' ')
  assert tables.ONE_SEED not in text
  assert 'probe: curves per label, mean of 2 seeds.' in text
  assert 'bootstrap over patients and 2 seeds' in text


def test_no_p_is_zero():
  entry = {'value': 0.1, 'ci95': [0.05, 0.2], 'p': 4e-4, 'p_holm': 9.996e-4}
  cell = tables.difference_cell(entry)
  assert cell == '+0.100 [+0.050, +0.200], p < 0.001 (Holm p < 0.001)'
  entry |= {'p': 0.001, 'p_holm': 0.03}
  assert tables.difference_cell(entry).endswith('p 0.001 (Holm p 0.030)')
  kept = page_lib._keep_together('+0.1, p < 0.001')
  assert kept == '+0.1, p\u00a0<\u00a00.001'


def test_markdown():
  table = tables.Table(['a', 'b'], [['x|y', '1']], 'note')
  assert table.markdown() == ('| a | b |\n| --- | --- |\n| x\\|y | 1 |\n\nnote')


def test_a_moving_target_is_explained_below_its_loss():
  rows = [{'step': 1, 'loss': 2.0}, {'step': 2, 'loss': 3.0}]
  (picture,) = page_lib.training_section(rows).parts
  assert picture.caption == ''
  rows[1]['constant_loss'] = 1.5
  (picture,) = page_lib.training_section(rows).parts
  assert 'the same prediction for every ECG would cost' in picture.caption
  legend = [t.get_text() for t in picture.figure.axes[0].get_legend().texts]
  assert legend == ['loss', 'constant_loss']
