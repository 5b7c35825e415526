"""Compare the results there are with the references: write parity.md and parity.json."""

import argparse
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.experiment.loading import planned_experiment
from gluegrid.results.outcomes import read_outcomes
from gluegrid.results.parity_report import write_parity


def main() -> None:
    """Write the verdicts on the experiment in a head file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", required=True, type=Path, help="file below results/<experiment>/heads")
    arguments = parser.parse_args()
    experiment = planned_experiment(arguments.head)
    print(write_parity(experiment, read_outcomes(experiment)))


if __name__ == "__main__":
    run_script(main)
