"""What a recorder's program wrote: present, denied, in doubt, not analysed."""

import pytest

from ecgjax.data.raw import machine_report

ALL = tuple(machine_report.STATEMENTS)


@pytest.mark.parametrize(
  ('statement', 'positive', 'unclear'),
  [
    ('** ** ACUTE MI / STEMI ** **', 'MI', ''),
    ('*** Consider acute ST elevation MI ***', '', 'MI'),
    ('PR interval prolonged', '', '1AVB'),
    ('Borderline 1st degree A-V block', '', '1AVB'),
    ('Sinus rhythm, no atrial fibrillation', '', ''),
    ('Sinus rhythm without premature complexes', '', ''),
    ('1st degree atrioventricular block', '1AVB', ''),
    ('AV block, 1st degree', '1AVB', ''),
    ('No evidence of acute infarct or atrial fibrillation', '', ''),
    ('No atrial fibrillation, flutter, or infarct', '', 'AF AFL MI'),
    ('Atrial fibrillation with no acute ischemia', 'AF', ''),
    ('No significant change atrial fibrillation persists', '', 'AF'),
    ('Atrial fibrillation: no', '', ''),
    ('Atrial fibrillation not present', '', ''),
    ('Infarct ruled out', '', ''),
    ('Infarct cannot be ruled out', '', 'MI'),
    ('Rule out infarct', '', 'MI'),
    ('Cannot exclude inferior infarct', '', 'MI'),
    ('Acute MI is not excluded', '', 'MI'),
    ('Atrial fibrillation?', '', 'AF'),
    # The age is not known, the infarct is.
    ('Inferior infarct - age undetermined', 'MI', ''),
    ('Uninterpretable ECG', '', ' '.join(ALL)),
    ('Pacemaker rhythm - no further analysis', '', ' '.join(ALL)),
    ('nan', '', ' '.join(ALL)),
    ('Vorhofflimmern', '', ' '.join(ALL)),
  ],
)
def test_statements(statement, positive, unclear):
  found, mask, _ = machine_report.read([statement, ''])
  assert {n for n, bit in zip(ALL, found) if bit} == set(positive.split())
  assert {n for n, bit in zip(ALL, mask) if not bit} == set(unclear.split())


def test_kinds_of_reports():
  kinds = [
    machine_report.read([text]).kind
    for text in ('NSTEMI', 'Normal ECG', 'Paced rhythm', 'Uninterpretable ECG')
  ]
  assert kinds == ['known', 'other', 'paced', 'nothing']


@pytest.mark.parametrize(
  'denial', ['no', 'No evidence of', 'without', 'negative for', 'absence of']
)
@pytest.mark.parametrize('name', ['atrial fibrillation', 'infarct', 'PVCs'])
def test_a_denied_finding_is_never_positive(denial, name):
  found, mask, kind = machine_report.read([f'Sinus rhythm, {denial} {name}'])
  assert not any(found) and all(mask) and kind == 'known'


@pytest.mark.parametrize(
  'doubt', ['possible', 'consider', 'borderline', 'rule out', 'cannot exclude',
            'probable', 'suspected', 'questionable', 'suggests'],
)  # fmt: skip
@pytest.mark.parametrize('name', ['atrial fibrillation', 'infarct', 'PACs'])
def test_a_doubtful_finding_is_unknown(doubt, name):
  found, mask, _ = machine_report.read([f'Sinus rhythm, {doubt} {name}'])
  assert not any(found) and sum(mask) == len(ALL) - 1
