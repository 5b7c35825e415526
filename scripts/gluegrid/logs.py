"""How scripts log: one format, to standard error, which the rules send to each job's log."""

import logging

from gluegrid.redaction import redacted


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def setup() -> None:
    """Log messages of INFO and above with the time in front, and without secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "filelock", "fsspec"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
