"""A physiological simulator of 12-lead ECGs with known truth.

Pure functions of a key; everything it makes is synthetic. Imports `ecg` and
`runtime`.
"""
