"""Studies: what the cells of a grid are, and what is made of their results.

Imports everything but the commands.
"""
