"""The findings of `make doctor`, as printed: a mark, what was found, and what to do about it, in 80 columns."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from gluegrid.common.errors import in_one_line
from gluegrid.common.escaping import one_line, redacted
from gluegrid.common.formatting import counted

OK, NOTE, FAULT = "ok", "note", "FAULT"
WIDTH = 80
INDENT = 8


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. Notes and faults come with advice; only faults keep cells from running."""

    mark: str
    what: str
    advice: str = ""

    def lines(self) -> list[str]:
        """Return the lines to print, with control characters from SLURM or files escaped and passwords redacted."""
        texts = [(f"  {self.mark:<{INDENT - 2}}", self.what), (" " * INDENT + "-> ", self.advice)]
        return [line for start, text in texts if text for line in _wrapped(start, text)]


def ok(what: str) -> Finding:
    """Return a finding that all is as it should be."""
    return Finding(OK, what)


def note(what: str, advice: str) -> Finding:
    """Return a finding that people should know of but that does not keep cells from running."""
    return Finding(NOTE, what, advice)


def fault(what: str, advice: str) -> Finding:
    """Return a finding that keeps cells from running."""
    return Finding(FAULT, what, advice)


class Report:
    """Print findings by section as they come in, and count them."""

    def __init__(self) -> None:
        self.marks: list[str] = []

    def begin(self, title: str) -> None:
        """Print the title of a section."""
        print(f"{'' if not self.marks else chr(10)}{title}", flush=True)

    def tell(self, findings: Iterable[Finding]) -> None:
        """Print some findings. A check that raises becomes a note, and the remaining checks still run."""
        try:
            for finding in findings:
                self.marks.append(finding.mark)
                print(*finding.lines(), sep="\n", flush=True)
        except Exception as error:  # sites differ in ways that nobody has met yet
            unexpected = note(
                f"a check failed: {in_one_line(error)}", "please report this; the other checks are not affected"
            )
            self.marks.append(unexpected.mark)
            print(*unexpected.lines(), sep="\n", flush=True)

    def summary(self) -> str:
        """Return the last line."""
        faults, notes = self.marks.count(FAULT), self.marks.count(NOTE)
        told = [counted(number, word) for number, word in ((faults, "fault"), (notes, "note")) if number]
        return ", ".join(told) or "no problems found"

    @property
    def has_faults(self) -> bool:
        """Whether anything found keeps cells from running."""
        return FAULT in self.marks


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        one_line(redacted(text)),
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
    )
