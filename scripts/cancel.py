"""Cancel one cell that is queued or running; the running call of snakemake does not try it again."""

import argparse

from gluegrid.common.cli import run_script
from gluegrid.operations.cancel import cancel_cell


def main() -> None:
    """Cancel the cell that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell", help="<model>/<task>/base/seed-<seed>, as below results/<experiment>/runs")
    parser.add_argument("--experiment", help="its name; not needed where only one has this cell")
    arguments = parser.parse_args()
    print(cancel_cell(arguments.cell.strip("/"), arguments.experiment or None))


if __name__ == "__main__":
    run_script(main)
