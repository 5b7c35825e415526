"""JSON files of others, looked at before a library acts on them: not too large, not too deep, of finite numbers."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from gluegrid.common.errors import StagingError
from gluegrid.common.files import size_in_words

MOST_BYTES = 10_000_000
DEEPEST = 32
LONGEST_SHOWN = 60


def read_untrusted_json(path: Path) -> dict:
    """Return a file's JSON object. StagingError names the file, and the key of what is out of bounds."""
    check_size(path, MOST_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StagingError(f"{path.name}: is no JSON that can be read: {error}") from error
    if not isinstance(content, dict):
        raise StagingError(f"{path.name}: holds no JSON object")
    for key, depth, value in every_value(content):
        if depth > DEEPEST:
            raise StagingError(f"{path.name}: {shown(key)} is nested more than {DEEPEST} deep")
        # transformers writes infinity as {"__float__": "Infinity"}.
        if key == "__float__" or (isinstance(value, float) and not math.isfinite(value)):
            raise StagingError(f"{path.name}: {shown(key)} is {shown(value)}, not a finite number")
    return content


def check_size(path: Path, most: int) -> None:
    """Raise StagingError for a file that is not there, or has more than `most` bytes."""
    if not path.is_file():
        raise StagingError(f"{path.name}: is not there")
    size = path.stat().st_size
    if size > most:
        raise StagingError(f"{path.name}: is {size_in_words(size)}, which is more than {size_in_words(most)}")


def shown(value: object) -> str:
    """Return a value as JSON, cut to what fits into a message."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"more than 10^{int(math.log10(abs(value)))}"
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def every_value(content: object) -> Iterator[tuple[str, int, object]]:
    """Yield each value in a JSON value with its key, or that of the list it is in, and its depth."""
    waiting: list[tuple[str, int, object]] = [("", 0, content)]
    while waiting:
        key, depth, value = waiting.pop()
        yield key, depth, value
        if isinstance(value, dict):
            waiting += [(name, depth + 1, item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(key, depth + 1, item) for item in value]
