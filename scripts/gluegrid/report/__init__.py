"""The report of an experiment: an HTML page with figures, and a LaTeX table. Loads heavy libraries."""
