"""All that touches Snakemake and its SLURM plugin: hooks, what rules take in, patches."""
