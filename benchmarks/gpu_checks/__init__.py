"""The checks of `make gpu-check`, and the code that runs them."""
