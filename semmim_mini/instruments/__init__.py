"""Measurements of what a run learned and how it may fail: masks, codes, collapse, shortcuts. Held-out data only."""
