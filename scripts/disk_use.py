"""Tell how much of the disk each experiment takes, and each model, data set and set of tokens that they share."""

import argparse
from pathlib import Path

from gluegrid.common.cli import reader_may_leave, run_script
from gluegrid.operations.disk import disk_use


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", help="its name; all experiments when none is given")
    arguments = parser.parse_args()
    with reader_may_leave():
        print(disk_use(Path("results"), Path("resources"), Path(".snakemake"), arguments.experiment))


if __name__ == "__main__":
    run_script(main)
