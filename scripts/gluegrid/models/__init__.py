"""From a checkpoint folder to a classifier: config, tokenizer, weights, adapters, packing. Loads torch."""
