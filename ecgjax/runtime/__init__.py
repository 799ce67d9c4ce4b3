"""The process around the mathematics: devices, collectives, signals, console.

Imports nothing of ecgjax.
"""
