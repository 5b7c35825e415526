"""Run snakemake in a controller's job, with the code beside this script (gluegrid/execution/controller.py)."""

import argparse
import sys
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.execution.controller import run

CODE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Carry out a plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True, type=Path, help="the file below heads/ that make submit wrote")
    parser.add_argument("--profile", required=True, help="the folder of the Snakemake profile")
    parser.add_argument("options", nargs="*", help="the options with which sbatch accepted the job")
    arguments = parser.parse_args()
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(CODE / "Snakefile")]
    snakemake += ["--workflow-profile", str(CODE / "profiles/default"), "--profile", arguments.profile]
    raise SystemExit(run(arguments.plan, snakemake, arguments.options))


if __name__ == "__main__":
    run_script(main)
