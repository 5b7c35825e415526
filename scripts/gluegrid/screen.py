"""A terminal, or a pipe, on which a text is shown again and again."""

import os
import shutil
import sys

from gluegrid.status_text import Paper

HOME, CLEAR_LINE, CLEAR_BELOW, CLEAR_ALL = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


class Screen:
    """Standard output: a terminal is drawn anew in its place, to a pipe one text follows the other."""

    def __init__(self):
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._is_drawn = False

    def paper(self, share: float | None = None) -> Paper:
        """Return what a text has room on; `share` of the terminal's height, or None where it may be longer."""
        if not self.is_terminal:
            return Paper()
        columns, lines = shutil.get_terminal_size()
        height = None if share is None else max(int(lines * share) - 1, 1)
        # https://no-color.org
        return Paper(columns, height, colours=not os.environ.get("NO_COLOR"))

    def draw(self, text: str) -> None:
        """Show a text in place of the one before."""
        if self.is_terminal:
            text = HOME + text.replace("\n", f"{CLEAR_LINE}\n") + CLEAR_LINE + CLEAR_BELOW
            text = text if self._is_drawn else CLEAR_ALL + text
        elif self._is_drawn:
            text = "\n" + text
        self._is_drawn = True
        print(text, flush=True)
