"""Check an experiment's results: recompute metrics, hashes and the tables' numbers, and say what does not fit."""

import argparse
from pathlib import Path

from gluegrid.common.cli import reader_may_leave, run_script
from gluegrid.verification.findings import Hashes
from gluegrid.verification.verify import experiment_folders, summary, verify_experiment


def main() -> None:
    """Verify the experiments that the arguments name; exit code 1 when anything does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "experiments", nargs="*", metavar="experiment", help="its name; all experiments when none is given"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the experiments (results)")
    arguments = parser.parse_args()
    everything_fits = False
    with reader_may_leave():
        everything_fits = verify(experiment_folders(arguments.results, arguments.experiments))
    raise SystemExit(0 if everything_fits else 1)


def verify(folders: list[Path]) -> bool:
    """Verify experiments, say what was found, and return whether everything fits."""
    hashes = Hashes()
    problems: dict[str, None] = {}  # without repetitions: experiments share resources
    for folder in folders:
        print(f"{folder}:", flush=True)
        findings = verify_experiment(folder, hashes)
        print(*summary(findings), sep="\n", flush=True)
        problems |= dict.fromkeys(findings.problems)
    for problem in problems:
        print(problem)
    print(last_line(len(problems)))
    return not problems


def last_line(problems: int) -> str:
    """Return the verdict."""
    if problems == 0:
        return "verified: everything fits"
    return "1 thing does not fit" if problems == 1 else f"{problems} things do not fit"


if __name__ == "__main__":
    run_script(main)
