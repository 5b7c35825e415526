"""Write report.html and table.tex: an experiment's results with figures and the origin of each number."""

import argparse
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.experiment.loading import planned_experiment
from gluegrid.report.write import write_report
from gluegrid.results.outcomes import read_outcomes


def main() -> None:
    """Write the report of the experiment in a head file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", required=True, type=Path, help="file below results/<experiment>/heads")
    arguments = parser.parse_args()
    experiment = planned_experiment(arguments.head)
    write_report(experiment, read_outcomes(experiment))
    print(experiment.paths.report_html, experiment.paths.table_tex, sep="\n")


if __name__ == "__main__":
    run_script(main)
