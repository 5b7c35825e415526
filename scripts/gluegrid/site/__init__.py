"""What a machine or a SLURM site is: looked at before anything is spent, and told with what to do."""
