"""Write the run.json of one cell: all that the run is, as data."""

import argparse
from pathlib import Path

from gluegrid.errors import run_script
from gluegrid.files import write_text


def main() -> None:
    """Write the given content, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", required=True, help="the JSON text, as Snakemake resolved it")
    parser.add_argument("--run", required=True, type=Path, help="run.json to write")
    arguments = parser.parse_args()
    write_text(arguments.run, arguments.content)


if __name__ == "__main__":
    run_script(main)
