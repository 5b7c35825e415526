"""Train one cell on its device: dataset, forward pass, trainer, checkpoints, metrics, predictions. Imports torch."""
