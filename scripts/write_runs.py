"""Write the run.json of some cells, each of which defines its run completely."""

import argparse
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.experiment.loading import planned_experiment
from gluegrid.workflow.run_files import write_runs


def main() -> None:
    """Write the files, each atomically."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", required=True, type=Path, help="file below results/<experiment>/heads")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run.json to write")
    arguments = parser.parse_args()
    write_runs(planned_experiment(arguments.head), arguments.runs)


if __name__ == "__main__":
    run_script(main)
