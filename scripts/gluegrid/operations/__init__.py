"""Plan, estimate, watch, cancel and clean up experiments."""
