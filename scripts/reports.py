"""Make the tables and reports of an experiment from the results there are, without snakemake: also of an import."""

import argparse
import subprocess
import sys
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.common.errors import GluegridError
from gluegrid.experiment.experiment_index import experiment_folders, newest_invocation

SCRIPTS = ("results", "parity_table", "compare", "report")  # each takes --head, as in the rule of its name


def main() -> None:
    """Make all of the experiment that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", help="its name")
    arguments = parser.parse_args()
    (folder,) = experiment_folders(Path("results"), arguments.experiment)
    head = newest_invocation(folder)
    if head is None:
        raise GluegridError(f"{folder}: no call of snakemake has begun this experiment")
    for name in SCRIPTS:
        script = Path(__file__).with_name(f"{name}.py")
        if subprocess.run([sys.executable, script, "--head", head], stdout=subprocess.DEVNULL).returncode != 0:
            raise GluegridError(f"{script.name}: failed; what it says stands above")
    print(f"Made anew below {folder}: {', '.join(SCRIPTS)}")


if __name__ == "__main__":
    run_script(main)
