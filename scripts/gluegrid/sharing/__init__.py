"""Sharing experiments: one file with everything a number can be recomputed from, and several such files merged."""
