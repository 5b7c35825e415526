"""Whether files are what GLUE's server takes: read again as it would read them, by other code than wrote them."""

import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.common.escaping import quoted
from gluegrid.results.glue_choice import FILES, HEADER, LEAST, MOST, GlueFile

INDEX = re.compile(r"0|[1-9][0-9]*", re.ASCII)
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)  # neither a sign nor an exponent, and no nan


def check_file(file: GlueFile, content: bytes) -> None:
    """Raise DataError, which names the file and the line, unless GLUE's server would take the content."""
    lines = content.decode("utf-8", errors="replace").split("\n")
    if lines[0] != HEADER:
        raise DataError(f"{file.name}: its header is {quoted(lines[0])}, not {HEADER!r}")
    if lines.pop() != "":
        raise DataError(f"{file.name}: its last line is not ended")
    rows = [line.split("\t") for line in lines[1:]]
    _check_number_of_rows(file, len(rows))
    for number, row in enumerate(rows, start=2):
        _check_row(file, number, row)
    _check_indexes(file, [int(index) for index, _ in rows])


def check_archive(path: Path, contents: Mapping[str, bytes]) -> None:
    """Raise DataError unless the archive has exactly GLUE's files, at its top, and they hold these contents."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if sorted(names) != sorted(file.name for file in FILES):
            raise DataError(f"{path}: holds {', '.join(names)}, not GLUE's {len(FILES)} files")
        differing = [name for name in names if archive.read(name) != contents[name]]
    if differing:
        raise DataError(f"{path}: {differing[0]} is not as it was written; is the disk all right?")


def _check_number_of_rows(file: GlueFile, found: int) -> None:
    if found != file.rows:
        raise DataError(
            f"{file.name}: has {found:,} predictions, and GLUE's server wants {file.rows:,}: the split {file.split!r}"
            f" of {file.task} is not the official one; use that of nyu-mll/glue"
        )


def _check_row(file: GlueFile, number: int, row: list[str]) -> None:
    if len(row) != 2 or not INDEX.fullmatch(row[0]):
        raise DataError(f"{file.name}: line {number} is {quoted(chr(9).join(row))}, no index and prediction")
    if file.names is None:
        if not (NUMBER.fullmatch(row[1]) and LEAST <= float(row[1]) <= MOST):
            raise DataError(
                f"{file.name}: line {number} predicts {quoted(row[1])}, no number from {LEAST:g} to {MOST:g}"
            )
    elif row[1] not in file.names.values():
        legal = ", ".join(file.names.values())
        raise DataError(f"{file.name}: line {number} predicts {quoted(row[1])}, none of {legal}")


def _check_indexes(file: GlueFile, indexes: list[int]) -> None:
    wanted = range(file.rows)
    if indexes == list(wanted):
        return
    twice = [index for index, count in Counter(indexes).items() if count > 1]
    missing = sorted(set(wanted) - set(indexes))
    if twice:
        problem = f"index {twice[0]} stands twice"
    else:
        problem = f"index {missing[0]} is missing" if missing else "its indexes are not in order"
    raise DataError(f"{file.name}: {problem}; `idx` must number the test examples from 0, each once")
