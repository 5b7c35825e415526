"""Share experiments: export one to a file from which its numbers can be recomputed, and merge several such files."""
