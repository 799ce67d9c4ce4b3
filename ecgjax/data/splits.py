"""Which records train, validate and test (protocol.md, sections 1 and 2)."""

import hashlib

# Shares of the hash split: test below the first bound, validation below the
# second, training above.
_TEST_BELOW = 0.2
_VALIDATION_BELOW = 0.3


def hash_split(corpus: str, patient_id: str) -> str:
  """Split of a patient in a corpus without official folds.

  A pure function of two names: no generator state and no file order, so a
  patient stays where he is when records are added (protocol.md, section 1).

  Args:
    corpus: name of the corpus, e.g. 'georgia'.
    patient_id: the patient, or the record where the corpus has no patients.

  Returns:
    'train', 'validation' or 'test'; 70, 10 and 20 % of all patients.
  """
  text = f'ecgjax-split-v1|{corpus}|{patient_id}'
  head = hashlib.sha256(text.encode()).digest()[:8]
  u = int.from_bytes(head, 'big') / 2**64
  if u < _TEST_BELOW:
    return 'test'
  return 'validation' if u < _VALIDATION_BELOW else 'train'
