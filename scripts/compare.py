"""Compare every two models of an experiment, from the results there are: write comparisons.md and comparisons.json."""

import argparse
from pathlib import Path

from gluegrid.analysis.bootstrap import RESAMPLES
from gluegrid.analysis.comparison_report import write_comparisons
from gluegrid.analysis.comparisons import compare
from gluegrid.common.cli import run_script
from gluegrid.experiment.loading import planned_experiment
from gluegrid.results.outcomes import read_outcomes


def main() -> None:
    """Compare the models of the experiment in a head file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", required=True, type=Path, help="file below results/<experiment>/heads")
    parser.add_argument(
        "--resamples", type=int, default=RESAMPLES, help=f"number of resamples, at least (default {RESAMPLES:,})"
    )
    arguments = parser.parse_args()
    experiment = planned_experiment(arguments.head)
    print(write_comparisons(experiment, compare(experiment, read_outcomes(experiment), arguments.resamples)))


if __name__ == "__main__":
    run_script(main)
