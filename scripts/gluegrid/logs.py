"""How scripts log: one format, to standard error, which the rules send to each job's log."""

import logging


def setup() -> None:
    """Log messages of INFO and above with the time in front."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "filelock", "fsspec"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
