"""Comparisons of models and GLUE submissions, from saved predictions. Loads numpy and scipy."""
