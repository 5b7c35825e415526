"""What a verification compared, and the problems it found."""

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gluegrid.common import escaping
from gluegrid.common.errors import DataError
from gluegrid.common.files import sha256

LONGEST_PROBLEM = 500  # characters
BEFORE = 20  # characters shown of two texts before they differ


class Hashes:
    """The SHA-256 of files; each is read once, however many cells and experiments use it."""

    def __init__(self):
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return a file's SHA-256. Raise DataError if it cannot be read."""
        if path not in self._known:
            try:
                self._known[path] = sha256(path)
            except (OSError, ValueError) as error:  # ValueError: no file can have this name
                raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error
        return self._known[path]


@dataclass
class Findings:
    """The problems of an experiment, one line each, and what was compared to find them."""

    hashes: Hashes
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is outdated, which is no problem
    hashed: dict[Path, int] = field(default_factory=dict)  # file -> bytes
    cells: int = 0
    without_result: list[str] = field(default_factory=list)  # names of cells
    elsewhere: set[Path] = field(default_factory=set)  # manifests of an import's resources, not here
    metrics: int = 0
    table_numbers: int = 0
    made_again: list[Path] = field(default_factory=list)  # other files than results.*, rebuilt and compared
    not_made_again: list[Path] = field(default_factory=list)

    def add(self, path: Path, problem: str) -> None:
        """Add a problem of a file."""
        self._add(f"{path}: {problem}")

    @contextmanager
    def excusing(self, why: Callable[[], str | None]) -> Iterator[None]:
        """Replace the problems found inside with the note that `why` returns, if any."""
        before = len(self.problems)
        yield
        if len(self.problems) > before and (note := why()):
            del self.problems[before:]
            self.notes.append(note)

    def note_earlier_plan(self, folder: Path, cells: Collection[str]) -> None:
        """Note cells whose results belong to values that have changed since."""
        if cells:
            names = escaping.shortened(", ".join(sorted(cells)), LONGEST_PROBLEM)
            self.notes.append(f"{folder}: results of an earlier plan, which snakemake will retrain: {names}")

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Turn a DataError into a problem."""
        try:
            yield
        except DataError as error:
            self._add(str(error))

    def check_hash(self, path: Path, recorded: str, where: str) -> None:
        """Compare a file with its hash in another file, `where`."""
        with self.noting():
            digest = self.hashes.of(path)
            self.hashed[path] = path.stat().st_size
            if digest != recorded:
                self.add(path, f"has the SHA-256 {short(digest)}, in {where} {short(recorded)}")

    def check_hashes(self, path: Path, key: str, actual: dict[str, str], expected: dict[str, str]) -> None:
        """Compare the hashes under a key of a JSON file with the expected ones."""
        for name in sorted({*actual, *expected}):
            if actual.get(name) != expected.get(name):
                problem = f"{key} has {short(actual.get(name))} for {name}, it should be {short(expected.get(name))}"
                self.add(path, problem)

    def _add(self, text: str) -> None:
        line = escaping.shortened(escaping.one_line(text), LONGEST_PROBLEM)
        if line not in self.problems:
            self.problems.append(line)


def short(digest: str | None) -> str:
    """Return the beginning of a hash, enough to tell it from another."""
    return "nothing" if digest is None else f"{digest[:12]}..."


def from_difference(*texts: str) -> list[str]:
    """Return two texts, cut to begin shortly before they differ."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
    start = max(0, sum(1 for _ in same) - BEFORE)
    return [f"...{text[start:]}" if start else text for text in texts]
