"""Text of users in figures and tables is text, whatever it looks like."""

import pytest
from matplotlib.figure import Figure

from ecgjax.data.store import labels
from ecgjax.report import page, results
from ecgjax.report.tables import Table

NAMES = ('ST $dev_$ up', '$', 'a$b$c', '$\\frac$', '<img src=x>', 'x\\$y')


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('png', [False, True])
def test_a_figure_with_any_label(name, png):
  figure = Figure(figsize=(2, 2), layout='constrained')
  axes = figure.add_subplot()
  axes.plot([0, 1], label=name)
  axes.set_yticks([0, 1], [name, 'b'])
  axes.set(title=name, xlabel=name)
  axes.legend()
  picture = page.Picture(figure, '', png)
  markup = page._markup(picture, 0)
  assert '<img src=x>' not in markup
  if not png and '$' in name:
    assert markup.count(name) >= 4


def test_markdown_cells_hold_no_html_and_no_links():
  table = Table(['a|b', '<b>x</b>'], [['![i](http://x)', 'p < 0.001, [1, 2]']])
  text = table.markdown()
  assert '<b>' not in text and '](' not in text and '\\|' in text
  assert '| p < 0.001, [1, 2] |' in text


def test_a_lone_surrogate_is_refused_and_never_stops_a_file(tmp_path):
  with pytest.raises(ValueError, match=r"label 'A\\ud800' is no text"):
    labels.make_task('all', ['A\ud800'])
  assert labels.make_task('all', ['Éé']).classes == ('Éé',)
  results.write_text(tmp_path / 'x', 'A\ud800')
  assert (tmp_path / 'x').read_text() == 'A\\ud800'
