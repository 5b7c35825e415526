"""The report of an experiment: one HTML page with its figures, and a table for LaTeX. It loads heavy libraries."""
