"""One file per data set (a TFDS builder), and the commands that prepare them.

Its rooms: `raw` checks recordings, `store` writes and reads what was prepared,
`batches` feeds the training loop. Imports these and what is below.
"""
