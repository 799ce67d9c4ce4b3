"""Ways in: files of recordings to `ecg.recording.Recording`.

Nothing here trusts a file. Imports `ecg` and `runtime`.
"""
