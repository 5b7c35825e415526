"""Draw docs/architecture.svg from the code: packages as floors, their modules as rooms, and who imports from whom.

The order of the packages and their imports come from tests/test_layers.py, which checks them.
"""

import sys
from html import escape
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from test_layers import LIGHT, MODULES, PACKAGES, own_and_others, package_of

PICTURE = Path(__file__).with_name("architecture.svg")
WIDTH, MARGIN, NAMES, CELL = 1210, 16, 118, 19  # pixels
MATRIX = CELL * len(PACKAGES) + 36  # with room for the slanted names of its columns
ROOMS_FROM, ROOMS_TO = MARGIN + NAMES, WIDTH - MARGIN - MATRIX - 24
ROOM_HEIGHT, GAP, PER_CHARACTER = 24, 6, 7.1
LIGHT_COLOUR, HEAVY_COLOUR, INK, FAINT = "#e3eef9", "#f9e6d2", "#1f2933", "#8a97a6"

Rows = list[list[str]]


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(drawn(), encoding="utf-8")


def drawn() -> str:
    """Return the picture as SVG, the ground floor at the bottom."""
    floors = {package: _rows(_rooms(package)) for package in reversed(PACKAGES)}
    parts, top = [*_heads_of_columns()], 3 * MARGIN + 84
    for package, rows in floors.items():
        height = len(rows) * (ROOM_HEIGHT + GAP) + GAP
        parts += _floor(package, rows, top, height)
        top += height
    parts += _legend(top + 22)
    size = f'width="{WIDTH}" height="{top + 40}" viewBox="0 0 {WIDTH} {top + 40}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top + 40}" fill="white"/>', *parts, "</svg>\n"])


def _rooms(package: str) -> list[str]:
    return [module.split(".")[1] for module in MODULES if package_of(module) == package]


def _rows(rooms: list[str]) -> Rows:
    """Return the rooms of a floor in as many rows as their names need."""
    rows: Rows = [[]]
    for room in rooms:
        if rows[-1] and sum(map(_width, [*rows[-1], room])) + GAP * len(rows[-1]) > ROOMS_TO - ROOMS_FROM:
            rows.append([])
        rows[-1].append(room)
    return rows


def _width(room: str) -> float:
    return len(room) * PER_CHARACTER + 14


def _floor(package: str, rows: Rows, top: int, height: int) -> list[str]:
    line = f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{top + height}" y2="{top + height}" stroke="#d5dbe1"/>'
    parts = [line, _text(MARGIN, top + height / 2 + 5, package, 'font-weight="bold" font-size="14"')]
    colour = LIGHT_COLOUR if package in LIGHT else HEAVY_COLOUR
    for number, row in enumerate(rows):
        left, y = ROOMS_FROM, top + GAP + number * (ROOM_HEIGHT + GAP)
        for room in row:
            box = f'x="{left:.0f}" y="{y}" width="{_width(room):.0f}" height="{ROOM_HEIGHT}"'
            parts += [f'<rect {box} rx="4" fill="{colour}" stroke="#b8c4d0"/>', _text(left + 7, y + 16, room)]
            left += _width(room) + GAP
    middle = top + height / 2
    for other in sorted(_imports(package)):
        parts.append(f'<circle cx="{_column(other)}" cy="{middle:.0f}" r="5" fill="{INK}"/>')
    parts.append(f'<circle cx="{_column(package)}" cy="{middle:.0f}" r="4.5" fill="white" stroke="{FAINT}"/>')
    return parts


def _imports(package: str) -> set[str]:
    modules = [module for module in MODULES if package_of(module) == package]
    return {package_of(other) for module in modules for other in own_and_others(module)[0]} - {package}


def _column(package: str) -> int:
    return WIDTH - MARGIN - MATRIX + list(PACKAGES).index(package) * CELL + CELL // 2


def _heads_of_columns() -> list[str]:
    title = 'font-weight="bold" font-size="18"'
    parts = [_text(MARGIN, 2 * MARGIN + 6, "gluegrid: a package imports only from the floors below it", title)]
    parts.append(
        _text(MARGIN, 2 * MARGIN + 30, f"{len(MODULES)} modules in {len(PACKAGES)} packages", f'fill="{FAINT}"')
    )
    y = 3 * MARGIN + 78
    for package in PACKAGES:
        x = _column(package) + 4
        parts.append(_text(x, y, package, f'transform="rotate(-60 {x} {y})"'))
    return parts


def _legend(y: int) -> list[str]:
    parts, left = [], ROOMS_FROM
    for colour, words in (
        (LIGHT_COLOUR, "loads no heavy library"),
        (HEAVY_COLOUR, "loads torch, pyarrow, numpy or matplotlib"),
    ):
        parts += [f'<rect x="{left}" y="{y - 11}" width="14" height="14" rx="3" fill="{colour}" stroke="#b8c4d0"/>']
        parts += [_text(left + 20, y, words)]
        left += 220
    return [*parts, _text(_column("common") - 8, y, "\N{BLACK CIRCLE} imports from this package", f'fill="{INK}"')]


def _text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{INK}" {style}>{escape(words)}</text>'.replace(
        f'fill="{INK}" fill', "fill"
    )


if __name__ == "__main__":
    main()
