"""The checks of `make gpu-check`, what runs them, and what they are given."""
