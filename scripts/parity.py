"""Show the verdicts of a parity.json, and fail if a result is below a reference."""

import argparse
from pathlib import Path

from gluegrid.common.cli import run_script
from gluegrid.common.errors import ParityError
from gluegrid.common.files import read_json
from gluegrid.results.parity_report import below, parity_in_terminal


def main() -> None:
    """Print the table of verdicts. Raise ParityError with the cells that are below their references."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", required=True, type=Path, help="parity.json")
    arguments = parser.parse_args()
    content = read_json(arguments.verdicts)
    print(parity_in_terminal(content), flush=True)
    if lines := below(content):
        raise ParityError("\n".join([f"{len(lines)} below their references; {arguments.verdicts} has all:", *lines]))


if __name__ == "__main__":
    run_script(main)
