"""From a prepared data set to deterministic batches of records or patients.

Imports `data.store` and what is below.
"""
