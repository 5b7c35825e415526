"""Everything that touches Snakemake and its SLURM plugin: hooks, inputs of rules, patches."""
