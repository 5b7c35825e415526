"""Sharing experiments: one file with all that a number can be recomputed from, and several such files merged."""
