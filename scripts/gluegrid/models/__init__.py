"""From a model's checkpoint folder to a classifier: config, tokenizer, weights, adapters, packing. Loads torch."""
