"""Results as JSON, Markdown and one HTML page.

Prints what it is given and computes nothing new. Imports `metrics`, `ecg` and
`runtime`.
"""
