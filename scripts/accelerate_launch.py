"""`accelerate launch`, with its arguments: accelerate's own program, without its other commands, imported quickly.

On a machine of several GPUs it first leases those of the cell.
"""

import sys

from gluegrid.cell_gpus import lease_gpus_of_cell
from gluegrid.errors import run_script
from gluegrid.quick_imports import quick_imports


def main() -> None:
    """Launch what the command line says."""
    lease_gpus_of_cell(sys.argv[1:])
    with quick_imports():
        from accelerate.commands.launch import main as launch
    launch()


if __name__ == "__main__":
    run_script(main)
