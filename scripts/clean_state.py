"""Tell what may be deleted without losing a result or work that goes on; with --yes, delete it."""

import argparse
from pathlib import Path

from gluegrid.common.cli import reader_may_leave, run_script
from gluegrid.common.files import size_in_words
from gluegrid.operations.cleanup import delete, find_leftovers


def main() -> None:
    """Tell, and delete if that is wished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", help="its name; all experiments when none is given")
    parser.add_argument("--yes", action="store_true", help="delete what was told")
    arguments = parser.parse_args()
    found = find_leftovers(Path("results"), arguments.experiment)
    size = size_in_words(sum(place.size for place in found))
    with reader_may_leave():
        for place in found:
            print(*place.report(), sep="\n")
        if not arguments.yes:
            print(f"Nothing was deleted. To delete {size}: the same with YES=1")
    if arguments.yes:
        left = delete(found)
        with reader_may_leave():
            print(*left, f"Deleted: {size}" if not left else "Deleted: the rest", sep="\n")


if __name__ == "__main__":
    run_script(main)
