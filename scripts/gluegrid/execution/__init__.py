"""How jobs run: locks, attempts, GPUs, submission to SLURM, preemption, and the call of snakemake they belong to."""
