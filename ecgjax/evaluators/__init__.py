"""What can be found out about a model and data, one file each.

Imports `model`, `data`, `metrics`, `report` and what is below.
"""
