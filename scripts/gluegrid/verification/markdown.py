"""Split results.md into sections, and compare each with what it should say."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gluegrid.common.errors import DataError
from gluegrid.verification.expected_texts import Expected, in_words, matches
from gluegrid.verification.findings import Findings, from_difference

HEADING = re.compile(r"#{1,6} (.*)")
DELIMITER = re.compile(r"\|(\s*:?-+:?\s*\|)+")
COLUMN_END = re.compile(r"(?<!\\)\|")
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")  # a backslash before ASCII punctuation (CommonMark 0.31, section 2.4)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Section:
    """The content under a heading: the rows of its table as cells, the header first, and all other lines."""

    title: str
    rows: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Note:
    """Lines that begin with `prefix`: all their matches of `item` must be one of the sets in `expected`."""

    what: str
    prefix: str
    item: str
    expected: Sequence[set[str]]


@dataclass(frozen=True)
class Part:
    """An expected section. Without `columns` it has no table; the first `names` columns identify a row.

    `lines` are all of its other lines after the first `texts` of them, or None if they are not compared. A part that
    is not clear is not compared and may be missing.
    """

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Expected]] = ()
    notes: Iterable[Note] = ()
    lines: Sequence[Expected] | None = None
    texts: int = 0
    names: int = 1
    is_clear: bool = True


def read_sections(path: Path) -> list[Section]:
    """Return the sections of a document; '' is the title above the first heading. Raise DataError if it is damaged."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text: {error}") from error
    sections = [Section("")]
    for number, line in enumerate(lines, start=1):
        rows = sections[-1].rows
        if heading := HEADING.fullmatch(line):
            sections.append(Section(_unescaped(heading[1])))
        elif not line.startswith("|"):
            sections[-1].lines.append(_unescaped(line))
        elif not DELIMITER.fullmatch(line):
            rows.append([_unescaped(cell.strip()) for cell in COLUMN_END.split(line.strip()[1:].removesuffix("|"))])
            if len(rows[-1]) != len(rows[0]):
                raise DataError(f"{path}: line {number}: has {len(rows[-1])} columns, its table {len(rows[0])}")
    return sections


def _unescaped(text: str) -> str:
    """Return a text without its Markdown backslash escapes."""
    return ESCAPED.sub(r"\1", text)


class Document:
    """The sections of a document that have not been compared yet."""

    def __init__(self, path: Path, findings: Findings):
        self.path = path
        self.findings = findings
        self.sections = read_sections(path)

    def take(self, title: str) -> Section:
        """Remove and return the first section with this title. Raise DataError if there is none."""
        for number, section in enumerate(self.sections):
            if section.title == title:
                return self.sections.pop(number)
        raise DataError(f"{self.path}: has no section {title!r}")

    def compare(self, part: Part) -> None:
        """Report where a section differs from what it should be. Raise DataError if it is missing."""
        if not part.is_clear and all(section.title != part.title for section in self.sections):
            return
        section = self.take(part.title)
        if part.is_clear:
            for note in part.notes:
                self._compare_note(section.lines, note)
            if part.lines is not None:
                self._compare_lines(section, part.title, part.lines, part.texts)
            self._compare_table(section, part)

    def note_what_is_left(self) -> None:
        """Report tables that belong to no part of the experiment."""
        for section in self.sections:
            self._compare_table(section, Part(section.title))

    def _compare_note(self, lines: list[str], note: Note) -> None:
        said = {item for line in lines if line.startswith(note.prefix) for item in re.findall(note.item, line)}
        self._count_numbers(",".join(note.expected[0]))
        if said not in note.expected:
            self._add(note.what, f"it says {_listed(said)}, the runs give {_listed(note.expected[0])}")

    def _compare_lines(self, section: Section, title: str, lines: Sequence[Expected], texts: int) -> None:
        """Report lines that are missing, and lines that do not follow from the runs."""
        shown = list(filter(None, section.lines))[texts:]
        missing = [line for line in lines if not any(matches(text, line) for text in shown)]
        forged = [text for text in shown if not any(matches(text, line) for line in lines)]
        for line in lines:
            self._count_numbers(in_words(line))
        for line in missing:
            self._add(title, f"lacks the line {in_words(line)!r}")
        for text in forged:
            self._add(title, f"has the line {text!r}, which does not follow from the runs")
        if not (missing or forged) and not _are_in_order(shown, lines):
            self._add(title, "has its notes twice or in another order")

    def _compare_table(self, section: Section, part: Part) -> None:
        header, *rows = section.rows or [[]]
        table = f"the table under {part.title!r}"
        if not part.columns and header:
            self.findings.add(self.path, f"{table} belongs to nothing in the experiment")
        elif header != [*part.columns]:
            self._add(
                f"{part.title}, columns", f"{', '.join(header) or 'none'}, it should be {', '.join(part.columns)}"
            )
        elif len(rows) != len(part.rows):
            self.findings.add(self.path, f"{table} has {len(rows)} rows, not {len(part.rows)}")
        else:
            for row, expected in zip(rows, part.rows, strict=True):
                self._compare_row(part, row, expected)

    def _compare_row(self, part: Part, row: list[str], expected: Sequence[Expected]) -> None:
        where = ", ".join([part.title, *map(in_words, expected[: part.names])])
        for number, (column, shown, right) in enumerate(zip(part.columns, row, expected, strict=True)):
            self._count_numbers(in_words(right))
            if matches(shown, right):
                continue
            if number < part.names:  # the row is another one, so its numbers mean something else
                self._add(where, f"says {shown!r} where {in_words(right)!r} should stand")
                return
            shown, right = from_difference(shown, in_words(right))
            self._add(f"{where}, {column}", f"is {shown!r}, its runs give {right or 'nothing'}")

    def _add(self, where: str, problem: str) -> None:
        self.findings.add(self.path, f"{where}: {problem}")

    def _count_numbers(self, expected: str) -> None:
        self.findings.table_numbers += len(NUMBER.findall(expected))


def _are_in_order(shown: Sequence[str], lines: Sequence[Expected]) -> bool:
    return len(shown) == len(lines) and all(map(matches, shown, lines))


def _listed(texts: set[str]) -> str:
    return ", ".join(sorted(texts)) or "none"
