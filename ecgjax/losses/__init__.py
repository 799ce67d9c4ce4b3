"""Loss functions of arrays; every one of them sees the global batch.

Imports `runtime` only.
"""
