"""Write an experiment into one file: results, predictions, records, config and tables, but no weights."""

import argparse
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.sharing.archive import SUFFIX
from gluegrid.sharing.exporting import export_experiment


def main() -> None:
    """Export the experiment that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", help="its name")
    parser.add_argument("--file", type=Path, help=f"where to; <experiment>{SUFFIX} without it")
    arguments = parser.parse_args()
    file = arguments.file or Path(f"{arguments.experiment}{SUFFIX}")
    print(*export_experiment(Path("results"), arguments.experiment, file), sep="\n")


if __name__ == "__main__":
    run_script(main)
