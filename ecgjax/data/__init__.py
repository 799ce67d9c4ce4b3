"""See README.md, "Where things are"."""
