"""Write results.md, results.csv and results.json from the results there are, with the reasons for missing ones."""

import argparse
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.experiment.loading import planned_experiment
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.results_md import write_tables


def main() -> None:
    """Write the tables of the experiment in a head file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", required=True, type=Path, help="file below results/<experiment>/heads")
    arguments = parser.parse_args()
    experiment = planned_experiment(arguments.head)
    print(write_tables(experiment, read_outcomes(experiment)))


if __name__ == "__main__":
    run_script(main)
