"""Make one experiment of the archives of several clones, to be compared and verified like one that was run here."""

import argparse
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.sharing.importing import import_archives


def main() -> None:
    """Import the archives that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", help="the name that it gets below results/")
    parser.add_argument("files", nargs="+", metavar="FILE", help="archive of `make export`, or label=archive")
    arguments = parser.parse_args()
    print(*import_archives(Path("results"), arguments.experiment, arguments.files), sep="\n")


if __name__ == "__main__":
    run_script(main)
