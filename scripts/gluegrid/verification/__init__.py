"""The checks of `make verify`: recompute metrics, hashes and tables with other code than that which made them."""
