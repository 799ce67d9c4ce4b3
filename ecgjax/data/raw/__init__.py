"""Raw recordings: checks with reason codes, downloads, corpora's own files.

Imports `formats`, `ecg` and `runtime`.
"""
