"""What is asked of running and finished grids: plan, estimates, status, cancel, cleanup, disk."""
