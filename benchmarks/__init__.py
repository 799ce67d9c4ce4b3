"""Timings, side by side in one run; the ratio counts. See README.md."""
