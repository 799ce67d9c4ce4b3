"""Pretext and supervised tasks, one file each: `make` returns a `Method`.

A method knows no other, and nothing outside asks which one it has. Imports
`models`, `losses`, `ecg` and what is below.
"""
