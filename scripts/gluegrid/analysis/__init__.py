"""From saved predictions to comparisons of models and GLUE's submission. Loads numpy and scipy."""
