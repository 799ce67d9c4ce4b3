"""Prepared data sets: building, reading back, labels, splits, leakage audit.

Imports `data.raw` and what is below.
"""
