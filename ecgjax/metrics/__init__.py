"""Numbers in, numbers out: metrics, intervals, probes, comparisons of arms.

No files, no models, no HTML. Imports `ecg` and `runtime`.
"""
