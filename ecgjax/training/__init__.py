"""Parts of a training step and of a run: state, optimizer, logs, work folder.

The loop itself is `ecgjax.train`. Imports `methods` and what is below.
"""
