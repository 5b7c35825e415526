"""One job on its machine: locks, attempts, GPUs, submission to SLURM, preemption, and its call of snakemake."""
