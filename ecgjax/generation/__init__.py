"""`--mode=generate`: new labelled ECGs from training records.

Operators, alignment, parents and the gallery. Imports `model`, `data`, `report`
and what is below.
"""
