"""gluegrid: fine-tune a grid of encoders on a grid of tasks. The library behind the rules' scripts."""

__version__ = "0.1.0"
