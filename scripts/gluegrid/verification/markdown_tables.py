"""The tables and lists of a Markdown document, as texts without their escapes."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from gluegrid.common.errors import DataError

HEADING = re.compile(r"#{1,6} (.*)")
DELIMITER = re.compile(r"\|(\s*:?-+:?\s*\|)+")
COLUMN_END = re.compile(r"(?<!\\)\|")
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")  # a backslash before ASCII punctuation (CommonMark 0.31, section 2.4)


@dataclass(frozen=True)
class Section:
    """What stands under a heading: tables as rows of cells, the header first, and all other lines."""

    title: str
    tables: list[list[list[str]]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def read_sections(path: Path) -> list[Section]:
    """Return the sections of a document; what stands above the first heading has the title ''. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8: {error}") from error
    sections = [Section("")]
    is_inside_table = False
    for number, line in enumerate(lines, start=1):
        is_row = line.startswith("|")
        if heading := HEADING.fullmatch(line):
            sections.append(Section(unescaped(heading[1])))
        elif not is_row:
            sections[-1].lines.append(unescaped(line))
        elif not is_inside_table:
            sections[-1].tables.append([_cells(line)])
        elif not DELIMITER.fullmatch(line):
            _add_row(sections[-1].tables[-1], _cells(line), f"{path}: line {number}")
        is_inside_table = is_row
    return sections


def unescaped(text: str) -> str:
    """Return a text as it is rendered, as far as backslashes go."""
    return ESCAPED.sub(r"\1", text)


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [unescaped(cell.strip()) for cell in COLUMN_END.split(inner)]


def _add_row(table: list[list[str]], cells: list[str], where: str) -> None:
    if len(cells) != len(table[0]):
        raise DataError(f"{where}: has {len(cells)} columns, its table {len(table[0])}")
    table.append(cells)
