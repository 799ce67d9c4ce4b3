"""What an evaluator hands over, whatever it looked at."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.report.page import Section
from ecgjax.report.tables import Table


class Finding(NamedTuple):
  """Parts of the results and of the report; each may be left out.

  Attributes:
    metrics: name -> {'value', 'ci95'}, in `metrics` of `results.json`, in the
      first table of the report and in the log.
    fields: name -> JSON, further fields of `results.json`.
    arms: arm -> probabilities on validation and on test, [N, K] each, for the
      one comparison of all arms on the labels of the task.
    comparisons: further pairs of arms, e.g. (('judge', 'probe'),).
    sections: sections of the report.
    tables: in the log, and in a section of the report of their own.
  """

  metrics: Mapping[str, Mapping] = {}
  fields: Mapping[str, object] = {}
  arms: Mapping[str, tuple[np.ndarray, np.ndarray]] = {}
  comparisons: Sequence[tuple[str, str]] = ()
  sections: Sequence[Section] = ()
  tables: Sequence[Table] = ()


def merge(findings: Mapping[str, Finding]) -> Finding:
  """All findings as one, tables with their section.

  Args:
    findings: name of the evaluator -> what it found.

  Raises:
    ValueError: if two evaluators give the same name to different things.
  """
  merged = Finding({}, {}, {}, [], [], [])
  for name, finding in findings.items():
    for kind in ('metrics', 'fields', 'arms'):
      known, new = getattr(merged, kind), getattr(finding, kind)
      twice = sorted(known.keys() & new.keys())
      if twice:
        raise ValueError(
          f'evaluator {name}: another one has given {kind} {twice[0]!r} '
          'already; choose another name'
        )
      known |= new
    merged.comparisons.extend(finding.comparisons)
    if finding.tables:
      title = name.replace('_', ' ').capitalize()
      merged.sections.append(Section(title, finding.tables))
      merged.tables.extend(finding.tables)
    merged.sections.extend(finding.sections)
  return merged
