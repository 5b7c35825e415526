"""A results.md that is compared part by part with what should stand in it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.verification.expected_tables import Expected
from gluegrid.verification.findings import Findings

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


# A number, a mark that its data are not official, and in parentheses what limits it.
NUMBER_AND_REMARK = re.compile(r"(.*?)\*?(?: \((.*)\))?")
BETWEEN_NUMBERS = re.compile(r"(/| ± )")


@dataclass(frozen=True)
class Document:
    """The sections of a document; what was compared is taken out of `sections`."""

    path: Path
    sections: list[Section]
    findings: Findings

    def find(self, title: str) -> Section:
        """Return the first section with this title. Raises DataError."""
        for section in self.sections:
            if section.title == title:
                return section
        raise DataError(f"{self.path}: has no section {title!r}")

    def take(self, title: str) -> Section:
        """Return the first section with this title, and leave it out from now on. Raises DataError."""
        section = self.find(title)
        self.sections.remove(section)
        return section

    def take_table(self, title: str, rows: int) -> list[list[str]]:
        """Return the one table under a title, its header first, which must have so many rows. Raises DataError."""
        tables = self.take(title).tables
        if len(tables) != 1:
            raise DataError(f"{self.path}: has {len(tables)} tables under {title!r}, not one")
        if len(tables[0]) != rows + 1:
            raise DataError(f"{self.path}: the table under {title!r} has {len(tables[0]) - 1} rows, not {rows}")
        return tables[0]

    def place(self, header: list[str], column: str, title: str) -> int:
        """Return where a column stands. Raises DataError."""
        if column not in header:
            raise DataError(f"{self.path}: the table under {title!r} has no column {column!r}")
        return header.index(column)

    def has_name(self, where: str, shown: str, name: str) -> bool:
        """Tell whether a row or column is that of a name; note where not, for then its numbers mean something else."""
        letters, of_name = _letters(shown), _letters(name)
        if letters == of_name or (shown.endswith("...") and of_name.startswith(letters)):
            return True
        self.add(where, f"says {shown!r} where {name!r} should stand")
        return False

    def check_number(self, where: str, shown: str, expected: Expected) -> None:
        """Compare the number of a cell, without its mark and what limits it."""
        if expected is None:
            return
        self.findings.table_numbers += (len(expected) + 1) // 2
        parts = BETWEEN_NUMBERS.split(number_of(shown))
        if len(parts) != len(expected) or any(part not in texts for part, texts in zip(parts, expected, strict=True)):
            self.add(where, f"is {shown!r}, its runs give {in_words(expected)}")

    def check_text(self, where: str, shown: str | None, expected: str | None) -> None:
        """Compare a text, None where there is none."""
        self.findings.table_numbers += len(re.findall(r"\d+", expected or ""))
        if shown != expected:
            self.add(where, f"{shown or 'not said'}, it should be {expected or 'not said'}")

    def check_set(self, what: str, shown: set[str], expected: set[str]) -> None:
        """Compare what is listed."""
        if shown != expected:
            self.add(what, f"{_listed(shown)}, it should be {_listed(expected)}")

    def add(self, where: str, problem: str) -> None:
        """Note what does not fit at a place of the document."""
        self.findings.add(self.path, f"{where}: {problem}")


def number_of(shown: str) -> str:
    """Return the number of a cell."""
    return NUMBER_AND_REMARK.fullmatch(shown)[1]


def remark_of(shown: str) -> str:
    """Return what stands in parentheses behind the number of a cell."""
    return NUMBER_AND_REMARK.fullmatch(shown)[2] or ""


def in_words(expected: list[set[str]]) -> str:
    """Return what should stand in a cell."""
    return "".join(" or ".join(sorted(texts)) for texts in expected)


def _letters(text: str) -> str:
    """Return the letters and digits of a text, without what Markdown or a terminal would make of the others."""
    return re.sub(r"\W", "", text)


def _listed(texts: set[str]) -> str:
    return ", ".join(sorted(texts)) or "none"
