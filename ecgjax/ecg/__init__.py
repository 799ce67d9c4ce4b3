"""What an ECG is: leads, input contract, beats, waves, noise, pages, drawing.

Pure functions of arrays; nothing here knows files, models or configs.
Imports `runtime` only.
"""
