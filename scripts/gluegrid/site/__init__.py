"""Examine a machine or a SLURM site before any GPU-hour is spent, and report what it has and what to do."""
