"""Networks (the only linen modules) and codebooks, as pure functions.

`resolve('models', name).make(...)` makes an encoder from a config's name: a new
encoder is one file here. Imports `ecg` and `runtime`.
"""
