"""What `make doctor` finds, for people: a mark, what it is, and what to do about it; 80 columns."""

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
    """One thing that was looked at. A note or a fault comes with what to do; only faults keep cells from running."""

    mark: str
    what: str
    advice: str = ""

    def lines(self) -> list[str]:
        """Return it for a terminal, harmless whatever SLURM or a file has put into it."""
        texts = [(f"  {self.mark:<{INDENT - 2}}", self.what), (" " * INDENT + "-> ", self.advice)]
        return [line for start, text in texts if text for line in _wrapped(start, text)]


def ok(what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(OK, what)


def note(what: str, advice: str) -> Finding:
    """Return what somebody should know, though cells may run all the same."""
    return Finding(NOTE, what, advice)


def fault(what: str, advice: str) -> Finding:
    """Return what keeps cells from running."""
    return Finding(FAULT, what, advice)


class Report:
    """Tells findings as they are made, by section, and counts them."""

    def __init__(self) -> None:
        self.marks: list[str] = []

    def begin(self, title: str) -> None:
        """Begin a section."""
        print(f"{'' if not self.marks else chr(10)}{title}", flush=True)

    def tell(self, findings: Iterable[Finding]) -> None:
        """Tell some findings. What a check did not expect becomes a note of its own: the others still count."""
        try:
            for finding in findings:
                self.marks.append(finding.mark)
                print(*finding.lines(), sep="\n", flush=True)
        except Exception as error:  # of whatever a site has that nobody has met yet
            unexpected = note(
                f"a check failed: {in_one_line(error)}", "please report this; the others are not affected"
            )
            self.marks.append(unexpected.mark)
            print(*unexpected.lines(), sep="\n", flush=True)

    def summary(self) -> str:
        """Return the last line."""
        faults, notes = self.marks.count(FAULT), self.marks.count(NOTE)
        told = [counted(number, word) for number, word in ((faults, "fault"), (notes, "note")) if number]
        return ", ".join(told) or "all is well"

    @property
    def has_faults(self) -> bool:
        """Whether something was found that keeps cells from running."""
        return FAULT in self.marks


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        one_line(redacted(text)),
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
    )
