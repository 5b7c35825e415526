"""Say what a call of snakemake would train, why, and what it costs, before anything runs."""

import argparse
from pathlib import Path

from gluegrid.common.cli import reader_may_leave, run_script
from gluegrid.experiment.loading import load_experiment
from gluegrid.operations.estimates import estimates_of
from gluegrid.operations.plan import plan
from gluegrid.operations.plan_text import MOST_LINES, plan_text


def main() -> None:
    """Print the plan of an experiment file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"), help="the experiment file")
    parser.add_argument("--experiment", help="another name for the experiment than the file's own")
    parser.add_argument("--gpus", type=int, help="how long on this many GPUs; without it, on 1, 2, 4, ...")
    parser.add_argument("--device", default="", help="part of a device's name, to use only what was measured of it")
    parser.add_argument("--all", action="store_true", help="a line for everything, however long the table")
    arguments = parser.parse_args()
    experiment = load_experiment(arguments.configfile, arguments.experiment)
    estimates, problem = estimates_of(experiment, arguments.device)
    text = plan_text(plan(experiment, estimates), arguments.gpus, None if arguments.all else MOST_LINES)
    with reader_may_leave():
        for warning in (*experiment.warnings, *([problem] if problem else [])):
            print(f"warning: {warning}")
        print(text)


if __name__ == "__main__":
    run_script(main)
