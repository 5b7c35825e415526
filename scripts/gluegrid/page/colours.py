"""The colours of the figures: stand-ins while matplotlib draws, variables of the page's style sheet in the end.

So that one figure follows the reader's light or dark. What the variables hold stands in style.css; the series are those
of Okabe and Ito (2008), Color universal design, which people with any kind of colour vision tell apart.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0001{number:02x}" for number in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number + 1}" for number, colour in enumerate(SERIES)
}
STAND_IN = re.compile("|".join(VARIABLES))


@dataclass(frozen=True)
class Style:
    """How a model is drawn everywhere in the report."""

    colour: str
    marker: str


OTHER = Style(MUTED, "o")


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Return a style of its own for each of at most eight names."""
    return {name: Style(*look) for name, look in zip(names, zip(SERIES, MARKERS, strict=True), strict=False)}


def with_variables(style: str) -> str:
    """Return the style of an element with variables in place of the stand-ins."""
    return STAND_IN.sub(lambda found: f"var({VARIABLES[found[0]]})", style)
