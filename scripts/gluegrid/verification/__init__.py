"""What `make verify` computes: metrics, hashes and tables once more, by other code than what made them."""
