"""From the outcomes of cells to results.md, results.csv, results.json and parity with published numbers."""
