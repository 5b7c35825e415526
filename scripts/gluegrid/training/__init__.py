"""One cell on its device: dataset, forward pass, trainer, checkpointing, metrics, predictions. Loads torch."""
