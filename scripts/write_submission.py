"""Write a model's submission to GLUE: a zip of its test predictions on all tasks, as the server accepts it."""

import argparse
from pathlib import Path

from gluegrid.analysis.glue_submission import lines_about, write_submission
from gluegrid.common.cli import run_script
from gluegrid.experiment.loading import planned_experiment


def main() -> None:
    """Write submission.zip and submission.json of a model of the experiment in a head file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", required=True, type=Path, help="file below results/<experiment>/heads")
    parser.add_argument("--model", required=True, help="alias of the model")
    arguments = parser.parse_args()
    experiment = planned_experiment(arguments.head)
    about = write_submission(experiment, arguments.model)
    print(experiment.paths.submission_zip.format(model=arguments.model), *lines_about(about), sep="\n")


if __name__ == "__main__":
    run_script(main)
