"""Say where each cell is: done, running, queued, failed or not begun; and when the rest may be done."""

import argparse
import time
from contextlib import suppress
from pathlib import Path

from gluegrid.common.cli import reader_may_leave, run_script
from gluegrid.operations.status import Observer, experiments, look
from gluegrid.operations.status_text import Screen, status_text

SECONDS_BETWEEN_LOOKS = 5


def main() -> None:
    """Show the experiments that the arguments name, once or until all is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", help="its name; all experiments without one")
    parser.add_argument("--watch", action="store_true", help="show it again every few seconds, until Ctrl-C")
    arguments = parser.parse_args()
    observers = [Observer(folder) for folder in experiments(Path("results"), arguments.experiment)]
    with reader_may_leave():
        show(observers, arguments.watch)


def show(observers: list[Observer], watch: bool) -> None:
    """Show where the cells of some experiments are; with `watch` again and again, until all is done or Ctrl-C."""
    screen = Screen()
    with suppress(KeyboardInterrupt):
        while True:
            snapshots = look(observers)
            paper = screen.paper(1 / len(snapshots) if watch else None)
            text = "\n\n".join(status_text(snapshot, paper) for snapshot in snapshots)
            if not watch:
                print(text)
                return
            screen.draw(text)
            if all(snapshot.is_final for snapshot in snapshots):
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


if __name__ == "__main__":
    run_script(main)
